"""What every target makes of our networks at the sizes that people run: python benchmarks/coverage.py

Random weights and the ranges of one random image (few verdicts depend on them: XNNPACK's additions); converted and
rewritten as `convert` does it, then inspected, by each target's own compiler where it is on this machine. Writes
results/coverage.json, goes on where it was interrupted, and prints a table: ops accelerated of all, share of the
multiply-accumulates, partitions, bytes that cross between them; ✓ where the compiler said so, and the rules the same.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

CASES = [
    ("fast-scnn", "360x480", 1.0),
    ("fastfcn8", "360x480", 1.0),
    ("fcn8", "360x480", 1.0),
    ("fast-scnn", "512x1024", 1.0),
    ("fast-scnn", "1024x2048", 1.0),
]
"""Network, size, width multiplier."""
CLASSES = {"360x480": 11, "512x1024": 19, "1024x2048": 19}
"""CamVid's and Cityscapes'."""
MARKS = {None: "", True: " ✓", False: " (the rules differ)"}


def network(name: str, size: str, alpha: float, classes: int) -> tuple[Any, Any]:
    """The network and its ranges."""
    import tf_keras

    import models
    from calib.ranges import measure
    from pipeline.core.spec import ModelSpec
    from pipeline.quantize.plan import plan

    tf_keras.utils.set_random_seed(0)
    height, width = map(int, size.split("x"))
    model = models.build(ModelSpec(name, height, width, classes, alpha))
    planned = plan(model)
    image = np.random.default_rng(0).integers(0, 256, (1, height, width, 3)).astype(np.float32) / np.float32(255)
    for layer in model.layers:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(image, training=True)  # statistics of its own activations, so that ranges are those of a network that works
    return model, planned.share(measure(model, planned.points, lambda: iter([image])))


def row(data: bytes, target: Any, ask: bool) -> dict[str, Any]:
    """One target's answer to one file."""
    from pipeline.measure.inspect import inspect
    from pipeline.rewrites.apply import rewrite

    new, applied = rewrite(data, target)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "network.tflite"
        file.write_bytes(new)
        seen = inspect(file, target, ask)
    verdicts = seen.real or seen.verdicts
    reasons = {v.op: v.reason for v in seen.verdicts}
    return {
        "coverage": dataclasses.asdict(seen.real_coverage or seen.coverage),
        "rules_say_the_same": None if seen.real is None else not seen.disagreements,
        "note": seen.real_note,
        "file_bytes": len(new),
        "estimates": seen.estimates,
        "rewritten": [f"{a.op} {a.output.split('/')[-2]}: {a.rewrite}" for a in applied],
        "left": [
            {"op": seen.ops[v.op][0], "tensor": seen.ops[v.op][1], "why": v.reason or reasons[v.op]}
            for v in verdicts
            if v.outcome != "accelerated"
        ],
    }


def measured(
    name: str, size: str, output: str, alpha: float, ask: bool, known: Collection[str] = ()
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each target and its row for one network, but for those that are ``known``."""
    from pipeline.core.file_spec import FileSpec
    from pipeline.quantize.to_tflite import to_tflite
    from pipeline.targets import targets

    wanted = [chip for chip in targets().values() if chip.rules is not None and chip.name not in known]
    if not wanted:
        return
    model, ranges = network(name, size, alpha, CLASSES[size])
    files: dict[FileSpec, bytes] = {}
    for chip in wanted:
        spec = chip.file_spec(output)  # type: ignore[arg-type]
        if spec not in files:
            files[spec] = to_tflite(model, ranges, spec)
        entry = row(files[spec], chip, ask)
        click.echo(f"{name} {size} {output} {chip.name}: {shown(entry['coverage'])}", err=True)
        yield chip.name, entry


def key_of(name: str, size: str, output: str, alpha: float) -> str:
    return f"{name} {size} {output}" + ("" if alpha == 1 else f" alpha {alpha}")


def shown(covered: dict[str, Any]) -> str:
    macs = f"{100 * covered['macs_accelerated'] / covered['macs']:.4g} %" if covered["macs"] else "no MACs"
    return (
        f"{covered['ops_accelerated']}/{covered['ops']}, {macs}, {covered['partitions']},"
        f" {covered['crossing_bytes'] / 1000:.0f} kB"
    )


def table(rows: dict[str, Any]) -> str:
    """Markdown: a row per target, a column per network."""
    names = sorted({target for row in rows.values() for target in row})
    lines = ["| target | " + " | ".join(rows) + " |", "|---|" + "---|" * len(rows)]
    for name in names:
        cells = []
        for row in rows.values():
            entry = row.get(name)
            cells.append("" if entry is None else shown(entry["coverage"]) + MARKS[entry["rules_say_the_same"]])
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "results" / "coverage.json", show_default=True)
@click.option("--output", "outputs", multiple=True, default=("logits", "mask"), show_default=True)
@click.option("--compilers/--rules", default=True, show_default=True, help="Ask the targets' own compilers.")
def main(out: Path, outputs: tuple[str, ...], compilers: bool) -> None:
    from pipeline.core.files import write_atomically
    from pipeline.devices import connect

    data = json.loads(out.read_text()) if out.is_file() else {"rows": {}}
    data["machine"] = connect("host").describe()
    for name, size, alpha in CASES:
        for output in outputs:
            key = key_of(name, size, output, alpha)
            row = data["rows"].setdefault(key, {})
            for target, entry in measured(name, size, output, alpha, compilers, tuple(row)):
                row[target] = entry
                write_atomically(out, (json.dumps(data, indent=1) + "\n").encode())
            gc.collect()
    click.echo(table(data["rows"]))


if __name__ == "__main__":
    main()
