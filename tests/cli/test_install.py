"""The command as users install it: a wheel, in an environment of its own, called from another folder."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PARTS = ("cli.py", "pipeline", "models", "calib", "results", "web", "pyproject.toml", "README.md", "LICENSE")
SKIPPED = shutil.ignore_patterns("node_modules", "__pycache__")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Its bin/. The packages that segquant requires are those of this environment."""
    home = tmp_path_factory.mktemp("installed")
    source, environment = home / "source", home / "venv"
    source.mkdir()
    for part in (*PARTS, *(file.name for file in ROOT.glob("requirements*.in"))):
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, source / part, ignore=SKIPPED)
        else:
            shutil.copy(ROOT / part, source / part)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(home), str(source)], home)
    (wheel,) = home.glob("*.whl")
    run([sys.executable, "-m", "venv", "--without-pip", str(environment)], home)
    python = environment / "bin" / "python"
    run([*pip[:3], "--python", str(python), *pip[3:], "install", "--no-deps", "--no-index", str(wheel)], home)
    (packages,) = environment.glob("lib/python*/site-packages")
    shared = next(path for path in sys.path if path.endswith("site-packages"))
    (packages / "shared.pth").write_text(f"{shared}\n")
    return environment / "bin"


def run(command, cwd):
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.real
def test_an_installed_segquant_is_the_same_program(installed, tmp_path):
    segquant = str(installed / "segquant")
    assert run([segquant, "--version"], tmp_path).startswith("segquant 0.")
    listed = run([segquant, "list"], tmp_path)
    assert all(name in listed for name in ("fast-scnn", "folder:DIR", "edgetpu", "android")), listed
    usage = run([segquant, "qat", "--help"], tmp_path)
    assert "Usage: segquant qat" in usage and "cli.py" not in usage + run([segquant, "--help"], tmp_path)
    assert "`segquant qat`" in run([segquant, "list", "--runs"], tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real
def test_its_data_came_along(installed, tmp_path):
    script = """
from pathlib import Path
import pipeline
from models.pretrained import pretrained
print(Path(pipeline.__file__).parents[1], *pretrained("fast-scnn").values(), sep="\\n")
"""
    home, *weights = map(Path, run([str(installed / "python"), "-c", script], tmp_path).splitlines())
    assert installed.parent in home.parents
    assert weights and all(home in file.parents and file.stat().st_size > 1 << 20 for file in weights)
    sources = [file for room in ("pipeline", "models", "calib") for file in (ROOT / room).rglob("*")]
    wanted = {file.relative_to(ROOT) for file in sources if file.is_file() and "__pycache__" not in file.parts}
    wanted |= {Path("web") / name for name in ("page.html", "package.json", "package-lock.json")}
    assert len(wanted) > 200 and not [str(file) for file in wanted if not (home / file).is_file()]


@pytest.mark.real
def test_bash_completes_it(installed, tmp_path):
    if shutil.which("bash") is None:
        pytest.skip("no bash: install bash")
    script = f"""
PATH={installed}:$PATH
eval "$(_SEGQUANT_COMPLETE=bash_source segquant)"
COMP_WORDS=(segquant convert --target ed) COMP_CWORD=3
_segquant_completion segquant
echo "${{COMPREPLY[@]}}"
"""
    assert run(["bash", "-c", script], tmp_path).strip() == "edgetpu"
