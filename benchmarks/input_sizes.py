"""One network at several input sizes without training it again: accuracy in float and in int8, and latency.

    python -m benchmarks.input_sizes camvid:DIR --weights FILE [--model fast-scnn] [--size 360x480 --size 180x240]

Images are resized to the network's input, and its masks back to theirs. Each size is converted and measured by the
commands of cli.py, in a run of its own in runs/sizes/; `train` refuses one that is of other weights or images. Then all
files are timed in turns. A size that the network refuses is kept with its reason. Writes results/input_sizes.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

import models
from benchmarks.networks import KINDS, ROOT, command, in_turns, measured
from pipeline.core.errors import BadSpec
from pipeline.core.files import sha256, write_atomically
from pipeline.core.spec import ModelSpec, parse_size

RESULTS = ROOT / "results" / "input_sizes.json"


def refusal(network: str, size: str) -> str | None:
    """Why the network cannot have this input; None where it can."""
    try:
        models.check_size(ModelSpec(network, *parse_size(size), 2))
    except BadSpec as error:
        return str(error)
    return None


@click.command()
@click.argument("data")
@click.option("--weights", required=True, type=click.Path(exists=True, path_type=Path), help="Of the trained network.")
@click.option("--model", "network", default="fast-scnn", show_default=True)
@click.option("--size", "sizes", multiple=True, default=("720x960", "360x480", "180x240"), metavar="HEIGHTxWIDTH")
@click.option("--hold-out", multiple=True, metavar="PREFIX", help="Score on these of the labelled images, not on val.")
def main(data: str, weights: Path, network: str, sizes: tuple[str, ...], hold_out: tuple[str, ...]) -> None:
    """Measures WEIGHTS at each size on the validation images of DATA."""
    options = ["--model", network, "--data", data, "--parent", weights]
    options += [x for prefix in hold_out for x in ("--hold-out", prefix)]
    options += ["--train-on", "train+val"] if hold_out else []
    rows: list[dict[str, Any]] = []
    files: dict[str, Path] = {}
    for size in sizes:
        if (reason := refusal(network, size)) is not None:
            rows.append({"size": size, "refused": reason})
            continue
        run = Path("runs/sizes") / f"{network}-{size}"
        command("train", "--run", run, "--size", size, *options)
        bench = measured(run)
        row: dict[str, Any] = {"size": size}
        for kind, which in KINDS.items():
            row[f"{kind}_miou_percent"] = bench[which]["score"]["miou_percent"]
            files[f"{size} {kind}"] = run / bench[which]["file"]
        rows.append(row)
    result = {
        "network": network,
        "weights_sha256": sha256(weights),
        "data": data.partition(":")[0],
        "split": "val",
        "held_out": list(hold_out),
        "sizes": rows,
        "latency": in_turns(files),
    }
    write_atomically(RESULTS, (json.dumps(result, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
