"""Vela's command for each Ethos-U, and what it makes of the sizes of one generation."""

import re
import subprocess

import pytest

from pipeline.compilers.vela import INSTALL, Configuration, _rows, program
from pipeline.targets import targets
from tests.support.single_ops import cases, model

ETHOS = {name: target for name, target in targets().items() if target.configurations}
ALL = [(name, size) for name, target in ETHOS.items() for size in target.configurations]


def test_the_command_names_the_accelerator_the_system_and_the_memory():
    words = Configuration("ethos-u55-128", "Ethos_U55_High_End_Embedded", "Shared_Sram").arguments
    assert words == (
        *("--accelerator-config", "ethos-u55-128"),
        *("--system-config", "Ethos_U55_High_End_Embedded"),
        *("--memory-mode", "Shared_Sram"),
    )


@pytest.fixture(scope="module")
def vela():
    if (path := program()) is None:
        pytest.skip(f"Vela is not installed: {INSTALL}")
    return path


@pytest.mark.real
def test_the_sizes_are_those_that_vela_lists(vela):
    listed = subprocess.run([vela, "--help"], capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"(ethos-u\d+)-(\d+)", listed)) == set(ALL)


@pytest.mark.real
@pytest.mark.parametrize("name", ETHOS)
def test_each_size_is_compiled_for_itself_and_has_a_file_of_its_own(name, vela, tmp_path):
    file = tmp_path / "net.tflite"
    file.write_bytes(model(next(case for case in cases() if case.name == "conv 3x3")))
    plain = ETHOS[name].compile(file).path
    compiled = {size: ETHOS[name].with_selector(size).compile(file) for size in ETHOS[name].configurations}
    assert all(f"{name}-{size}:" in result.note for size, result in compiled.items())
    assert plain == compiled["256"].path and plain.name == "net_vela.tflite"
    assert all(r.path.name == f"net_{name}-{s}_vela.tflite" for s, r in compiled.items() if s != "256")
    assert len({result.path.read_bytes() for result in compiled.values()}) == len(compiled)


def test_a_summary_whose_field_does_not_end_is_none():
    assert _rows("a,b\n1,2\n") == [{"a": "1", "b": "2"}]
    assert _rows('a,b\n"' + 40 * ("x" * 3999 + "\n")) == []
