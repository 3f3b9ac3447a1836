"""What tests share: random but plausible networks, and one network that was really trained by the three commands."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

if TYPE_CHECKING:
    from pipeline.core.file_spec import FileSpec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


LONGEST = (
    "test_demo.py",
    "test_qat.py",
    "test_cli.py",
    "test_convert.py",
    "test_resume.py",
    "test_specification.py",
    "test_quantize.py",
    "test_agree.py",
    "test_imitate.py",
    "test_structure.py",
    "test_api.py",
    "test_bench_heads.py",
)


def pytest_collection_modifyitems(items):
    """The longest files go first, the one that trains a network before all: at the end no worker waits for another."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def small_size(name: str) -> tuple[int, int]:
    """A registered network's (height, width) in tests: small and awkward on purpose, with odd maps and crops."""
    import models

    height, width = models.network(name).min_size
    return max(height, 72), max(width, 72) + 32


def run_cli(*arguments: str, cwd: Path, **options) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it: a process of its own."""
    command = [sys.executable, str(ROOT / "cli.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=1500, check=False, **options)


class CliResult(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def call_cli(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> CliResult:
    """The same in this process, which loads TensorFlow once for all tests and not for each command."""
    from click.testing import CliRunner

    from cli import main

    with contextlib.chdir(cwd):
        result = CliRunner().invoke(main, list(arguments), env=env)
    crash = result.exception is not None and not isinstance(result.exception, SystemExit)
    trace = "".join(traceback.format_exception(*result.exc_info)) if crash and result.exc_info else ""
    return CliResult(result.exit_code, result.stdout, result.stderr + trace)


@pytest.fixture(scope="session")
def cli():
    return call_cli


def scrambled(name: str, size: tuple[int, int] | None = None, **options):
    """A registered network with every weight, batch norm's statistics included, drawn so that nothing is trivial."""
    import tf_keras

    import models
    from pipeline.core.spec import ModelSpec

    tf_keras.utils.set_random_seed(7)
    height, width = size or small_size(name)
    model = models.build(ModelSpec(name, height, width, 5, **{"alpha": 0.125, **options}))
    rng = np.random.default_rng(7)
    for layer in model.layers:
        for variable in layer.weights:
            if variable.shape.rank == 1:
                value = rng.uniform(0.5, 1.5, variable.shape)
                if "mean" in variable.name or "beta" in variable.name or "bias" in variable.name:
                    value = rng.normal(0, 0.3, variable.shape)
                variable.assign(value.astype(np.float32))
            elif variable.shape.rank == 4 and not isinstance(layer, tf_keras.layers.Conv2DTranspose):
                # Glorot's, from a generator of our own: Keras' depends on what was built before.
                fans = int(np.prod(variable.shape[:3])) + variable.shape[3] * int(np.prod(variable.shape[:2]))
                limit = (6 / fans) ** 0.5
                variable.assign(rng.uniform(-limit, limit, variable.shape).astype(np.float32))
    return model


@functools.lru_cache
def still(name: str, **options):
    """A scrambled network that no test may change, built once."""
    return scrambled(name, **options)


@functools.lru_cache
def ranges_of(name: str, **options):
    """Its ranges, measured on noise_images."""
    from calib.ranges import measure
    from pipeline.quantize.plan import plan

    model = still(name, **options)
    planned = plan(model)
    return planned.share(measure(model, planned.points, lambda: (x[None] for x in noise_images(model))))


@functools.lru_cache
def file_of(name: str, spec: FileSpec, **options) -> bytes:
    """The .tflite file of ``still``, converted once."""
    from pipeline.quantize.to_tflite import to_tflite

    return to_tflite(still(name, **options), ranges_of(name, **options) if spec.weights == "int8" else None, spec)


@functools.lru_cache
def quantized_of(name: str, **options):
    """The quantization-aware form of ``still``, which no test may change either, built once."""
    from pipeline.quantize.network import quantization_aware

    return quantization_aware(still(name, **options), ranges_of(name, **options))


def noise_images(model, count: int = 2) -> np.ndarray:
    """float32 [count, h, w, 3] on the 1/255 grid, smooth enough that activations differ from place to place."""
    rng = np.random.default_rng(11)
    height, width = model.input_shape[1:3]
    coarse = rng.integers(0, 256, (count, height // 8 + 1, width // 8 + 1, 3))
    fine = coarse.repeat(8, 1).repeat(8, 2)[:, :height, :width] + rng.integers(-20, 20, (count, height, width, 3))
    return np.clip(fine, 0, 255).astype(np.float32) / np.float32(255)


@pytest.fixture
def full_size(monkeypatch):
    """For a network of full width: its millions of weights start as zeros, which takes no time, and go when it ends."""
    import tensorflow as tf
    import tf_keras

    scaling = tf_keras.initializers.VarianceScaling
    monkeypatch.setattr(scaling, "__call__", lambda self, shape, dtype=None, **_: tf.zeros(shape, dtype or tf.float32))
    yield
    gc.collect()


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """The run that the first command makes in an empty directory: Fast-SCNN on the built-in images, then QAT.

    SEGQUANT_TRAINED names a finished one to save its four minutes while working on the tests.
    """
    if os.environ.get("SEGQUANT_TRAINED"):
        return Path(os.environ["SEGQUANT_TRAINED"])
    home = tmp_path_factory.mktemp("fresh")
    qat = run_cli("qat", cwd=home)
    assert qat.returncode == 0, qat.stderr
    (run,) = (home / "runs").iterdir()
    (run / "log.txt").write_text(qat.stdout + qat.stderr)
    return run


@pytest.fixture(scope="session")
def real_data() -> Path:
    root = os.environ.get("SEGQUANT_DATA")
    if not root or not (Path(root) / "camvid").is_dir():
        pytest.skip("no real data: set SEGQUANT_DATA to a folder that holds camvid/")
    return Path(root)
