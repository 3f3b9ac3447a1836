"""This machine as a device: a worker process in LiteRT."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from conftest import noise_images, scrambled

from pipeline.convert import tflite_bytes
from pipeline.devices import device
from pipeline.devices.host import HostRunner, describe
from pipeline.fold import fold
from pipeline.nouns.errors import ArtifactError, UnknownName


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("host") / "net with space.tflite"
    path.write_bytes(tflite_bytes(fold(scrambled("fcn8")), "float32"))
    return path


def test_the_worker_gives_what_litert_gives(file):
    images = noise_images(scrambled("fcn8"))
    interpreter = Interpreter(model_path=str(file))
    interpreter.allocate_tensors()
    with HostRunner(file, 1) as runner:
        assert (runner.facts.input_dtype, runner.facts.output_dtype) == ("float32", "float32")
        for image in images:
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
            interpreter.invoke()
            expected = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
            assert np.array_equal(runner.infer(image[None]), expected)
        times = runner.time_ms(7)
        assert times.shape == (7,) and (times > 0).all()
        assert 1 << 20 < runner.peak_memory_bytes() < 1 << 31
        with pytest.raises(ArtifactError, match="takes float32, it was given uint8"):
            runner.infer(images[:1].astype(np.uint8))


def test_files_that_cannot_run_are_errors_not_crashes(file, tmp_path):
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(ArtifactError, match="broken or truncated"):
        HostRunner(broken, 1)
    with pytest.raises(ArtifactError, match="cannot be read"):
        HostRunner(tmp_path / "none.tflite", 1)


def test_a_worker_that_dies_is_reported(file):
    runner = HostRunner(file, 1)
    runner._process.kill()
    with pytest.raises(ArtifactError, match="cannot run.*SIGKILL"):
        runner.infer(noise_images(scrambled("fcn8"))[:1])


def test_the_machine_is_described():
    facts = describe()
    assert facts["cores"] >= 1 and "ai-edge-litert" in facts["runtime"] and facts["cpu"]


def test_the_best_device_is_one_that_is_attached():
    assert device("best").find() is not None
    with pytest.raises(UnknownName, match="did you mean 'host'"):
        device("hosst")
