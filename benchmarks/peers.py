"""Our int8 networks against what a user could pick instead: python benchmarks/peers.py --parent FILE --data camvid:DIR

The same float network goes to LiteRT (targets `cpu` and `cpu-amx`) and to OpenVINO (`openvino-ir`) as `convert --method
ptq` writes it, to ONNX Runtime (its own static quantization, QDQ, per channel) and to OpenVINO by its own tool (NNCF),
all calibrated on the same images; each with the fastest of the settings that were tried. Masks are compared with those
of our float network, and scored on the validation images.
Without --data: random weights, 512x1024, 19 classes, one random image; then masks only show that the networks are one.

Timed in turns, one process at a time while the others are stopped; each round takes another image, and every network is
started several times. A ratio is of the two medians of a round, summed up over rounds and starts as `bench` does.
Writes results/peers.json and prints a table. The peers live in an environment of their own: see requirements-peers.in.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from pipeline.measure.timing import Timed, ratio_of  # noqa: E402

PEERS = ROOT / ".venv-peers" / "bin" / "python"
INSTALL = "python3.11 -m venv .venv-peers && .venv-peers/bin/pip install --require-hashes -r requirements-peers.txt"
OURS = ("int8", "float32")
RUNS = 5
"""Timed inferences of each network in a round, after two that are not."""
PICKING_ROUNDS = 12
STARTS = 10


@dataclasses.dataclass(frozen=True)
class Entry:
    """One network in one runtime.

    Attributes:
      head: 'mask' uint8 or int [h, w], 'logits' at the image's size or 'stride8'.
      request: what peer_worker.py reads as its only argument.
    """

    name: str
    head: str
    request: dict[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        return {k: v for k, v in self.request.items() if k not in ("runtime", "model", "exact")} | {
            "file": Path(self.request["model"]).name
        }


class Worker:
    """A process that holds an entry; stopped whenever it is not asked, so that no idle thread of it spins."""

    def __init__(self, entry: Entry, threads: int, cores: Sequence[int]) -> None:
        self.entry = entry
        request = {**entry.request, "threads": threads, "cores": list(cores)}
        python = sys.executable if entry.request["runtime"] == "litert" else str(PEERS)
        command = [python, str(ROOT / "benchmarks" / "peer_worker.py"), json.dumps(request)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._receive()
        self.process.send_signal(signal.SIGSTOP)

    def _receive(self) -> np.ndarray:
        from pipeline.drivers.litert_worker import receive

        assert self.process.stdout
        try:
            return receive(self.process.stdout)
        except EOFError:
            raise click.ClickException(f"{self.entry.name} ({self.entry.settings}) ended, see above.") from None

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        self.process.send_signal(signal.SIGCONT)
        yield
        self.process.send_signal(signal.SIGSTOP)

    def infer(self, image: np.ndarray) -> np.ndarray:
        from pipeline.drivers.litert_worker import send

        assert self.process.stdin
        self.process.stdin.write(b"infer\n")
        send(self.process.stdin, image[None])
        return self._receive()

    def time_ms(self, runs: int) -> np.ndarray:
        assert self.process.stdin
        self.process.stdin.write(f"time {runs}\n".encode())
        self.process.stdin.flush()
        return self._receive()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def opened(entries: Sequence[Entry], threads: int, cores: Sequence[int]) -> Iterator[list[Worker]]:
    workers: list[Worker] = []
    try:
        for entry in entries:
            workers.append(Worker(entry, threads, cores))
        yield workers
    finally:
        for worker in workers:
            worker.close()


def timed(workers: Sequence[Worker], images: Sequence[np.ndarray], rounds: range) -> np.ndarray:
    """float64 [rounds, workers]: median milliseconds of each in each round; the order turns from round to round."""
    times_ms = np.zeros((len(rounds), len(workers)))
    for r in rounds:
        for i in np.roll(np.arange(len(workers)), r).tolist():
            with workers[i].awake():
                workers[i].infer(images[r % len(images)])
                workers[i].time_ms(2)
                times_ms[r - rounds.start, i] = np.median(workers[i].time_ms(RUNS))
    return times_ms


def of_starts(
    entries: Sequence[Entry], images: Sequence[np.ndarray], rounds: int, threads: int, cores: Sequence[int]
) -> list[Timed]:
    """The medians of each entry's rounds, an equal number in each of its starts."""
    each = -(-rounds // STARTS)
    times = []
    for start in range(STARTS):
        with opened(entries, threads, cores) as workers:
            times.append(timed(workers, images, range(start * each, (start + 1) * each)))
    return [Timed.of(of_one, STARTS) for of_one in np.concatenate(times).T]


def heads_of(net: Any, size: str) -> dict[str, list[Entry]]:
    """Ours, by head; the first of each is the one that is compared."""
    from pipeline.tflite.read import read

    graph = read((net.folder / "int8-stride8.tflite").read_bytes())
    out = graph.output_tensor
    exact = {
        "size": list(map(int, size.split("x"))),
        "resize": "align_corners",
        "scale": out.scale[0],
        "zero_point": out.zero_point[0],
    }

    def entry(name: str, head: str, file: str, **more: Any) -> Entry:
        return Entry(name, head, {"runtime": "litert", "model": str(net.folder / f"{file}.tflite"), **more})

    def openvino(name: str, head: str, file: str, **more: Any) -> Entry:
        request = {"runtime": "openvino", "model": str(net.folder / f"int8-openvino-ir-{file}.xml"), "set": {}, **more}
        return Entry(name, head, request)

    return {
        "mask": [
            openvino("openvino-ir, exact mask in C", "mask", "stride8", exact=exact),
            entry("LiteRT int8, exact mask in C", "mask", "int8-stride8", exact=exact),
            entry("LiteRT float, exact mask in C", "mask", "float32-stride8", exact=exact),
            entry("LiteRT int8, mask in the graph", "mask", "int8-mask"),
            entry("LiteRT float, mask in the graph", "mask", "float32-mask"),
        ],
        **{
            head: [
                openvino("openvino-ir", head, head),
                entry("LiteRT int8", head, f"int8-{head}"),
                entry("LiteRT float", head, f"float32-{head}"),
            ]
            for head in ("stride8", "logits")
        },
    }


def candidates(folder: Path, runtime: str, head: str, threads: int) -> list[Entry]:
    """A peer's network with every setting worth a try."""
    name = {"onnxruntime": "ONNX Runtime int8", "openvino": "OpenVINO int8"}[runtime]
    if runtime == "onnxruntime":
        spins = (False, True) if threads > 1 else (False,)
        return [
            Entry(name, head, {"runtime": runtime, "model": str(file), "spinning": spinning})
            for file in sorted(folder.glob(f"onnxruntime-{head}-*.onnx"))
            for spinning in spins
        ]
    return [
        Entry(name, head, {"runtime": runtime, "model": str(file), "set": settings})
        for file in sorted(folder.glob(f"openvino-{head}-*.xml"))
        for settings in ({}, {"INFERENCE_PRECISION_HINT": "f32"})
    ]


def ours_for(entry: Entry) -> list[Entry]:
    """An int8 network of ours as `convert` makes it for `cpu` and `cpu-amx`, or in OpenVINO with each setting."""
    file = Path(entry.request["model"])
    if entry.request["runtime"] == "openvino":
        other = {**entry.request, "set": {"INFERENCE_PRECISION_HINT": "f32"}}
        return [entry, dataclasses.replace(entry, request=other)]
    if not file.name.startswith("int8-"):
        return [entry]
    amx = str(file.with_name(file.name.replace("int8-", "int8-amx-", 1)))
    return [entry, dataclasses.replace(entry, request={**entry.request, "model": amx})]


def best_of(
    entries: Sequence[Entry], images: Sequence[np.ndarray], threads: int, cores: Sequence[int]
) -> tuple[Entry, list[dict[str, Any]]]:
    """The fastest, and the milliseconds of all."""
    with opened(entries, threads, cores) as workers:
        medians = np.median(timed(workers, images, range(PICKING_ROUNDS)), 0)
    tried = [{**e.settings, "median_ms": float(m)} for e, m in zip(entries, medians, strict=True)]
    return entries[int(medians.argmin())], tried


def mask_of(output: np.ndarray, entry: Entry) -> np.ndarray:
    if entry.head == "mask":
        return output.reshape(output.shape[-2:]).astype(np.uint8)
    return output[0].argmax(-1 if entry.request["runtime"] == "litert" else 0).astype(np.uint8)


def checked(entries: Sequence[Entry], net: Any, cores: Sequence[int]) -> dict[str, dict[str, float]]:
    """Of each mask: agreement with our float network's, and mIoU where there are labels."""
    from pipeline.measure.score import score

    reference = Entry("float", "logits", {"runtime": "litert", "model": str(net.folder / "float32-logits.tflite")})
    masks: list[list[np.ndarray]] = []
    with opened([reference, *entries], 1, cores) as workers:
        for worker in workers:
            with worker.awake():
                masks.append([mask_of(worker.infer(image), worker.entry) for image in net.images])
    results = {}
    for entry, each in zip([reference, *entries], masks, strict=True):
        same = np.mean([(a == b).mean() for a, b in zip(masks[0], each, strict=True)])
        results[entry.name] = {"agreement_percent": 100 * float(same)}
        if net.labels is not None:
            pairs = zip(net.labels, (at_size(m, x.shape) for m, x in zip(each, net.labels, strict=True)), strict=True)
            results[entry.name]["miou_percent"] = score(pairs, net.classes).miou_percent
    return results


def at_size(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    from pipeline.heads.full_size import mask_of as resized

    return mask if mask.shape == shape else resized(mask[None].astype(np.int32), shape[0], shape[1])


def measured(net: Any, size: str, threads: int, rounds: int, cores: Sequence[int]) -> dict[str, Any]:
    """By head: each network's milliseconds, what was tried for the peers, and how many times faster the first is."""
    results: dict[str, Any] = {}
    images = net.images[:: max(1, len(net.images) // rounds)]
    for head, entries in heads_of(net, size).items():
        tried = {}
        for i, entry in enumerate(entries):
            if len(forms := ours_for(entry)) > 1:
                entries[i], tried[entry.name] = best_of(forms, images, threads, cores)
        for runtime in ("onnxruntime", "openvino"):
            chosen, tried[runtime] = best_of(candidates(net.folder, runtime, head, threads), images, threads, cores)
            entries.append(chosen)
        times = of_starts(entries, images, rounds, threads, cores)
        rows: list[dict[str, Any]] = [
            {
                "name": e.name,
                "median_ms": float(np.median(t.typical_ms)),
                "p10_ms": float(np.percentile(t.typical_ms, 10)),
                "p90_ms": float(np.percentile(t.typical_ms, 90)),
                "settings": e.settings,
                "times_slower_than_the_first": dataclasses.asdict(ratio_of(t, times[0])),
            }
            for e, t in zip(entries, times, strict=True)
        ]
        peers = rows[-2:]
        best = min(peers, key=lambda row: row["median_ms"])
        results[head] = {"rows": rows, "tried": tried, "best_peer": best["name"]}
        if head == "mask":
            results[head]["checked"] = checked(entries, net, cores)
        click.echo(
            f"{threads} thread(s), {head}: " + ", ".join(f"{r['name']} {r['median_ms']:.2f}" for r in rows), err=True
        )
    return results


def table(data: dict[str, Any]) -> str:
    """Markdown, of the masks by threads, then the other heads."""
    lines = []
    for head, title in (("mask", "full-size mask"), ("stride8", "stride-8 logits"), ("logits", "full-size logits")):
        first = next(iter(data["threads"].values()))[head]
        for_threads = " | ".join(f"{n} thread{'s' if n != '1' else ''} | times ours" for n in data["threads"])
        lines += [f"| {title} | {for_threads} |" + (" same class | mIoU |" if head == "mask" else "")]
        lines += ["|---|" + "---|---|" * len(data["threads"]) + ("---|---|" if head == "mask" else "")]
        for i, row in enumerate(first["rows"]):
            cells = [row["name"]]
            for result in data["threads"].values():
                entry = result[head]["rows"][i]
                r = entry["times_slower_than_the_first"]
                cells += [f"{entry['median_ms']:.2f} ms", f"{r['ratio']:.2f} ({r['low']:.2f} to {r['high']:.2f})"]
            if head == "mask":
                check = first["checked"][row["name"]]
                cells += [f"{check['agreement_percent']:.2f} %"]
                cells += [f"{check['miou_percent']:.2f} %" if "miou_percent" in check else ""]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


@click.command()
@click.option("--parent", type=click.Path(exists=True, path_type=Path), help="Float weights of Fast-SCNN, .weights.h5.")
@click.option("--data", help="Their dataset, such as camvid:DIR.  [default: none, and random weights]")
@click.option("--size", help="HEIGHTxWIDTH.  [default: 360x480 with data, 512x1024 without]")
@click.option("--threads", type=int, multiple=True, default=(1, 2), show_default=True)
@click.option("--rounds", type=click.IntRange(2), default=100, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "results" / "peers.json", show_default=True)
def main(
    parent: Path | None, data: str | None, size: str | None, threads: tuple[int, ...], rounds: int, out: Path
) -> None:
    from benchmarks.peer_networks import networks
    from pipeline.core.files import write_atomically
    from pipeline.devices import connect

    if (parent is None) != (data is None):
        raise click.UsageError("--parent and --data go together: the weights and what they were trained on.")
    if not PEERS.is_file():
        raise click.ClickException(f"the peers are not installed: {INSTALL}")
    size = size or ("360x480" if data else "512x1024")
    cores = sorted(os.sched_getaffinity(0))
    if max(threads) > len(cores):
        raise click.UsageError(f"--threads {max(threads)}: this process may use {len(cores)} cores.")
    name = data.partition(":")[0] if data else "random"
    net = networks(ROOT / "runs" / "peers" / f"{name}-{size}", size, data, parent, PEERS)
    results = {
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": connect("host").describe(),
        "peers": json.loads((net.folder / "versions.json").read_text()),
        "network": f"fast-scnn {size}, {len(net.classes)} classes, " + (parent.name if parent else "random weights"),
        "data": f"{name} val, {len(net.images)} images" if data else "one image of noise",
        "protocol": {
            "rounds": -(-rounds // STARTS) * STARTS,
            "starts": STARTS,
            "runs_per_round": RUNS,
            "sample": "median of a round",
            "interval": "trimmed mean over starts",
        },
        "threads": {str(n): measured(net, size, n, rounds, cores[-n:]) for n in threads},
    }
    all_found = json.loads(out.read_text()) if out.is_file() else {}
    write_atomically(out, (json.dumps({**all_found, f"{name}-{size}": results}, indent=1) + "\n").encode())
    click.echo(table(results))


if __name__ == "__main__":
    main()
