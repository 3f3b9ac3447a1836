"""A stranger's run with links to other folders: nothing is written through them."""

import pytest

from pipeline.core.contained import check_contained
from pipeline.core.errors import RunError
from pipeline.core.lock import FILE, writing
from pipeline.core.run import create
from pipeline.core.spec import ModelSpec
from pipeline.measure.saved import keep

SPEC = ModelSpec("fast-scnn", 192, 256, 2)


@pytest.fixture
def run(tmp_path):
    (tmp_path / "home" / "cpu").mkdir(parents=True)
    return create(tmp_path / "run", SPEC, "synthetic", ("a", "b"), ((0, 0, 0), (1, 2, 3)), 7)


def link(run, name, to="home"):
    (run.path / name).parent.mkdir(parents=True, exist_ok=True)
    (run.path / name).symlink_to(run.path.parent / to)


@pytest.mark.parametrize("to", ["home", "not-there-yet"])
@pytest.mark.parametrize(
    "name", ["float", "qat/resume", "qat/tensorboard", "measurements", "measurements/unfinished", "artifacts/cpu"]
)
def test_a_folder_that_leads_out_of_the_run_is_refused(run, name, to):
    link(run, name, to)
    with (
        pytest.raises(RunError, match=rf"run/{name} leads out of the run, to .*{to}, and nothing is written there"),
        writing(run.path, "train"),
    ):
        (run.path / name / "file").write_text("x")
    assert not (run.path / FILE).exists()
    with writing(run.path.parent / "another", "train"):  # nothing is held
        pass


def test_links_that_lead_nowhere_else_are_taken(run, tmp_path):
    (tmp_path / "alias").symlink_to(run.path)
    (run.path / "artifacts" / "cpu").mkdir(parents=True)
    link(run, "artifacts/latest", "run/artifacts/cpu")
    (tmp_path / "shared.h5").write_text("x")
    link(run, "float/best.weights.h5", "shared.h5")  # a file: replaced, not written through
    for path in (run.path, tmp_path / "alias"):
        check_contained(path)
        with writing(path, "convert"):
            pass


@pytest.mark.parametrize("command", ["report", "gate", "predict"])
def test_commands_that_need_no_lock_refuse_it_as_well(cli, run, tmp_path, command):
    for name in ("measurements", "predictions", "configuration"):
        link(run, name)
    more = {"report": (), "gate": ("--max-drop", "1"), "predict": ("synthetic",)}[command]
    result = cli(command, *more, "--run", "run", cwd=tmp_path)
    assert result.returncode == 2 and "leads out of the run" in result.stderr, result.stderr
    assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file()]


def test_a_report_is_not_written_through_a_link(cli, run, tmp_path):
    (tmp_path / "precious").write_text("x")
    link(run, "report.html", "precious")
    result = cli("report", "--run", "run", cwd=tmp_path)
    assert result.returncode == 2 and "run/report.html leads out of the run" in result.stderr, result.stderr
    assert (tmp_path / "precious").read_text() == "x" and not (tmp_path / "precious.1").exists()


def test_what_a_command_found_out_is_not_kept_through_a_link(run):
    file = run.path / "artifacts" / "cpu" / "network.tflite"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    link(run, "measurements")
    with pytest.raises(RunError, match="measurements leads out of the run"):
        keep("inspect", file, {})
