"""The pages that follow from what is registered: every target and device has one, and none is stale."""

import pytest

from docs.tables import MARKED, ROOT, TABLES, unnamed, with_tables
from pipeline.devices import devices
from pipeline.targets import targets

PAGES = [("targets", name) for name in targets()] + [("devices", name) for name in devices()]


@pytest.mark.parametrize(("folder", "name"), PAGES, ids=lambda word: word)
def test_every_target_and_device_has_a_page_that_is_as_registered(folder, name):
    text = (ROOT / "docs" / folder / f"{name}.md").read_text()
    assert f"{folder[:-1]}-{name}" in {match["name"] for match in MARKED.finditer(text)}
    assert with_tables(text) == text, "run `python docs/tables.py`"
    assert f"({folder}/{name}.md)" in (ROOT / "docs" / f"{folder}.md").read_text()


def test_what_is_registered_and_not_written_about_is_found(monkeypatch):
    assert unnamed() == []
    monkeypatch.setattr("pipeline.devices.devices", lambda: {"toaster": None})
    assert "docs/devices/toaster.md is missing: write it" in unnamed()
    assert "docs/devices/host.md is of nothing registered" in unnamed()


def test_a_stale_table_is_seen():
    marked = "<!-- device-host: docs/tables.py -->\n| old |\n<!-- /device-host -->"
    assert with_tables(marked) != marked and "XNNPACK" in TABLES["device-host"]()
