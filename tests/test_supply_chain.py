"""What is installed and downloaded: pinned by hash, by https, under a licence that is listed."""

import json
import re

import pytest

from docs import dependencies
from pipeline.core.errors import DeviceError
from pipeline.drivers import published
from tests.conftest import ROOT

LOCKED = sorted(ROOT.glob("requirements*.txt"))


@pytest.mark.parametrize("file", LOCKED, ids=lambda file: file.stem)
def test_each_requirement_is_pinned_with_its_hashes(file):
    entries = re.sub(r"\\\n", " ", file.read_text())
    lines = [line for line in entries.splitlines() if line.strip() and not line.startswith("#")]
    assert lines and not [line[:60] for line in lines if "==" not in line or "--hash=sha256:" not in line]


def test_each_package_of_the_page_in_the_browser_is_pinned_with_its_hash():
    packages = json.loads((ROOT / "web" / "package-lock.json").read_text())["packages"]
    for name, entry in packages.items():
        assert not name or (
            entry.get("resolved", "https://").startswith("https://") and entry["integrity"].startswith("sha512-")
        ), name


def test_the_licences_that_are_listed_are_those_of_what_is_installed():
    assert dependencies.main(check=True) == 0, "run python docs/dependencies.py"


def test_a_licence_that_is_not_told_is_asked_for(monkeypatch):
    monkeypatch.setattr(dependencies, "TOLD_ELSEWHERE", {})
    with pytest.raises(LookupError, match="namex tells no licence"):
        dependencies.licence_of("namex")


def test_nothing_is_downloaded_without_https(tmp_path):
    assert published.PLACE.startswith("https://")
    with pytest.raises(DeviceError, match="https"):
        published.benchmark_model("android_arm", "http://example.com/latest", tmp_path)
    assert not list(tmp_path.iterdir())
