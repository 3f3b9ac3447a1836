"""LiteRT.js in a headless Chromium. The core tests read the rules; `make test-real` installs both and asks them."""

import shutil

import numpy as np
import pytest

from pipeline.compilers import browser
from pipeline.compilers.browser import ask_files, missing
from pipeline.core.errors import CompilerError
from pipeline.measure.inspect import inspect
from pipeline.targets import target
from pipeline.targets.web import on_webgpu
from pipeline.tflite.apply_rules import apply_rules
from pipeline.tflite.read import read
from tests.support.gpu_ops import gpu_cases
from tests.support.single_ops import cases, conv, model


@pytest.fixture(scope="module")
def chromium():
    if missing() is not None:
        pytest.skip(f"LiteRT.js is not ready: run `{missing()}`")


@pytest.mark.parametrize(
    ("case", "taken", "words"),
    [
        ("conv float", True, ""),
        ("conv 3x3", False, "input is int8; LiteRT.js takes float32, int32, uint8"),
        ("quantize float", False, "output is int8"),
        ("argmax float", True, ""),
        ("half add", False, "float16"),
        ("argmax float int64", False, "output is int64"),
        ("float softmax beta", False, "beta 2"),
    ],
)
def test_a_file_needs_ends_that_litert_js_has_arrays_for(case, taken, words):
    graph = read(model(next(c for c in (*cases(), *gpu_cases()) if c.name == case)))
    verdict = apply_rules(graph, target("web").rules)[0]
    assert (verdict.outcome == "accelerated") == taken and words in verdict.reason


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(browser, "HOME", tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert missing() == browser.INSTALL_BROWSER and "chromium" in missing()
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/true")
    assert missing() == "npm ci --prefix web"
    (file := tmp_path / "x.tflite").write_bytes(model(conv("c", "float32")))
    seen = inspect(file, target("web"))
    assert seen.real is None and "`npm ci --prefix web`" in seen.real_note
    (tmp_path / "node_modules/@litertjs/core").mkdir(parents=True)
    (tmp_path / "node_modules/@litertjs/core/package.json").write_text("{}")
    assert missing() is None
    monkeypatch.setattr(browser, "TIMEOUT_SECONDS", 1)
    with pytest.raises(CompilerError, match=r"/usr/bin/true ended at once"):
        ask_files([file], "wasm")


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    """'float32' and 'int8' inside → a file of one random network that gives masks, its ends float32; 'int8 as it is'
    without rewrites."""
    from calib.ranges import measure
    from pipeline.quantize.plan import plan
    from pipeline.quantize.to_tflite import to_tflite
    from pipeline.rewrites.apply import rewrite
    from tests.compilers.test_gpu import balanced
    from tests.conftest import noise_images

    network, home, files = balanced("fast-scnn"), tmp_path_factory.mktemp("web"), {}
    planned = plan(network)
    ranges = planned.share(measure(network, planned.points, lambda: (x[None] for x in noise_images(network))))
    for weights in ("float32", "int8"):
        files[weights] = home / f"{weights}.tflite"
        data = to_tflite(network, ranges, target("web").with_weights(weights).file_spec("mask"))
        files[weights].write_bytes(rewrite(data, target("web"))[0])
        files[f"{weights} as it is"] = home / f"{weights} as it is.tflite"
        files[f"{weights} as it is"].write_bytes(data)
    assert files["float32"].read_bytes() == files["float32 as it is"].read_bytes()
    return files


@pytest.mark.real
@pytest.mark.parametrize("on", ["wasm", "webgpu"])
@pytest.mark.parametrize("weights", ["float32", "int8", "int8 as it is"])
def test_the_browser_gives_the_mask_that_the_host_gives(chromium, masks, weights, on):
    from tests.compilers.test_gpu import on_cpu

    file = masks[weights]
    graph = read(file.read_bytes())
    height, width = graph.tensors[graph.inputs[0]].shape[1:3]
    coarse = np.random.default_rng(3).random((1, height // 8 + 1, width // 8 + 1, 3))
    x = coarse.repeat(8, 1).repeat(8, 2)[:, :height, :width].astype(np.float32)
    (answer,) = ask_files([file], on, x)
    assert not answer.error and answer.output is not None, answer
    expected = on_cpu(file, x)
    shares = np.bincount(expected.ravel(), minlength=5) / expected.size
    assert shares.max() < 0.8 and (shares > 0.02).sum() >= 3, shares  # else agreement means nothing
    assert answer.output.dtype == expected.dtype
    same = (answer.output.reshape(expected.shape) == expected).mean()
    if (weights, on) == ("int8 as it is", "webgpu"):
        assert 0.98 <= same < 0.999  # what the rewrites are for
    else:
        assert same >= (1 if weights == "int8" else 0.999), same


@pytest.mark.real
@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_webgpu_takes_the_whole_network(chromium, masks, weights):
    seen = inspect(masks[weights], target("web"))
    assert seen.real_coverage.ops_accelerated == seen.real_coverage.ops and not seen.disagreements, seen.real_note
    assert "LiteRT.js 2.5.3" in seen.real_note and "WebAssembly: runs all of it" in seen.real_note


@pytest.mark.real
def test_int8_ends_are_refused_with_its_own_words(chromium, tmp_path):
    (file := tmp_path / "x.tflite").write_bytes(model(conv("c")))
    seen = inspect(file, target("web"))
    assert seen.real[0].outcome == "refused" and seen.real[0].reason == "Element type INT8 is not supported."
    assert not seen.disagreements


@pytest.mark.real
def test_webgpu_does_what_the_rules_say(chromium, tmp_path):
    from tests.compilers.test_gpu import KNOWN_DISAGREEMENTS

    corpus = [c for c in (*cases(), *gpu_cases()) if "int8" not in (c.output.dtype, c.inputs[0].dtype)]
    files = []
    for i, case in enumerate(corpus):
        files.append(tmp_path / f"{i}.tflite")
        files[-1].write_bytes(model(case))
    wrong, answers = {}, {True: 0, False: 0}
    for case, file, reply in zip(corpus, files, on_webgpu(files), strict=True):
        rule, real = (
            apply_rules(read(file.read_bytes()), target("web").rules)[0],
            not reply.error and reply.taken is None,
        )
        answers[real] += 1
        if (rule.outcome == "accelerated") != real and case.name not in KNOWN_DISAGREEMENTS:
            wrong[case.name] = f"by rule {rule.outcome} ({rule.reason}), by LiteRT.js {reply}"
    assert not wrong, wrong
    assert answers[True] >= 110 and answers[False] >= 40
