"""What the commands share: their options, and errors as one sentence."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pipeline.cli.screen import NORMAL, QUIET, VERBOSE
from pipeline.cli.screen import say as say
from pipeline.cli.screen import tell as tell
from pipeline.core.errors import BadSpec
from pipeline.core.files import descriptor, write_new
from pipeline.core.number import MOST_IMAGES, MOST_RATE, MOST_STEPS, MOST_THREADS
from pipeline.core.pool import MOST_JOBS
from pipeline.core.printable import well_formed
from pipeline.core.spec import MOST_SEED
from pipeline.core.workers import GPU, Workers


def set_loudness(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    """The callback of --quiet and --verbose. Raises UsageError where both are given."""
    if not value or ctx.resilient_parsing:
        return
    loudness = QUIET if parameter.name == "quiet" else VERBOSE
    if say.loudness not in (NORMAL, loudness):
        raise click.UsageError("--quiet and --verbose contradict each other: leave one of them out.", ctx)
    say.loudness = loudness


def loudness_options() -> list[click.Option]:
    """Every command has them, and so has `cli.py` before the command's name."""
    words = {
        "quiet": "Show errors and results only.",
        "verbose": "Show when each message came and how long each step took.",
    }
    return [
        click.Option([f"--{name}"], is_flag=True, expose_value=False, callback=set_loudness, help=text)
        for name, text in words.items()
    ]


def quiet_tensorflow(workers: Workers | None = None) -> None:
    """Loads TensorFlow without the lines that its C++ part writes at start-up, whatever the log level.

    A GPU's memory is taken as it is needed. ``workers``: connects with the others, which waits for them.
    """
    import warnings

    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        with open(kept, "w", closefd=False) as stderr, say.diverted(stderr), say.waiting("loading TensorFlow"):
            import tensorflow as tf

            gpus = tf.config.list_physical_devices("GPU")
            for gpu in gpus:
                tf.config.experimental.set_memory_growth(gpu, True)
            if workers is None:
                tf.constant(0)
            elif gpus:
                tf.config.set_visible_devices(gpus[int(os.environ.get(GPU, 0)) % len(gpus)], "GPU")
        if workers is not None:
            from pipeline.train.distribute import join

            with open(kept, "w", closefd=False) as stderr, say.diverted(stderr), say.waiting("waiting for all workers"):
                join(workers, stderr)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
    tf.get_logger().setLevel("ERROR")
    warnings.filterwarnings("ignore", module="tensorflow|tf_keras|tensorflow_model_optimization")


def complete(kind: str) -> Callable[[click.Context, click.Parameter, str], Any]:
    """For ``shell_complete``: what the function of that name in pipeline/cli/completion.py offers."""

    def offers(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Any:
        from pipeline.cli.completion import KINDS

        return KINDS[kind](incomplete)

    return offers


class OutputFile(click.ParamType):
    """The destination of --json: a file, a device or a pipe, or - for standard output.

    A destination that cannot be written to is refused before the command starts.
    """

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value:
            self.fail("the name is empty: name a file, or - for standard output.", param, ctx)
        path = Path(value)
        if value in STANDARD_OUTPUT:
            if (
                ctx is not None and STDOUT not in ctx.meta
            ):  # tables go to standard error: standard output gets JSON only
                ctx.meta[STDOUT] = sys.stdout
                ctx.with_resource(contextlib.redirect_stdout(sys.stderr))
            return "-"
        if path.is_dir():
            self.fail(f"{value} is a folder: name a file in it.", param, ctx)
        if descriptor(path) is not None and not path.exists():
            self.fail(f"{value} is not open: name a file, or redirect it, as `3>FILE` does for /dev/fd/3.", param, ctx)
        existing = next((place for place in (path, *path.absolute().parents) if place.exists()), path)
        if not os.access(existing, os.W_OK) or (existing != path and not existing.is_dir()):
            self.fail(f"{value} cannot be written: {existing} is not writable; name another file.", param, ctx)
        return str(value)


class Folder(click.Path):
    """A folder to work in. An empty name, as of a variable that is not set, would be the current folder."""

    def __init__(self, **more: Any) -> None:
        super().__init__(path_type=Path, **more)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.fspath(value):
            self.fail("the name is empty: name a folder, or . for the current one.", param, ctx)
        return super().convert(value, param, ctx)


def write_numbers(destination: str | None, numbers: dict[str, Any]) -> None:
    """Writes the JSON of --json; ``destination`` as OutputFile converts it, None: nowhere."""
    if destination is not None:
        write_text(destination, json.dumps(numbers, indent=1) + "\n")


def write_text(destination: str | None, text: str) -> None:
    """Writes what an option with an OutputFile asks for."""
    if destination is None:
        return
    if destination == "-":
        stdout = click.get_current_context().meta[STDOUT]
        stdout.flush()
        content = well_formed(text)
        if hasattr(stdout, "buffer"):  # the same bytes as in a file, whatever a terminal's encoding is
            stdout.buffer.write(content.encode())
        else:
            stdout.write(content)
        stdout.flush()
    else:
        write_new(Path(destination), text)


class Number(click.FloatRange):
    """A finite number in a range: neither nan nor inf passes."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number

    def _describe_range(self) -> str:
        """For --help; click would write x<=None where there is no bound."""
        return "" if self.min is None and self.max is None else super()._describe_range()


STANDARD_OUTPUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
STDOUT = "segquant.stdout"
STEPS, BATCH = click.IntRange(1, MOST_STEPS), click.IntRange(1, MOST_IMAGES)
PROFILED = click.IntRange(4, 1_000_000)
LEARNING_RATE = Number(0, MOST_RATE, min_open=True)

CONFIG = "config"
"""The name of the option that every command has: see pipeline/cli/configuration.py."""
RUN = click.option(
    "--run",
    "run_path",
    type=Folder(),
    metavar="DIR",
    help="Run directory.  [default: the latest run]",
    shell_complete=complete("runs"),
)
NEW_RUN = [
    click.option(
        "--model",
        "network",
        metavar="NAME",
        help="Network, see `list`.  [default: fast-scnn]",
        shell_complete=complete("networks"),
    ),
    click.option(
        "--data",
        metavar="NAME[:DIR]",
        help="Dataset, see `list`, such as camvid:DIR.  [default: synthetic]",
        shell_complete=complete("datasets"),
    ),
    click.option(
        "--train-on",
        type=click.Choice(["train", "train+val"]),
        help="The splits to train, calibrate and choose on. With train+val the last checkpoint is kept, as nothing is"
        " left to choose by.  [default: train]",
    ),
    click.option(
        "--hold-out",
        multiple=True,
        metavar="PREFIX",
        help="Keep the images whose names begin so out of training: they become the validation images. May be repeated;"
        " for whole drives, sites or cameras.",
    ),
    click.option(
        "--size",
        metavar="HEIGHTxWIDTH",
        help="Input size, such as 360x480.  [default: that of --parent, else the dataset's]",
    ),
    click.option(
        "--seed", type=click.IntRange(0, MOST_SEED), help="Seed of weights, order and augmentation.  [default: 0]"
    ),
    click.option("--alpha", type=Number(0, 4, min_open=True), help="Width multiplier of all channels.  [default: 1]"),
    click.option(
        "--resize",
        type=click.Choice(["align_corners", "half_pixel"]),
        help="How bilinear resizes place their samples; fixed once the network is trained.  [default: align_corners]",
    ),
    click.option("--batch-norm/--no-batch-norm", default=None, help="Batch norm after convolutions.  [default: on]"),
    click.option("--l2", type=Number(0, 1000), help="L2 regularisation of kernels.  [default: 0]"),
    click.option("--dropout", type=Number(0, 1, max_open=True), help="Dropout rate.  [default: 0.1]"),
    click.option("--encoder-weights", metavar="FILE|imagenet", help="VGG16 weights for the FCN8 encoder."),
]
FORCE = click.option("--force", is_flag=True, help="Replace what exists (a training is set aside, not deleted).")
OUTPUT = click.option(
    "--output",
    type=click.Choice(["logits", "scores", "mask"]),
    default="logits",
    show_default=True,
    help="What the file outputs: logits, softmax scores, or an int32 argmax mask.",
)
OUTPUT_STRIDE = click.option(
    "--output-stride",
    "stride",
    type=click.Choice(["8", "4", "2", "1"]),
    callback=lambda _, __, value: value and int(value),
    help="Pixels, along each axis, for one sample of the output; 8 leaves out the last resize of the logits, and the"
    " mask is made outside the network.  [default: 1; for a mask on cpu, cpu-amx and openvino-ir 8, with C code that"
    " makes it]",
)
JSON = click.option(
    "--json", "json_path", type=OutputFile(), metavar="FILE", help="Write the numbers here; - is standard output."
)
ARTIFACT_TARGET = click.option(
    "--target",
    "target_name",
    metavar="NAME[:SELECTOR]",
    help="Target whose newest artifact is used.  [default: the last that `convert` was given by name, else cpu]",
    shell_complete=complete("targets"),
)
LEVEL = click.option("--level", type=int, metavar="N", help="Feature level; same as `--target nnapi:29`.")
SOC = click.option("--soc", metavar="NAME", help="System on chip; same as `--target qualcomm:SM8650`.")
IMAGES = click.option("--images", type=click.IntRange(1), help="Score only the first N images.  [default: all]")

CALIBRATION = [
    click.option(
        "--calibration", "method", metavar="NAME", help="How ranges are estimated, see `list`.  [default: min-max]"
    ),
    click.option("--select", "selection", metavar="NAME", help="How images are chosen, see `list`.  [default: random]"),
    click.option("--images", type=click.IntRange(1), help="How many images to calibrate on.  [default: 100]"),
    click.option(
        "--images-from", "folder", metavar="DIR", help="Images without labels to use in place of the training images."
    ),
]
CALIBRATED_BY = ("method", "selection", "images", "folder")
"""The parameters of these options."""
PER_TENSOR = click.option(
    "--per-tensor",
    is_flag=True,
    help="One scale for each weight tensor, not for each of its channels: for chips that need it; costs accuracy.",
)
COMPILER = click.option(
    "--compiler",
    "compiler_command",
    metavar="COMMAND",
    help="Command that starts the target's compiler (edgetpu), here or elsewhere: 'ssh HOST edgetpu_compiler',"
    " 'docker run --rm IMAGE edgetpu_compiler'.",
)
INIT = click.option(
    "--init",
    metavar="FILE|NAME",
    help="Weights of the same network for other classes or sizes, to start all but the head from: a file, or the name"
    " of weights that ship, such as camvid. Fewer steps at a lower rate then.",
)
PARENT = click.option(
    "--parent",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Float weights of the same network to start from instead of training: a run's best.weights.h5, or the .h5,"
    " .weights.h5, .keras, SavedModel or checkpoint that Keras wrote.",
)


def device_options(command: Any) -> Any:
    for option in (
        click.option(
            "--remote-python", metavar="PATH", help="For ssh: path of the remote Python that has ai-edge-litert."
        ),
        click.option(
            "--delegate-library",
            metavar="FILE",
            help="Path of the delegate on the device, where it is not in its usual place.",
        ),
        click.option(
            "--benchmark-binary",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="LiteRT's benchmark_model built for the device.  [default: for Android, downloaded once]",
        ),
    ):
        command = option(command)
    return command


def threads_of(text: str) -> tuple[int, ...]:
    """'1,2,4' → (1, 2, 4); raises BadSpec."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) <= 2 and 1 <= int(part) <= MOST_THREADS for part in parts):
        raise BadSpec(f"--threads {text}: give numbers from 1 to {MOST_THREADS}, such as 1 or 1,2,4.")
    return tuple(dict.fromkeys(map(int, parts)))


def calibration_options(command: Any) -> Any:
    for option in reversed(CALIBRATION):
        command = option(command)
    return command


POOL = [
    click.option(
        "--jobs",
        type=click.IntRange(1, MOST_JOBS),
        default=1,
        show_default=True,
        metavar="N",
        help="Processes of this machine to spread the images over; the numbers stay the same.",
    ),
    click.option(
        "--cluster",
        metavar="tcp://HOST:PORT",
        help="Dask scheduler whose workers do it instead, see docs/machines.md; the numbers stay the same.",
    ),
]


SPREAD_BY = ("jobs", "cluster")
"""The parameters of these options."""


def split_option(
    *splits: str,
    words: str = "Which images to score on; nothing is trained, calibrated or chosen on those of test.",
) -> Callable[[Any], Any]:
    """The first is the default."""
    return click.option("--split", type=click.Choice(splits), default=splits[0], show_default=True, help=words)


def pool_options(command: Any) -> Any:
    for option in reversed(POOL):
        command = option(command)
    return command


def calibration_of(options: dict[str, Any]) -> Any:
    """The Calibration of the options that were given; None where none was."""
    from pipeline.core.calibration import Calibration

    chosen = {k: v for k, v in options.items() if v is not None}
    return Calibration(**chosen) if chosen else None


def new_run_options(command: Any) -> Any:
    for option in reversed(NEW_RUN):
        command = option(command)
    return command
