"""Compares recipes of the float training on drives that it has not seen: each is trained with one drive left out.

    python -m benchmarks.recipes camvid:DIR RECIPE DRIVE [--steps 2000] [--size 240x320] [--seed 0]

DRIVE is the beginning of the images' names, such as 0016E5; several with + between them. The runs go to runs/recipes/,
and can be interrupted; each result is added to results/recipes.json. RECIPES has what can be compared.
Those with "scenes" start from a network of the built-in scenes, which is to be trained first: `python cli.py train
--run runs/recipes/scenes --data synthetic --size 180x240 --steps 2500`.
"""

from __future__ import annotations

import dataclasses
import json
import platform
from pathlib import Path
from typing import Any

import click

from pipeline.api.runs import create_run
from pipeline.cli.options import quiet_tensorflow, say
from pipeline.core.division import Division
from pipeline.core.files import write_atomically
from pipeline.core.run import FILE, Run, open_run
from pipeline.core.spec import ModelSpec, parse_size
from pipeline.data import dataset_of, open_dataset
from pipeline.train.feed import Augmentation
from pipeline.train.schedule import Schedule
from pipeline.train.train import defaults_of, train

RESULTS = Path("results/recipes.json")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What differs from ``Augmentation()`` and from the schedule of ``train``.

    Attributes:
      augmentation, schedule: fields of ``Augmentation`` and ``Schedule``.
      init: weights to start all but the head from.
      after: a recipe whose network, trained before on the same images with the same seed, it starts from likewise.
      teachers: recipes whose networks, trained before on the same images, are distilled: (recipe, seed) of each.
      network, alpha: what is trained.
    """

    augmentation: dict[str, Any] = dataclasses.field(default_factory=dict)
    schedule: dict[str, Any] = dataclasses.field(default_factory=dict)
    init: str | None = None
    after: str | None = None
    teachers: tuple[tuple[str, int], ...] = ()
    network: str = "fast-scnn"
    alpha: float = 1.0


MILD = {"colour": 0.3, "exposure": 0.6, "gamma": 0.3}
LIGHT = {"colour": 0.4, "exposure": 1.2, "gamma": 0.5}
HARD_DECAY = {"hard": 0.7, "weight_decay": 0.1}
BASE = {"scale": (0.6, 2.0), "colour": 0.3, "exposure": 0.6, "gamma": 0.3, "paste": 0.25}
RECIPES = {
    "close": Recipe({"scale": (0.75, 2.0)}),
    "fcn8-quarter": Recipe(BASE, HARD_DECAY, network="fcn8", alpha=0.25),
    "light": Recipe(LIGHT),
    "light-close": Recipe({**LIGHT, "scale": (0.75, 2.0)}),
    "light-decay": Recipe(LIGHT, {"weight_decay": 0.1}),
    "light-paste": Recipe({**LIGHT, "paste": 0.5}),
    "light-wide": Recipe({**LIGHT, "scale": (0.5, 2.5)}),
    "mild": Recipe(MILD),
    "paste": Recipe({"paste": 0.5}),
    "plain": Recipe(),
    "base": Recipe(BASE),
    "base-again": Recipe(BASE, after="base"),
    "base-again-hard-wide-decay": Recipe({**BASE, "scale": (0.5, 2.5)}, HARD_DECAY, after="base"),
    "base-balance": Recipe({**BASE, "balance": 0.5}),
    "base-colour": Recipe({**BASE, "colour": 0.6}),
    "base-decay": Recipe(BASE, {"weight_decay": 0.1}),
    "base-hard": Recipe(BASE, {"hard": 0.7}),
    "base-hard-decay": Recipe(BASE, HARD_DECAY),
    "base-hard-decay-distil": Recipe(
        BASE, {**HARD_DECAY, "distil": 1.0}, teachers=tuple(("base-hard-decay", seed) for seed in range(3))
    ),
    "base-hard-decay-no-average": Recipe(BASE, {**HARD_DECAY, "average": 0}),
    "base-hard-decay-no-aux": Recipe(BASE, {**HARD_DECAY, "auxiliary": 0.0}),
    "base-hard-decay-no-paste": Recipe({**BASE, "paste": 0.0}, HARD_DECAY),
    "base-hard-decay-scenes": Recipe(BASE, HARD_DECAY, "runs/recipes/scenes/float/best.weights.h5"),
    "base-hard-wide-decay": Recipe({**BASE, "scale": (0.5, 2.5)}, HARD_DECAY),
    "base-light": Recipe({**BASE, **LIGHT}),
    "base-no-aux": Recipe(BASE, {"auxiliary": 0.0}),
    "base-no-average": Recipe(BASE, {"average": 0}),
    "base-no-jaccard": Recipe(BASE, {"jaccard": 0.0}),
    "base-no-paste": Recipe({**BASE, "paste": 0.0}),
    "base-paste": Recipe({**BASE, "paste": 0.5}),
    "base-wide": Recipe({**BASE, "scale": (0.5, 2.5)}),
}


@click.command()
@click.argument("data")
@click.argument("name", type=click.Choice(sorted(RECIPES)), metavar="RECIPE")
@click.argument("drive")
@click.option("--steps", type=click.IntRange(1), default=2000, show_default=True)
@click.option("--size", default="240x320", show_default=True, metavar="HEIGHTxWIDTH")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def main(data: str, name: str, drive: str, steps: int, size: str, seed: int) -> None:
    """Trains a network by a recipe on all drives of DATA but DRIVE, and scores it on that one."""
    quiet_tensorflow()

    def folder(name: str, seed: int) -> Path:
        return Path("runs/recipes") / f"{name}-{drive}-{size}-{steps}-{seed}"

    recipe = RECIPES[name]
    run = run_of(data, folder(name, seed), drive, size, seed, recipe)
    init = recipe.init if recipe.after is None else str(folder(recipe.after, seed) / "float" / "last.weights.h5")
    teachers = [open_run(folder(*each)) for each in recipe.teachers]
    augmentation = dataclasses.replace(Augmentation(), **recipe.augmentation)
    schedule = Schedule(
        steps,
        **{"batch": 8, "learning_rate": defaults_of(run).learning_rate, "evaluations": 4, **recipe.schedule},
    )
    with say.opened():
        result = train(run, schedule, augmentation, say, init=init, teachers=teachers)
    add(
        {
            "recipe": name,
            "drive": drive,
            "steps": steps,
            "size": size,
            "seed": seed,
            "images": {split: len(samples) for split, samples in dataset_of(run).splits.items()},
            "augmentation": augmentation.as_setting(),
            "schedule": dataclasses.asdict(schedule),
            "init": recipe.init,
            "after": recipe.after,
            "teachers": [f"{name}, seed {seed}" for name, seed in recipe.teachers],
            "last_miou_percent": result.last_val_miou_percent,
            "best_miou_percent": result.best_val_miou_percent,
            "step_seconds": result.step_seconds,
            "machine": platform.machine(),
        }
    )


def run_of(data: str, path: Path, drive: str, size: str, seed: int, recipe: Recipe) -> Run:
    if (path / FILE).exists():
        return open_run(path)
    spec = ModelSpec(recipe.network, *parse_size(size), len(open_dataset(data).classes), recipe.alpha)
    return create_run(path, spec, data, seed=seed, division=Division("train+val", tuple(drive.split("+"))))


def add(result: dict[str, Any]) -> None:
    """Adds a result to those before, or takes the place of the same training's."""
    key = ("recipe", "drive", "steps", "size", "seed")
    before = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    kept = [each for each in before if any(each[name] != result[name] for name in key)]
    results = sorted([*kept, result], key=lambda each: [str(each[name]) for name in key])
    write_atomically(RESULTS, (json.dumps(results, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
