"""What an artifact is made from: the QAT network of a run, also where its float parent has changed since."""

import h5py
import pytest

from pipeline.convert.parent import choose_parent
from pipeline.core.calibration import CalibrationRecord, Quantization
from pipeline.core.files import sha256
from pipeline.core.run import create
from pipeline.core.spec import ModelSpec
from pipeline.core.training import FloatResult, QatResult, StartingRanges
from pipeline.targets import target


@pytest.mark.parametrize("changed", [False, True])
def test_a_qat_network_of_earlier_float_weights_is_reported(tmp_path, changed):
    run = create(tmp_path / "run", ModelSpec("fast-scnn", 168, 176, 3), "folder:x", "abc", [], 0)
    run.float_dir.mkdir()
    run.float_training.best.write_bytes(b"earlier")
    run.float_training.finish(FloatResult(50.0))
    run.qat_training.begin({"per_tensor": False, "parent_sha256": sha256(run.float_training.best)})
    run.qat_training.write_start(StartingRanges({}, CalibrationRecord("min-max", "first", "train", ("a",), "00")))
    with h5py.File(run.qat_training.best, "w") as file:
        file.attrs["segquant_ranges"] = "{}"
    run.qat_training.finish(QatResult(50.0, 1.0, kept_step=1))
    if changed:
        run.float_training.best.write_bytes(b"trained again")
    lines: list[str] = []
    assert choose_parent(run, target("cpu"), Quantization(), lines.append).method == "qat"
    assert len(lines) == changed and all("has changed since" in line and "qat --force" in line for line in lines)
