"""`list --runs`: what each run holds, and that a broken one hides none."""

import json

import pytest

from pipeline.core.files import write_atomically
from pipeline.core.run import create, latest
from pipeline.core.runs import summaries, summary
from pipeline.core.spec import ModelSpec
from pipeline.core.training import FloatResult, QatResult
from tests.support.measurements import measured

SPEC = ModelSpec("fast-scnn", 192, 256, 2)


def make(path):
    return create(path, SPEC, "synthetic", ("a", "b"), ((0, 0, 0), (1, 2, 3)), 7)


def bench(run, name, percent, median_ms):
    write_atomically(run.measurements / name, json.dumps(measured(percent, median_ms).to_json()).encode())


def test_a_run_tells_its_trainings_files_and_newest_measurement(tmp_path):
    run = make(tmp_path / "a")
    assert summary(run).state == "nothing trained" and summary(run).artifacts == ()
    run.float_training.begin({})
    assert summary(run).state == "float began"
    run.float_training.finish(FloatResult(71.5, parent="x", parent_sha256="0"))
    run.qat_training.begin({})
    run.qat_training.finish(QatResult(72.25, 9.0, kept_step=0))
    for name in ("cpu/x.tflite", "cpu/y.tflite", "web/x.tflite", "float32/x.tflite"):
        write_atomically(run.path / "artifacts" / name, b"x")
    bench(run, "bench-cpu-1.json", 70, 2.5)
    overview = summary(run)
    assert overview.state == "float 71.50 %, QAT 72.25 % (start kept)"
    assert overview.artifacts == (("cpu", 2), ("web", 1)) and overview.measured == "cpu: 70.00 %, 2.50 ms on host"
    bench(run, "bench-cpu-2.json", 71, None)
    assert summary(run).measured == "cpu: 71.00 %"
    write_atomically(run.measurements / "bench-cpu-3.json", b'{"target": "cpu"}')
    assert summary(run).measured == "cpu: 71.00 %"


HUGE = """{"schema": 1, "model": {"network": "fast-scnn", "height": 1000000000, "width": 192, "num_classes": 2}}"""


@pytest.mark.parametrize(
    "broken", ["{", '{"schema": 99}', "[]", "null", "[" * 100_000, '{"schema": 1}', HUGE, "\udcff"]
)
def test_a_broken_run_is_listed_and_hides_no_other(broken, tmp_path):
    make(tmp_path / "b")
    make(tmp_path / "a")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "run.json").write_text(broken, errors="surrogateescape")
    (tmp_path / "no run").mkdir()
    newest = latest(tmp_path)
    assert newest is not None and newest.path.name == "a"
    overviews = summaries(tmp_path)
    assert [each.path.name for each in overviews] == ["a", "b", "c"]
    assert overviews[2].run is None and overviews[2].state.startswith("broken: ") and "run.json" in overviews[2].state


def test_a_measurement_that_is_gone_or_nonsense_hides_no_other(tmp_path):
    run = make(tmp_path / "a")
    bench(run, "bench-cpu-1.json", 70, 2.5)
    (run.measurements / "bench-cpu-2.json").symlink_to(tmp_path / "gone")
    (run.measurements / "bench-cpu-3.json").mkdir()
    write_atomically(run.measurements / "bench-cpu-4.json", b"[" * 100_000)
    assert summary(run).measured == "cpu: 70.00 %, 2.50 ms on host"


def test_a_broken_result_is_told_of_the_run_that_holds_it(tmp_path):
    run = make(tmp_path / "a")
    write_atomically(run.float_dir / "result.json", b"{")
    assert summary(run).state == "float broken"


def test_the_command(cli, tmp_path):
    result = cli("list", "--runs", cwd=tmp_path)
    assert result.returncode == 0 and "there is no run" in result.stdout
    make(tmp_path / "runs" / "mine")
    (tmp_path / "runs" / "lost").mkdir()
    (tmp_path / "runs" / "lost" / "run.json").write_text("{")
    result = cli("list", "--runs", cwd=tmp_path)
    assert result.returncode == 0 and "runs/mine" in result.stdout and "192x256" in result.stdout, result.stderr
    assert "runs/lost  broken: " in result.stdout
