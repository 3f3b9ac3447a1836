"""Compares networks that are trained alike: accuracy in float and in int8, size, latency, memory, time of a step.

    python -m benchmarks.networks camvid:DIR [--size 192x256] [--alpha 1] [--steps 1800] [--batch 4] [--seed 0]

Each network is trained, converted and measured by the commands of cli.py, in a run of its own in runs/networks/. Then
all their files are timed in turns, so that their ratios hold on a machine whose speed changes. Interrupt it, and repeat
the command to go on. The result is added to results/networks.json. With fewer than 500 steps no accuracy is kept.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

import models
from pipeline.core.device import RunnerOptions
from pipeline.core.files import write_atomically
from pipeline.core.run import open_run
from pipeline.devices import connect
from pipeline.measure.timing import Protocol, latency_of, measure, ratio_of

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "networks.json"
NETWORKS = ("fcn8", "fastfcn8", "fast-scnn")
FEWEST_STEPS = 500
KEY = ("size", "alpha", "steps", "batch", "seed")
KINDS = {"float": "parent", "int8": "artifact"}
"""Kind of file → its name in what `bench` writes."""
PROTOCOL = Protocol("networks", runs=30, seconds=60.0)


def command(*arguments: object) -> int:
    """Runs cli.py; returns the peak of its memory, in bytes."""
    click.echo(f"$ python cli.py {' '.join(map(str, arguments))}", err=True)
    process = subprocess.Popen([sys.executable, ROOT / "cli.py", *map(str, arguments)])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise click.ClickException(f"cli.py ended with {process.returncode}")
    return usage.ru_maxrss * 1024


def trained(run: Path, network: str, data: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Trains the network in the run; returns the time of a step and the peak of the memory."""
    note = run.parent / f"{run.name}.json"
    options = [x for name in KEY for x in (f"--{name}", settings[name])]
    if not note.exists():
        peak = command("train", "--run", run, "--model", network, "--data", data, *options)
        note.write_text(json.dumps({"training_peak_memory_bytes": peak}))
    result = json.loads((run / "float" / "result.json").read_text())
    return {"step_seconds": result["step_seconds"], **json.loads(note.read_text())}


def measured(run: Path) -> dict[str, Any]:
    """Converts the run's network and measures its float and its int8 file."""
    if not (run / "artifacts" / "cpu").exists():
        command("convert", "--run", run, "--target", "cpu", "--method", "ptq")
    file = run / "networks.json"
    if not file.exists():
        command("bench", "--run", run, "--target", "cpu", "--json", file)
    return json.loads(file.read_text())  # type: ignore[no-any-return]


def in_turns(files: dict[str, Path]) -> dict[str, Any]:
    """Latency of each file on this machine, one thread, and its ratio to the first file's."""
    device = connect("host")
    try:
        runners = [device.open(file, RunnerOptions()) for file in files.values()]
        timed = measure(runners, PROTOCOL)
        rows = {}
        for name, runner, each in zip(files, runners, timed, strict=True):
            latency = latency_of(each, runner, 1)
            rows[name] = {
                "median_ms": latency.median_ms,
                "min_ms": latency.min_ms,
                "runs": latency.runs,
                "times_first": dataclasses.asdict(ratio_of(each, timed[0])),
            }
            runner.close()
        return {"machine": device.describe(), "threads": 1, "starts": PROTOCOL.starts, "files": rows}
    finally:
        device.close()


def row_of(run: Path, network: str, data: str, settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Path]]:
    """One network's figures, and its files by kind."""
    training = trained(run, network, data, settings)
    bench = measured(run)
    weights = models.build(open_run(run).config.model).trainable_weights
    row: dict[str, Any] = {"parameters": sum(int(each.shape.num_elements()) for each in weights), **training}
    files: dict[str, Path] = {}
    for kind, which in KINDS.items():
        row[kind] = {name: bench[which][name] for name in ("size_bytes", "peak_memory_bytes")}
        if settings["steps"] >= FEWEST_STEPS:
            row[kind]["miou_percent"] = bench[which]["score"]["miou_percent"]
        files[f"{network} {kind}"] = run / bench[which]["file"]
    return row, files


@click.command()
@click.argument("data")
@click.option("--size", default="192x256", show_default=True, metavar="HEIGHTxWIDTH")
@click.option("--alpha", type=float, default=1.0, show_default=True, help="Width multiplier.")
@click.option("--steps", type=click.IntRange(1), default=1800, show_default=True)
@click.option("--batch", type=click.IntRange(1), default=4, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--only", multiple=True, type=click.Choice(NETWORKS), help="Prepare this network alone; keep no result.")
def main(data: str, only: tuple[str, ...], **settings: Any) -> None:
    """Trains, converts and measures the three networks on DATA."""
    rows: dict[str, Any] = {}
    files: dict[str, Path] = {}
    for network in only or NETWORKS:
        name = "-".join(re.sub(r"[^\w.]", "", str(settings[key])) for key in KEY)
        run = Path("runs/networks") / f"{network}-{name}"
        run.parent.mkdir(parents=True, exist_ok=True)
        rows[network], paths = row_of(run, network, data, settings)
        files |= paths
    if only:
        return
    result = {**settings, "data": data.partition(":")[0], "networks": rows, "latency": in_turns(files)}
    before = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    kept = [each for each in before if any(each[name] != settings[name] for name in KEY)]
    write_atomically(RESULTS, (json.dumps([*kept, result], indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
