"""Coral's Edge TPU on this machine: libedgetpu's delegate in LiteRT.

Its names of one of several ('usb', 'usb:1', 'pci', 'pci:0'): coral.ai/docs/edgetpu/tflite-python. Only files that
edgetpu_compiler made run there; the CPU beside it runs the others, the float parent among them.
"""

from __future__ import annotations

import glob
import json
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.compilers.edgetpu_compiler import COMPILED_OP
from pipeline.core.device import Device, DeviceOptions, RunnerOptions
from pipeline.core.errors import ArtifactError, BadSpec, DeviceError, SegquantError
from pipeline.devices.host import WORKER
from pipeline.drivers import litert_worker
from pipeline.drivers.worker import Explain, WorkerRunner, check_readable, settings_of
from pipeline.tflite.read import read_file

TARGET = "edgetpu"
LIBRARY = "libedgetpu.so.1"
USB_IDS = ("1a6e:089a", "18d1:9302")
"""Of the USB Accelerator before and after its firmware is loaded: libedgetpu, driver/usb."""
USB, APEX = "/sys/bus/usb/devices", "/dev/apex_*"
SELECTOR = re.compile(r"(usb|pci)(:\d+)?")


def is_compiled(file: Path) -> bool:
    """Whether edgetpu_compiler made it; raises ArtifactError for no .tflite file."""
    _, graph = read_file(file)
    return any(op.name == COMPILED_OP for op in graph.ops)


def delegate(settings: DeviceOptions, selector: str = "") -> dict[str, Any]:
    """What ``litert_worker`` is told to run a compiled file."""
    return {"delegate": settings.delegate_library or LIBRARY, "options": {"device": selector} if selector else {}}


def attached() -> str | None:
    """The attached Edge TPUs in words. This user may still lack the permission to open one."""
    usb = 0
    for vendor in Path(USB).glob("*/idVendor"):
        try:
            usb += f"{vendor.read_text().strip()}:{(vendor.parent / 'idProduct').read_text().strip()}" in USB_IDS
        except OSError:  # unplugged just now
            continue
    counts = {"USB": usb, "PCI": len(glob.glob(APEX))}
    return ", ".join(f"{count} over {bus}" for bus, count in counts.items() if count) or None


def explain(
    file: Path,
    where: str,
    library: str,
    prefix: str = "",
    chips: Callable[[], str | None] = lambda: "one",
) -> Explain:
    """Turns what libedgetpu and LiteRT print when a part is missing into an error that says which, and what to do.

    ``where``: the machine in words; ``prefix``: what reaches it ('ssh HOST '); ``chips``: the chips attached to it.
    The messages: google-coral/edgetpu issues #214, #435; google-coral/pycoral #72; and LiteRT itself.
    """

    def explained(code: int, log: str) -> SegquantError | None:
        install = f"`{prefix}sudo apt-get install libedgetpu1-std` (Coral's Debian repository: coral.ai/software)"
        if absent := re.search(r"OSError: (\S+): cannot open shared object file", log):
            if absent[1] != library:
                return DeviceError(f"{library} on {where} needs {absent[1]}, which is not installed: install it there.")
            # The loader says the same of one for another processor.
            return DeviceError(
                f"{where} has no {library} for its processor: install it with {install}, or name another with"
                " --delegate-library."
            )
        if refused := re.search(r"OSError: .*(invalid ELF header|wrong ELF class|file too short).*", log):
            return DeviceError(
                f"{library} is not a library for {where} ({refused[1]}): give one built for its processor and system."
            )
        if "undefined symbol: tflite_plugin_create_delegate" in log:
            return DeviceError(f"{library} is not a LiteRT delegate: name libedgetpu with --delegate-library.")
        if "Failed to load delegate from" in log:
            if (chip := chips()) is None:
                return DeviceError(
                    f"{where} has no Edge TPU (neither USB {' or '.join(USB_IDS)} nor {APEX}): plug it in, and look"
                    f" with `{prefix}lsusb`."
                )
            return DeviceError(
                f"the Edge TPU of {where} ({chip} attached) cannot be opened: end the program that uses it, or let this"
                f" user open it (`{prefix}sudo usermod -aG plugdev $USER`, for PCI the group apex) and log in again."
            )
        if needs := re.search(r"requires runtime version \((\d+)\).*newer than this runtime version \((\d+)\)", log):
            return DeviceError(
                f"{file} was compiled for runtime {needs[1]}, and {where} has runtime {needs[2]}: {install} brings a"
                f" newer one, or compile again with `convert --compiler 'edgetpu_compiler -m {needs[2]}'`."
            )
        if "Unsupported data type in custom op handler" in log or (library and code == -signal.SIGSEGV):
            return DeviceError(
                f"{library} on {where} fails, as it does where it was built for another LiteRT than the one that loads"
                " it: name one built for this LiteRT with --delegate-library."
            )
        return None

    return explained


class EdgeTpu:
    identity = "host"  # its driver works on the CPU, and so do the ops that stay there

    def __init__(self, selector: str, settings: DeviceOptions) -> None:
        self._selector, self._settings = selector, settings

    def describe(self) -> dict[str, Any]:
        name = f"edgetpu:{self._selector}" if self._selector else "edgetpu"
        return {"device": name, **litert_worker.describe(), "edgetpu": attached()}

    def state(self) -> dict[str, Any]:
        return litert_worker.state()

    def open(self, file: Path, options: RunnerOptions) -> WorkerRunner:
        """Raises ArtifactError for a file of target edgetpu that is not compiled: it would run on the CPU."""
        settings = settings_of(options)
        if options.target == TARGET and not is_compiled(file):
            raise ArtifactError(
                f"{file} is not compiled, so it would not run on the Edge TPU: `python cli.py convert --target edgetpu`"
                " compiles it where edgetpu_compiler is, or measure it with --device host."
            )
        check_readable(file)
        if options.target == TARGET:
            settings |= delegate(self._settings, self._selector)
        says = explain(file, "this machine", settings.get("delegate", ""), chips=attached)
        return WorkerRunner(file, [sys.executable, str(WORKER), "run", str(file), json.dumps(settings)], says)

    def close(self) -> None:
        pass


def connect(selector: str, settings: DeviceOptions) -> EdgeTpu:
    if selector and not SELECTOR.fullmatch(selector):
        raise BadSpec(f"device edgetpu:{selector}: write edgetpu, edgetpu:usb, edgetpu:usb:0, edgetpu:pci:1 or so.")
    return EdgeTpu(selector, settings)


EDGETPU = Device(
    name="edgetpu",
    aliases=("coral", "edge-tpu", "tpu"),
    title="Coral Edge TPU of this machine, libedgetpu through LiteRT",
    rank=1,
    find=attached,
    missing=lambda: f"plug it in (neither USB {' or '.join(USB_IDS)} nor {APEX} is there)",
    connect=connect,
    selector_help="[:usb[:N]|:pci[:N]]",
    runs_compiled=(TARGET,),
    takes=("delegate_library",),
)
