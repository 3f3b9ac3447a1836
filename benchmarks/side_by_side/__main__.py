"""Trains the networks of a plan side by side, scores each on what it left out, and writes those that are to be kept.

    python -m benchmarks.side_by_side PLAN.json CAMVID OUT [--seconds N]

A plan: {"size": [h, w], "batch": n, "steps": n, "evaluations": n, "networks": [{"name", "left_out": [[prefix, …], …],
"seed", "init_seed", "start", "group", "keep", and what differs from SETTINGS}, …]}. ``--seconds``: takes as many steps
as fit, instead of the plan's. OUT gets results.json, and the weights that are kept, three networks in each .npz.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.side_by_side.plan import SETTINGS, begun, chosen_of, left_out_of, loaded, plan_of, read
from benchmarks.side_by_side.score import TAKEN_BACK, miou_percent, score
from benchmarks.side_by_side.update import Plan, begin, train

CHUNK = 50
"""Steps between two looks of this machine at the other."""
SPARE_SECONDS = 5
BEGAN = time.monotonic()


def say(text: str) -> None:
    print(f"{time.monotonic() - BEGAN:6.1f} s  {text}", flush=True)


@dataclasses.dataclass
class Training:
    """All networks of a plan, and the images on the GPU."""

    spec: dict[str, Any]
    plan: Plan
    images: np.ndarray
    labels: np.ndarray
    trained_on: list[np.ndarray]
    left_out: np.ndarray
    chunk: int

    def __post_init__(self) -> None:
        self.networks: list[dict[str, Any]] = self.spec["networks"]
        self.first = begun(self.networks, self.plan.size)
        self._on_gpu = jnp.asarray(self.images), jnp.asarray(self.labels)

    def step(self, state: dict[str, Any], at: int, steps: int) -> tuple[dict[str, Any], Any]:
        """A chunk of steps from step ``at`` of ``steps``."""
        seeds = zip(self.trained_on, self.plan.seeds, strict=True)
        chosen = np.stack([chosen_of(on, int(seed), at, self.chunk, self.plan.batch) for on, seed in seeds], 1)
        return train(self.plan, state, *self._on_gpu, chosen, jnp.float32(steps))  # type: ignore[no-any-return]

    def confusion(self, state: dict[str, Any]) -> np.ndarray:
        return score(self.plan, state["averages"], self.images, self.labels, self.left_out)

    def fitting(self, seconds: float) -> int:
        """How many steps fit into what is left of ``seconds``; tries a few, and forgets them."""
        state, _ = self.step(begin(self.first), 0, 1000)
        jax.block_until_ready(state)
        say("compiled")
        began = time.monotonic()
        state, _ = self.step(state, 0, 1000)
        jax.block_until_ready(state)
        each = (time.monotonic() - began) / self.chunk
        self.confusion(state)
        began = time.monotonic()
        self.confusion(state)
        scoring = time.monotonic() - began
        left = seconds - (time.monotonic() - BEGAN) - scoring * self.spec["evaluations"] - SPARE_SECONDS
        steps = max(self.chunk, int(left / each / self.chunk) * self.chunk)
        say(f"{1000 * each:.1f} ms a step, {scoring:.1f} s a scoring: {steps} steps")
        return steps

    def run(self, steps: int, out: Path) -> None:
        evaluations = self.spec["evaluations"]
        scored = {round(steps * (n + 1) / evaluations / self.chunk) * self.chunk for n in range(evaluations)}
        state, history, at, began = begin(self.first), [], 0, time.monotonic()
        while at < steps:
            state, losses = self.step(state, at, steps)
            at += self.chunk
            if at not in scored and at < steps:
                continue
            confusion = self.confusion(state)
            percent, mean = miou_percent(confusion), np.asarray(losses).mean(0)
            seconds = time.monotonic() - began
            # JSON has no NaN
            known = [[None if np.isnan(part) else part for part in parts] for parts in percent.tolist()]
            history.append({"step": at, "seconds": seconds, "loss": mean.tolist(), "miou_percent": known})
            say(f"step {at} of {steps}: " + ", ".join("/".join(f"{x:.2f}" for x in parts) for parts in percent))
            self.write(out, at, history, confusion)
            keep(out, self.networks, state["averages"])

    def write(self, out: Path, steps: int, history: list[Any], confusion: np.ndarray) -> None:
        results = {
            "device": jax.devices()[0].device_kind,
            "jax": jax.__version__,
            "steps": steps,
            "plan": self.spec,
            "settings": SETTINGS,
            "taken_back": TAKEN_BACK,
            "images": [len(on) for on in self.trained_on],
            "history": history,
            "confusion": confusion.tolist(),
            "class_weights": self.plan.class_weights.tolist(),
        }
        (out / "results.json").write_text(json.dumps(results))


def keep(out: Path, networks: list[dict[str, Any]], averages: dict[str, Any]) -> None:
    kept = [n for n, network in enumerate(networks) if network.get("keep")]
    for part in range(0, len(kept), 3):
        arrays: dict[str, Any] = {
            f"{networks[n]['name']}:{name}": np.asarray(x[n])
            for n in kept[part : part + 3]
            for name, x in averages.items()
            if not name.startswith("aux_")
        }
        np.savez(out / f"weights{part // 3}.npz", **arrays)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.side_by_side")
    parser.add_argument("plan", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float)
    options = parser.parse_args()
    spec = loaded(options.plan)
    names, images, labels = read(options.data, tuple(spec["size"]))
    left_out = left_out_of(spec["networks"], names)
    trained_on = [np.flatnonzero(~out.any(0)) for out in left_out]
    chunk = min(CHUNK, spec.get("steps", CHUNK))
    training = Training(spec, plan_of(spec, labels, trained_on), images, labels, trained_on, left_out, chunk)
    say(f"{len(names)} images, {len(left_out)} networks on {jax.devices()[0].device_kind}")
    options.out.mkdir(parents=True, exist_ok=True)
    training.run(training.fitting(options.seconds) if options.seconds else spec["steps"], options.out)


main()
