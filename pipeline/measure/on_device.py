"""Scores and times an artifact beside its float parent on one device."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.core.device import Connection, Device, Runner, RunnerOptions
from pipeline.core.errors import DeviceError
from pipeline.core.measurement import Measurement
from pipeline.core.progress import waiting
from pipeline.core.say import Say
from pipeline.devices import connect
from pipeline.measure.evaluation import EvaluationSet
from pipeline.measure.loaded import Loaded
from pipeline.measure.mask_note import mask_note
from pipeline.measure.notes import notes_of
from pipeline.measure.plan import BenchPlan
from pipeline.measure.plan_files import PlanFiles
from pipeline.measure.saved import slug
from pipeline.measure.score_pair import score_pair
from pipeline.measure.time_plan import time_plan


def bench_on(plan: BenchPlan, kind: Device, name: str, connection: Connection, say: Say) -> Measurement:
    """Scores and times the plan's files on one device; raises the errors of both."""
    run, artifact = plan.run, plan.artifact
    evaluation = EvaluationSet.of(run, plan.split, plan.images)
    with contextlib.ExitStack() as stack:
        files = PlanFiles(plan, kind, connection, stack)
        with waiting(say, f"opening the files on {name}"):
            pair = files.open_pair(plan.threads[0])
        machine = {**connection.describe(), "threads": plan.threads[0]}  # some know what runs a file once it is open
        reference = cache = None
        if (kind.name, connection.identity) != ("host", "host"):
            reference = _open_on_host(plan, stack)
            cache = run.measurements / "unfinished" / slug(f"{name}-{artifact.sha256[:12]}")

        say(f"scoring {evaluation.counted} {plan.split} images of {run.config.data}")
        agreement = score_pair(pair, reference, evaluation, cache, say)
        output = _infer_first_image(pair, evaluation)
        on_mask = mask_note(artifact, output, evaluation.grid, connection.identity == "host")
        times = time_plan(files, pair, say)

        machine_after = _state(connection)
        loaded = [*pair, *([times.against] if times.against else [])]
        notes = notes_of(plan, machine, machine_after, loaded, agreement.on_host, evaluation.count)
        parent, ours, *others = (each.measured(evaluation.classes, evaluation.count) for each in loaded)
        assert parent.score and ours.score
        return Measurement(
            when=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            target=artifact.recipe.target,
            protocol=dataclasses.asdict(plan.protocol),
            machine=machine,
            machine_after=machine_after,
            data=run.config.data,
            split=plan.split,
            images=evaluation.count,
            parent=parent,
            artifact=ours,
            speedup=times.speedup,
            against=others[0] if others else None,
            against_ratio=times.against_ratio,
            sweep=tuple(times.sweep),
            drop_points=parent.score.miou_percent - ours.score.miou_percent,
            agreement_percent=agreement.percent,
            on_host=agreement.on_host,
            notes=(*([on_mask] if on_mask else []), *notes),
            unfinished=times.unfinished,
            per_image=agreement.album.scores(evaluation.names),
            shown=agreement.album.keep(evaluation, run),
            skipped=evaluation.skipped,
            of_images=len(evaluation.decoded),
            images_sha256=evaluation.sha256,
        )


def _open_on_host(plan: BenchPlan, stack: contextlib.ExitStack) -> Runner:
    """The artifact on this machine's CPU, which a device's predictions are compared with."""
    runner = connect("host").open(plan.artifact.path, RunnerOptions(2))
    stack.callback(runner.close)
    return runner


def _infer_first_image(pair: Sequence[Loaded], evaluation: EvaluationSet) -> np.ndarray:
    """Gives both files a real image as their last input, which is what is timed; returns the artifact's output."""
    image, _ = evaluation.decoded[0]
    _, output = (each.runner.infer(evaluation.tensor(image, each.runner)) for each in pair)
    return output


def _state(connection: Connection) -> dict[str, Any]:
    """{} where the device went away."""
    with contextlib.suppress(DeviceError):
        return connection.state()
    return {}
