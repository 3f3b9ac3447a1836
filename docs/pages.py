"""What docs/targets/ and docs/devices/ say of each target and device from its registration; see docs/tables.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from benchmarks.coverage import MARKS, shown
from pipeline.core.device import Device
from pipeline.core.rules import Rule, Rules
from pipeline.core.target import Target

PARTITIONS = {
    "all": "every piece of the graph that it takes is accelerated",
    "largest": "the largest piece of the graph that it takes is accelerated, the rest stays on the CPU",
    "first": "the first piece of the graph that it takes is accelerated, all behind it stays on the CPU",
    "whole": "the whole graph or nothing",
}


def code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)])


def target_facts(target: Target) -> str:
    selectors = [f"{target.name}:{name}" for name in (*map(str, target.levels), *target.configurations, *target.socs)]
    rows = [
        ("what", target.title),
        ("weights", code((target.weights, *target.other_weights)) + " (`--weights`)" * bool(target.other_weights)),
        ("input types, the default first (`--io`)", code(target.io)),
    ]
    if selectors:
        rows.append(("variants", code(selectors)))
    if target.compile is not None:
        rows.append(
            ("its compiler writes", code((f"*{target.compiled_suffix}", *(f"*{s}" for s in target.companions))))
        )
    answers = "its own compiler or runtime, where it is installed, and its rules" if target.ask else "its rules alone"
    rows.append(("`inspect` asks", answers))
    if target.exact_mask:
        rows.append(("`--output mask`", "logits at stride 8, and C code beside the file that makes the exact mask"))
    if target.aliases:
        rows.append(("also called", ", ".join(target.aliases)))
    blocks = [table(("", ""), rows)]
    replacements = [(code(rewrite.ops), rewrite.how, "") for rewrite in target.rewrites]
    replacements += [
        (code(each.ops), each.how, f"only with `--approximate {each.name}`") for each in target.approximations
    ]
    if replacements:
        blocks.append("What `convert` replaces for it:\n\n" + table(("op", "into", ""), replacements))
    if target.rules is not None:
        blocks.append(_taken(target.rules))
    return "\n\n".join(blocks)


def _taken(rules: Rules) -> str:
    """The ops that it takes, grouped by the types of their activations, and what holds for all."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, rule in rules.ops.items():
        groups.setdefault((code(rule.reads), code(rule.writes) if rule.writes else ""), []).append(_op(name, rule))
    rows = [(", ".join(sorted(names)), reads, writes or "the same") for (reads, writes), names in groups.items()]
    lines = [f"Partitions: {PARTITIONS[rules.partitions]}."]
    if rules.refuses_newer:
        lines.append("An op of a newer version than the one given ends its compiler.")
    if rules.cache_bytes:
        lines.append(f"On-chip memory for parameters: {rules.cache_bytes:,} bytes; what is beyond streams each time.")
    if rules.caveat:
        lines.append(f"{rules.caveat}.")
    head = ("op (◦: under conditions, which `inspect` names; ≤ n: the newest version)", "reads", "writes")
    listed = "The operators that it accelerates; it leaves every other one to the CPU or refuses it:"
    return f"{listed}\n\n{table(head, rows)}\n\n{' '.join(lines)} Source of the list: {rules.source}."


def _op(name: str, rule: Rule) -> str:
    version = f" ≤ {rule.max_version}" if rule.max_version else ""
    return f"{name}{version}{' ◦' if rule.checks or rule.fatal_checks else ''}"


def target_coverage(name: str, columns: Callable[[str], dict[str, Any]]) -> str:
    """``columns``: output → network and size → target → entry of results/coverage.json."""
    logits, masks = columns("logits"), columns("mask")
    rows = []
    for network, entries in logits.items():
        cells = []
        for entry in (entries.get(name), masks.get(network, {}).get(name)):
            cells.append("" if entry is None else shown(entry["coverage"]) + MARKS[entry["rules_say_the_same"]])
        rows.append((network, *cells))
    return table(("network", "logits", "mask in the file"), rows)


def device_facts(device: Device) -> str:
    named = f"`--device {device.name}{device.selector_help}`"
    ranks = {True: "taken by `--device best` where it is attached, the highest first", False: "only by its name"}
    rows = [
        ("what", device.title),
        ("named", named),
        ("rank", f"{device.rank}: {ranks[device.rank >= 0]}"),
        ("compiled files that it runs", f"of {code(device.runs_compiled)}" if device.runs_compiled else "none"),
        ("mask in C within the timed inference", "yes" if device.makes_masks else "no"),
    ]
    if device.aliases:
        rows.append(("also called", ", ".join(device.aliases)))
    return table(("", ""), rows)


def generated(columns: Callable[[str], dict[str, Any]]) -> dict[str, Callable[[], str]]:
    """Name of a table → what writes it, for every registered target and device."""
    from pipeline.devices import devices
    from pipeline.targets import targets

    tables: dict[str, Callable[[], str]] = {}
    for target in targets().values():
        tables[f"target-{target.name}"] = partial(target_facts, target)
        tables[f"coverage-{target.name}"] = partial(target_coverage, target.name, columns)
    for device in devices().values():
        tables[f"device-{device.name}"] = partial(device_facts, device)
    return tables
