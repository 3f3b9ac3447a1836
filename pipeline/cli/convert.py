"""The command `convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipeline.cli.bad_images import ON_BAD_IMAGE, settle_bad_images, skipped_in
from pipeline.cli.given import no_effect
from pipeline.cli.options import (
    CALIBRATED_BY,
    COMPILER,
    FORCE,
    JSON,
    LEVEL,
    OUTPUT,
    OUTPUT_STRIDE,
    PER_TENSOR,
    RUN,
    SOC,
    SPREAD_BY,
    calibration_of,
    calibration_options,
    complete,
    pool_options,
    quiet_tensorflow,
    say,
    tell,
    write_numbers,
)
from pipeline.cli.resolve import run_to_use
from pipeline.convert.options import ConvertAllOptions
from pipeline.core.calibration import Quantization
from pipeline.core.errors import BadSpec, CompilerError
from pipeline.core.pool import Pool
from pipeline.core.run import Run
from pipeline.report.inspection import show_outcomes
from pipeline.targets import target as find_target
from pipeline.targets import targets
from pipeline.tflite.metadata import refusal
from pipeline.tflite.read import read_file


@click.command()
@RUN
@click.option(
    "--target",
    "target_name",
    required=True,
    metavar="NAME[:SELECTOR]",
    help="What to convert for, see `list`: edgetpu, nnapi:29, qualcomm:SM8650, or all.",
    shell_complete=complete("targets_or_all"),
)
@SOC
@OUTPUT
@OUTPUT_STRIDE
@click.option(
    "--io",
    type=click.Choice(["uint8", "int8", "float32"]),
    help="Input type; files with integer inputs output int8 logits and scores.  [default: the target's]",
)
@click.option(
    "--method",
    "parent_method",
    type=click.Choice(["qat", "ptq"]),
    help="Convert the QAT network, or quantize the float network after training.  [default: qat where there is one]",
)
@calibration_options
@pool_options
@PER_TENSOR
@click.option(
    "--weights", type=click.Choice(["int8", "float16", "float32"]), help="Type of the weights.  [default: the target's]"
)
@LEVEL
@click.option("--rewrite/--no-rewrite", "rewrites", default=True, help="Replace ops that the target does not support.")
@click.option(
    "--approximate",
    "approximations",
    multiple=True,
    metavar="NAME",
    help="Allow a rewrite that changes the result a little; the change is measured on the validation images."
    " resize-chain (ethos-u55, ethos-u65).",
)
@COMPILER
@click.option("--author", metavar="TEXT", help="Author in the file's metadata; the run keeps it for later files.")
@click.option("--license", metavar="TEXT", help="Licence in the file's metadata; the run keeps it.")
@click.option(
    "--model-version",
    metavar="TEXT",
    help="Version in the file's metadata; the run keeps it.  [default: the first digits of the weights' sha256]",
)
@click.option("--require-compiled", is_flag=True, help="Fail when the target's own compiler is missing.")
@ON_BAD_IMAGE
@JSON
@FORCE
def convert(  # long: one line per option
    run_path: Path | None,
    target_name: str,
    soc: str | None,
    output: Any,
    stride: Any,
    io: Any,
    parent_method: str | None,
    jobs: int,
    cluster: str | None,
    per_tensor: bool,
    weights: Any,
    level: int | None,
    rewrites: bool,
    approximations: tuple[str, ...],
    compiler_command: str | None,
    author: str | None,
    license: str | None,
    model_version: str | None,
    require_compiled: bool,
    on_bad_image: Any,
    force: bool,
    json_path: str | None,
    **calibration: Any,
) -> None:
    """Convert to a .tflite file for one target, and check the file against the target's contract.

    Converts the QAT network or, where there is none, quantizes the float network after training. An op that the target
    does not support is replaced by ops that compute the same, where possible, and reported. The recipe is in the file
    as metadata and beside it as JSON.
    """
    if approximations and not rewrites:
        raise BadSpec("--approximate asks for a rewrite and --no-rewrite forbids them: leave one of them out.")
    if target_name.startswith("all:"):
        raise BadSpec(f"--target {target_name!r}: all takes nothing after its name; write all.")
    about = {"author": author, "license": license, "version": model_version}
    asked = Quantization(parent_method, calibration_of(calibration), per_tensor, Pool(jobs, cluster))
    if target_name == "all":
        check_options_for_all(
            {
                "--soc": soc,
                "--level": level,
                "--weights": weights,
                "--compiler": compiler_command,
                "--approximate": approximations or None,
            },
            io,
        )
        options = ConvertAllOptions(output, stride, asked, rewrites, force, require_compiled)
        convert_every_target(run_path, options, about, on_bad_image, json_path)
        return
    if parent_method == "qat":
        no_effect("--method qat, whose network brings its ranges", *CALIBRATED_BY, *SPREAD_BY)
    if weights in ("float16", "float32"):
        no_effect(f"--weights {weights}", "parent_method", "per_tensor", *CALIBRATED_BY, *SPREAD_BY)
    target = find_target(target_name, level=level, soc=soc).with_weights(weights)
    target = target.with_compiler(compiler_command).with_approximations(approximations)
    if json_path:
        raise BadSpec(
            "--json goes with --target all: for one target leave it out, the recipe lies beside the file as JSON."
        )
    quiet_tensorflow()
    from pipeline.convert import convert as converting

    if not rewrites:
        target = target.without_rewrites()
    run = run_to_use(run_path, say, writes=True)
    settle_for(run, on_bad_image, asked)
    keep_about(run, about)
    if target.weights != "int8" and (parent_method or per_tensor or asked.calibration):
        say(f"note: the file has {target.weights} weights, so how to quantize them to int8 has no effect")
    if target.advice:
        say(f"note: {target.advice}")
    spec = converting.spec_for(run, target, output, stride, io, say)
    artifact = converting.convert(run, target, say, spec, source=asked, force=force)
    run.name_target(target.name)
    converting.float_reference(run, spec, say)
    size_mib = artifact.path.stat().st_size / (1 << 20)
    tell(f"{artifact.path}  {size_mib:.2f} MiB  {artifact.recipe.known_origin.how}, checked")
    if why := metadata_refusal(artifact.path):
        say(f"note: the file has no TFLite metadata, since MediaPipe's ImageSegmenter cannot use it: {why}")
    artifact, compiled = converting.compile_artifact(artifact, target, require_compiled, say)
    if compiled is not None:
        tell(compiled.note)


def settle_for(run: Run, on_bad_image: Any, asked: Quantization) -> None:
    """Decides about bad images of the folder to calibrate on, or of the training split."""
    folder = asked.calibration.folder if asked.calibration else None
    settle_bad_images(run, on_bad_image, () if folder else ("train",), folder)


def keep_about(run: Run, about: dict[str, str | None]) -> None:
    if any(text is not None for text in about.values()):
        run.set_about(**about)


def metadata_refusal(file: Path) -> str | None:
    """Why the file has no TFLite metadata; None where it has."""
    _, graph = read_file(file)
    recipe = graph.recipe()
    return refusal(graph, recipe) if recipe is not None else None


def check_options_for_all(for_one_target: dict[str, Any], io: Any) -> None:
    """Raises BadSpec for an option that has a meaning for one target alone. None: not given."""
    for option, value in for_one_target.items():
        if value is not None:
            raise BadSpec(f"{option} goes with one target: name it with --target.")
    if io:
        raise BadSpec("--io with --target all: each target has its own input type; leave --io out.")


def convert_every_target(
    run_path: Path | None,
    options: ConvertAllOptions,
    about: dict[str, str | None],
    on_bad_image: Any,
    json_path: str | None,
) -> None:
    """Converts for one target after the other; the error at the end names those that failed."""
    quiet_tensorflow()
    from pipeline.convert.convert_all import convert_all

    run = run_to_use(run_path, say, writes=True)
    settle_for(run, on_bad_image, options.quantization)
    keep_about(run, about)
    outcomes = convert_all(run, targets().values(), options, say)
    numbers = {"targets": [outcome.to_json() for outcome in outcomes], "skipped": skipped_in(run, "train")}
    write_numbers(json_path, numbers)
    show_outcomes(outcomes)
    without = [each.target for each in outcomes if each.file is not None and metadata_refusal(Path(each.file))]
    if without:
        say(
            f"note: {len(without)} of {len(outcomes)} files have no TFLite metadata, since MediaPipe's ImageSegmenter"
            f" cannot use them: {', '.join(without)}; `convert --target NAME` says why"
        )
    failed = [outcome.target for outcome in outcomes if outcome.failed]
    if failed:
        raise CompilerError(
            f"{len(failed)} of {len(outcomes)} targets failed: {', '.join(failed)}; their reasons are above."
        )
