"""The Edge TPU as a device: what each missing part is told as, and the whole way with another delegate library."""

import os
import shutil
import subprocess

import numpy as np
import pytest

from pipeline.core.device import DeviceOptions, RunnerOptions
from pipeline.core.errors import ArtifactError, BadSpec, DeviceError
from pipeline.devices import connect, device, edgetpu
from pipeline.devices.edgetpu import explain, is_compiled
from pipeline.devices.host import HostRunner
from pipeline.drivers.worker import WorkerRunner
from tests.conftest import ROOT
from tests.measure.test_inspect import custom
from tests.support.single_ops import cases, model


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "net.tflite"
    path.write_bytes(model(next(case for case in cases() if case.name == "relu")))
    return path


@pytest.fixture
def compiled(tmp_path):
    """The same with its ReLU as an op of the Edge TPU."""
    path = tmp_path / "net_edgetpu.tflite"
    path.write_bytes(custom("edgetpu-custom-op"))
    return path


@pytest.fixture
def sys_and_dev(tmp_path, monkeypatch):
    """A /sys/bus/usb/devices and a /dev of one's own, both empty."""
    (tmp_path / "usb").mkdir()
    monkeypatch.setattr(edgetpu, "USB", str(tmp_path / "usb"))
    monkeypatch.setattr(edgetpu, "APEX", str(tmp_path / "apex_*"))

    def plug(name, ids):
        folder = tmp_path / "usb" / name
        folder.mkdir()
        for file, value in zip(("idVendor", "idProduct"), ids.split(":"), strict=True):
            (folder / file).write_text(value + "\n")

    return plug


def opening(file, target="edgetpu", selector="", **settings):
    with pytest.raises((DeviceError, ArtifactError)) as error:
        connect(f"edgetpu:{selector or 'usb'}", DeviceOptions(**settings)).open(file, RunnerOptions(1, target)).close()
    assert "\n" not in str(error.value)
    return f"{type(error.value).__name__}: {error.value}"


def test_what_is_plugged_in_is_found(sys_and_dev, tmp_path):
    assert edgetpu.attached() is None
    with pytest.raises(DeviceError, match=r"device edgetpu is not attached: plug it in \(neither USB 1a6e:089a or"):
        device("edgetpu")
    sys_and_dev("1-1", "1d6b:0002")
    assert edgetpu.attached() is None
    sys_and_dev("1-2", "1a6e:089a")
    sys_and_dev("2-1", "18d1:9302")
    assert edgetpu.attached() == "2 over USB"
    (tmp_path / "apex_0").touch()
    assert edgetpu.attached() == "2 over USB, 1 over PCI" and device("edgetpu")[0].name == "edgetpu"
    assert connect("edgetpu:pci:0").describe()["edgetpu"] == "2 over USB, 1 over PCI"


@pytest.mark.parametrize("selector", ["usb:", "usb:x", "pcie", "0", "usb:0;x", "USB"])
def test_a_name_that_is_none_is_refused(selector):
    with pytest.raises(BadSpec, match="write edgetpu, edgetpu:usb"):
        connect(f"edgetpu:{selector}")


def test_each_missing_part_is_one_sentence(plain, compiled, sys_and_dev, tmp_path):
    """For real, as far as there is no Edge TPU here."""
    assert is_compiled(compiled) and not is_compiled(plain)
    assert "net.tflite is not compiled" in opening(plain) and "--device host" in opening(plain)
    assert "ArtifactError" in opening(compiled, "cpu") and "uncompiled file" in opening(compiled, "cpu")
    no_library = (
        "this machine has no /no/edgetpu.so for its processor: install it with `sudo apt-get install libedgetpu1-std`"
    )
    assert no_library in opening(compiled, delegate_library="/no/edgetpu.so")
    (tmp_path / "text.so").write_text("not a library, though longer than the header of one would be\n" * 9)
    assert "text.so is not a library for this machine (invalid ELF header)" in opening(
        compiled, delegate_library=str(tmp_path / "text.so")
    )
    assert "is not a LiteRT delegate" in opening(compiled, delegate_library="libc.so.6")


def test_the_cpu_beside_it_runs_what_is_not_for_the_chip(plain):
    image = np.arange(-128, 128, dtype=np.int8).repeat(8).reshape(1, 16, 16, 8)
    runner = connect("edgetpu:usb:0").open(plain, RunnerOptions(1, "cpu"))
    assert np.array_equal(runner.infer(image), np.maximum(image, 0)) and runner.facts.runs_on == "XNNPACK"
    runner.close()


@pytest.mark.parametrize(
    ("printed", "attached", "message"),
    [
        ("OSError: libusb-1.0.so.0: cannot open shared object file: No such file", None, "needs libusb-1.0.so.0"),
        ("ValueError: Failed to load delegate from l.so\n\n", None, r"`ssh box lsusb`"),
        ("ValueError: Failed to load delegate from l.so\n\n", "1 over USB", r"1 over USB attached\) cannot be opened"),
        (
            "Failed precondition: Package requires runtime version (14), which is newer than this runtime version (13).",  # noqa: E501
            "x",
            r"runtime 14, and box has runtime 13.*edgetpu_compiler -m 13",
        ),
        (
            "RuntimeError: Internal: Unsupported data type in custom op handler: 24348008Node number 2",
            "x",
            "another LiteRT than the one",
        ),
    ],
)
def test_what_is_known_of_real_ones(printed, attached, message, plain):
    """The texts: google-coral/edgetpu issues 435 and 214, and LiteRT."""
    explained = explain(plain, "box", "l.so", "ssh box ", lambda: attached)
    with pytest.raises(DeviceError, match=message):
        raise explained(1, printed)
    assert explained(1, "RuntimeError: something else") is None
    assert "another LiteRT" in str(explained(-11, "")) and explain(plain, "box", "")(-11, "") is None


@pytest.fixture
def library(tmp_path):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: sudo apt-get install gcc")

    def build(*flags):
        path = tmp_path / f"lib{''.join(flags).replace('-', '')}.so"
        source = str(ROOT / "tests" / "support" / "delegate.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Werror", *flags, "-o", path, source], check=True)
        return str(path)

    return build


@pytest.mark.real
def test_a_compiled_file_runs_in_a_delegate(compiled, plain, library):
    """Another library, which knows the op: it gets the chip's name, takes the op, and its outputs come back."""
    rng = np.random.default_rng(0)
    images = [rng.integers(-128, 128, (1, 16, 16, 8), dtype=np.int8) for _ in range(5)]
    connection = connect("edgetpu:usb:1", DeviceOptions(delegate_library=library()))
    assert connection.describe()["device"] == "edgetpu:usb:1" and connection.identity == "host"
    runner = connection.open(compiled, RunnerOptions(1, "edgetpu"))
    with HostRunner(plain, 1) as host:
        for got, here in zip(runner.infer_many(images), map(host.infer, images), strict=True):
            assert np.array_equal(got, here) and len(np.unique(got)) > 100
    assert isinstance(runner, WorkerRunner)
    assert "option device=usb:1\n" in runner.log() and "takes 1 of 1 ops" in runner.log()
    assert runner.facts.runs_on == "lib.so" and len(runner.time(3).samples_ms) == 3
    runner.close()
    on_the_cpu = connect("edgetpu:usb:1").open(plain, RunnerOptions(1, "cpu"))
    assert isinstance(on_the_cpu, WorkerRunner) and "option" not in on_the_cpu.log()


@pytest.mark.real
def test_a_library_that_finds_no_chip_and_one_that_is_too_old(compiled, library, sys_and_dev):
    none, old = library("-DNO_DEVICE"), library("-DNEWER")
    assert "DeviceError: this machine has no Edge TPU (neither USB 1a6e:089a" in opening(
        compiled, delegate_library=none
    )
    sys_and_dev("1-2", "1a6e:089a")
    assert "(1 over USB attached) cannot be opened: end the program that uses it" in opening(
        compiled, delegate_library=none
    )
    assert "was compiled for runtime 14, and this machine has runtime 13" in opening(compiled, delegate_library=old)


@pytest.mark.real
def test_a_library_for_another_processor(compiled):
    arm64 = os.environ.get("SEGQUANT_ARM64", str(ROOT / ".arm64"))
    libraries = sorted((ROOT / arm64 / "root").glob("lib/aarch64-linux-gnu/libm.so.6"))
    if not libraries:
        pytest.skip(f"no ARM64 userland: `tests/support/arm64.sh {arm64}` makes it (300 MB, two minutes)")
    assert f"has no {libraries[0]} for its processor" in opening(compiled, delegate_library=str(libraries[0]))
