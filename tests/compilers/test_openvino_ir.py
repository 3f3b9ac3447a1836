"""OpenVINO's own file of an int8 network: what it takes, that it computes in 8 bits, and what runs it."""

import json
import re
import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest

import models
from pipeline.compilers import openvino_ir as openvino_reader
from pipeline.compilers.litert_aot import installed
from pipeline.core.device import RunnerOptions
from pipeline.core.errors import ArtifactError, CompilerError, DeviceError
from pipeline.core.mask import Grid
from pipeline.devices import connect
from pipeline.devices.host import HostRunner
from pipeline.heads.exact import exact_mask
from pipeline.measure.inspect import inspect
from pipeline.targets import target
from pipeline.tflite import artifact as artifacts
from pipeline.tflite.apply_rules import apply_rules
from pipeline.tflite.read import read
from tests.compilers.test_litert_aot import smooth_image
from tests.conftest import small_size
from tests.support.int8_networks import int8_network
from tests.support.npu_ops import ON_SOME_CPUS, more_cases
from tests.support.recipes import recipe
from tests.support.single_ops import cases, model

IR = target("openvino-ir")
needs_openvino = pytest.mark.skipif(installed("openvino") is None, reason=f"no OpenVINO: {openvino_reader.INSTALL}")


def written(tmp_path, data):
    return artifacts.write(tmp_path / "net.tflite", data, recipe("openvino-ir"))


def test_without_openvino_it_is_said_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(openvino_reader, "installed", lambda name: None)
    artifact = written(tmp_path, model(next(c for c in cases() if c.name == "relu")))
    result = IR.compile(artifact.path)
    assert result.path is None and "It needs `pip install -r requirements-openvino.txt`" in result.note
    answer = IR.ask(artifact.path, read(artifact.path.read_bytes()))
    assert answer.verdicts is None and "pip install -r requirements-openvino.txt" in answer.note
    with pytest.raises(
        DeviceError, match=r"not attached: install OpenVINO with `pip install -r requirements-openvino\.txt`"
    ):
        connect("host-openvino")


@pytest.mark.real
@needs_openvino
def test_openvino_takes_what_the_rules_say_of_single_ops(tmp_path):
    every, files, wrong = [*cases(), *more_cases()], [], []
    for number, case in enumerate(every):
        files.append(tmp_path / f"{number}.tflite")
        files[-1].write_bytes(model(case))
    answers = openvino_reader.refusals(files)
    assert len(answers) == len(every)
    for case, file, refused in zip(every, files, answers, strict=True):
        rule = apply_rules(read(file.read_bytes()), IR.rules)[0]
        if case.name in ON_SOME_CPUS:
            assert rule.outcome != "accelerated"
        elif (rule.outcome == "accelerated") != (refused is None):
            wrong.append(f"{case.name}: by rule {rule.outcome} ({rule.reason}), really {refused or 'taken'}")
    assert not wrong, "\n".join(wrong)
    assert answers.count(None) >= 280 and len(answers) - answers.count(None) >= 5


KERNELS = """
import json, sys
import openvino as ov
model = ov.Core().compile_model(sys.argv[1], "CPU").get_runtime_model()
infos = [op.get_rt_info() for op in model.get_ordered_ops()]
print(json.dumps([i["primitiveType"].value for i in infos if i["layerType"].value == "Convolution"]))
"""


def kernels_of(file):
    """OpenVINO's names for what computes each convolution, in order."""
    result = subprocess.run([sys.executable, "-c", KERNELS, str(file)], capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


def convolutions_in_8_bits(file):
    kernels = kernels_of(file)
    return sum(name.upper().endswith("I8") for name in kernels), len(kernels)


@pytest.mark.real
@needs_openvino
def test_the_camera_s_channels_are_not_for_amx(tmp_path):
    artifact = written(tmp_path, int8_network("fast-scnn", (161, 193), "logits"))
    compiled = IR.compile(artifact.path).path
    (tmp_path / "unasked").mkdir()
    unasked = tmp_path / "unasked" / compiled.name
    text = compiled.read_text()
    wish = re.search(r"<rt_info><attribute name=.primitives_priority.*?</rt_info>", text)[0]
    assert text.count(wish) == 1
    unasked.write_text(text.replace(wish, ""))
    unasked.with_suffix(".bin").write_bytes(compiled.with_suffix(".bin").read_bytes())
    (first, *others), (was, *were) = kernels_of(compiled), kernels_of(unasked)
    assert others == were and first == was.replace("_amx", "")
    image = smooth_image((1, 161, 193, 3))
    host = connect("host-openvino")
    with closing(host.open(compiled, RunnerOptions())) as asked, closing(host.open(unasked, RunnerOptions())) as plain:
        assert np.array_equal(asked.infer(image), plain.infer(image))


@pytest.mark.real
@needs_openvino
def test_every_convolution_is_in_8_bits_and_the_depthwise_ones_were_not(tmp_path):
    artifact = written(tmp_path, int8_network("fast-scnn", (161, 193), "logits"))
    graph = read(artifact.path.read_bytes())
    depthwise = sum(op.name == "DEPTHWISE_CONV_2D" for op in graph.ops)
    every = depthwise + sum(op.name == "CONV_2D" for op in graph.ops)
    compiled = IR.compile(artifact.path).path
    assert convolutions_in_8_bits(compiled) == (every, every)
    assert convolutions_in_8_bits(artifact.path) == (every - depthwise, every)


@pytest.mark.real
@needs_openvino
@pytest.mark.parametrize("output", ["logits", "mask"])
@pytest.mark.parametrize("network", sorted(models.networks()))
def test_our_networks_compute_nearly_what_litert_does(network, output, tmp_path):
    """OpenVINO does not round after each resize and pool, so it is not the same to the step."""
    size = small_size(network)
    artifact = written(tmp_path, int8_network(network, size, output))
    seen = inspect(artifact.path, IR)
    assert seen.real is not None and seen.disagreements == () and seen.coverage.partitions == 1
    compiled = IR.compile(artifact.path)
    assert compiled.path.name == "net_openvino.xml" and "weights in net_openvino.bin" in compiled.note
    image = smooth_image((1, *size, 3))
    runner = connect("host-openvino").open(compiled.path, RunnerOptions())
    with HostRunner(artifact.path, 1) as litert, closing(runner) as openvino:
        expected, got = litert.infer(image), openvino.infer(image)
        assert (openvino.facts.input_dtype, openvino.facts.output_dtype) == ("int8", expected.dtype.name)
        assert openvino.facts.output_scale == pytest.approx(litert.facts.output_scale)
        assert openvino.facts.output_zero_point == litert.facts.output_zero_point
        assert connect("host-openvino").describe()["runtime"] == f"OpenVINO {installed('openvino')}"
        assert openvino.facts.runs_on.startswith("its CPU plugin, what is not int8 in ")
        assert openvino.time(3).runs == 3 and openvino.peak_memory_bytes() > 1 << 20
    assert got.shape == expected.shape
    if output == "mask":
        assert (got == expected).mean() > 0.9
        return
    off = np.abs(got.astype(int) - expected)
    assert np.median(off) <= 2 and np.percentile(off, 99) <= 8, (np.median(off), off.max())
    assert (got.argmax(-1) == expected.argmax(-1)).mean() > 0.9 and len(np.unique(got)) > 20


@pytest.mark.real
@needs_openvino
def test_the_recipe_travels_in_openvino_s_file_and_a_broken_one_is_a_sentence(tmp_path):
    artifact = written(tmp_path, int8_network("fcn8", (72, 104), "logits"))
    compiled = IR.compile(artifact.path).path
    assert artifact.recipe.dumps()[1:20] in compiled.read_text().replace("&quot;", '"')
    compiled.write_text(compiled.read_text()[:5000])
    with pytest.raises(ArtifactError, match=r"OpenVINO does not run .*net_openvino\.xml \("):
        connect("host-openvino").open(compiled, RunnerOptions())
    refused = written(tmp_path / "refused", model(next(c for c in more_cases() if c.name == "relu n1 to 1")))
    with pytest.raises(CompilerError, match="No translator found for RELU_N1_TO_1 node"):
        IR.compile(refused.path)
    assert sorted(p.name for p in (tmp_path / "refused").iterdir()) == ["net.json", "net.tflite"]


@pytest.mark.real
@needs_openvino
def test_the_exact_mask_is_made_of_its_logits(tmp_path):
    data = int8_network("fast-scnn", (161, 193), "logits")
    artifact = written(tmp_path, data)
    compiled = IR.compile(artifact.path).path
    large = Grid(4000, 4000, "align_corners")
    host = connect("host-openvino")
    with (
        closing(host.open(compiled, RunnerOptions())) as plain,
        closing(host.open(compiled, RunnerOptions(mask=large))) as masked,
    ):
        image = smooth_image((1, 161, 193, 3))
        assert np.array_equal(plain.infer(image), masked.infer(image))
        assert exact_mask(plain.infer(image)[0], large).shape == large.size
        assert min(masked.time(20).samples_ms) > 1.5 * min(plain.time(20).samples_ms)
