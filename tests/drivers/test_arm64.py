"""int8 on ARM64 and here: LiteRT's XNNPACK gives the same bytes, so what is scored here is what runs there.

ARM64 is emulated by QEMU in the userland that tests/support/arm64.sh makes; emulated times say nothing about devices.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.compilers.xnnpack import WORKER
from tests.conftest import ROOT, file_of, noise_images, still

ARM64 = Path(os.environ.get("SEGQUANT_ARM64", ROOT / ".arm64"))
RUN = """
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter

interpreter = Interpreter(sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
answers = []
for image in np.load(sys.argv[2]):
    interpreter.set_tensor(source["index"], image[None])
    interpreter.invoke()
    answers.append(interpreter.get_tensor(result["index"]))
np.save(sys.argv[3], np.concatenate(answers))
"""
CORES = ("cortex-a53", "cortex-a72", "cortex-a76")
"""One without dot products, its out-of-order successor, and one with dot products: XNNPACK's int8 kernels differ."""


@pytest.fixture(scope="module")
def arm64():
    if not (ARM64 / "python").is_file():
        pytest.skip(f"no ARM64 userland: `tests/support/arm64.sh {ARM64}` makes it (300 MB, two minutes)")
    return str(ARM64 / "python")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A small int8 Fast-SCNN with drawn weights, images that fill its range, and what it gives on this machine."""
    from pipeline.core.file_spec import FileSpec

    home = tmp_path_factory.mktemp("network")
    model = still("fast-scnn")
    (home / "net.tflite").write_bytes(file_of("fast-scnn", FileSpec()))
    noise = np.random.default_rng(3).integers(0, 256, (1, *model.input_shape[1:3], 3))
    images = np.concatenate([np.rint(noise_images(model) * 255), noise]).astype(np.uint8)
    np.save(home / "images.npy", images)
    (home / "run.py").write_text(RUN)
    answer(home, [sys.executable], "here")
    return home


def answer(home, python, name):
    result = subprocess.run(
        [*python, str(home / "run.py"), str(home / "net.tflite"), str(home / "images.npy"), str(home / f"{name}.npy")],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return np.load(home / f"{name}.npy")


@pytest.mark.real
@pytest.mark.parametrize("core", CORES)
def test_arm64_gives_the_same_bytes(core, arm64, network):
    expected, got = np.load(network / "here.npy"), answer(network, [arm64, core], core)
    each = [len(np.unique(expected[..., c])) for c in range(expected.shape[-1])]
    assert expected.dtype == np.int8 and min(each) > 50  # else equality would say little
    assert not np.array_equal(expected[0], expected[1]) and not np.array_equal(expected[0], expected[2])
    assert np.array_equal(got, expected), f"{np.mean(got != expected):.2%} of the values differ"


@pytest.mark.real
def test_xnnpack_takes_the_same_ops_on_arm64(arm64, network):
    """Else the bytes could be the same because both ran LiteRT's own kernels."""
    pieces = [
        subprocess.run(
            [*python, str(WORKER), str(network / "net.tflite")], capture_output=True, text=True, check=True
        ).stdout.splitlines()[-1]
        for python in ([sys.executable], [arm64, "cortex-a76"])
    ]
    assert pieces[0] == pieces[1] and len(pieces[0]) > 10
