"""Messages say what is typed here: in the checkout `python cli.py`, after an installation `segquant`."""

import importlib.metadata
import re
import sys

import pytest
from packaging.requirements import Requirement

from pipeline.core import command
from tests.conftest import ROOT

MESSAGE = "run `python cli.py qat`, `pip install -r requirements-ethos.txt` and `npm ci --prefix web`"


def test_in_the_checkout_messages_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/x/cli.py", "qat"])
    assert command.as_called(MESSAGE) == MESSAGE


@pytest.mark.parametrize(
    ("mark", "how"),
    [
        ("pipx_metadata.json", "pipx inject segquant"),
        ("uv-receipt.toml", "uv pip install --python"),
        ("", "-m pip install"),
    ],
)
def test_installed_they_name_the_command_and_the_packages(mark, how, monkeypatch, tmp_path):
    requires = ["numpy>=2", 'ethos-u-vela==5.2.0; extra == "ethos"', 'av==18.1.0; extra == "video"']
    monkeypatch.setattr(sys, "argv", ["/bin/segquant", "qat"])
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: requires)
    command.install_extra.cache_clear()
    if mark:
        (tmp_path / mark).write_text("")
    message = command.as_called(MESSAGE)
    command.install_extra.cache_clear()
    assert (
        "`segquant qat`" in message and how in message and "ethos-u-vela==5.2.0`" in message and "av==" not in message
    )
    assert f"--prefix {ROOT / 'web'}" in message


def test_the_bounds_of_the_package_hold_what_is_locked():
    """pip refuses `-c`, so what is bounded for users and what `make lock` resolved are two files."""
    locked = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    lines = [line for line in (ROOT / "requirements.in").read_text().splitlines() if line and line[0] != "#"]
    assert len(lines) > 10
    for line in lines:
        needed = Requirement(line)
        assert needed.specifier.contains(locked[needed.name.replace(".", "-").lower()]), line
        assert any(part.operator in ("==", "<") for part in needed.specifier), f"{line} has no upper bound"
    extras = re.findall(r"\{ file = \[\"(requirements-\w+\.in)\"\] \}", (ROOT / "pyproject.toml").read_text())
    assert len(extras) == 6
    for name in extras:
        assert not re.search(r"^-", (ROOT / name).read_text(), re.MULTILINE), f"{name}: setuptools reads no options"
