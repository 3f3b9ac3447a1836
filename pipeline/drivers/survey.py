"""What a machine is, told by its shell alone: getprop, /proc and /sys. It needs no Python there."""

from __future__ import annotations

import re
from typing import Any

from pipeline.drivers.answers import HOTTEST_CELSIUS, MOST_BYTES, MOST_CORES, MOST_LOAD, decimal, whole_number, words
from pipeline.drivers.benchmark_model import Transport, shell
from pipeline.drivers.litert_worker import CPUS, FEATURES

MOST_ABIS, MOST_KHZ = 16, 100_000_000
"""No machine has more: an answer beyond is none."""
PROPERTIES = (
    "ro.soc.manufacturer",
    "ro.soc.model",
    "ro.board.platform",
    "ro.hardware",
    "ro.product.manufacturer",
    "ro.product.model",
    "ro.build.version.release",
    "ro.build.version.sdk",
    "ro.product.cpu.abilist",
)
STATE = f"""
for file in /proc/loadavg /proc/self/status {CPUS}/cpu[0-9]*/cpufreq/cpuinfo_max_freq \\
    {CPUS}/cpu[0-9]*/cpufreq/scaling_cur_freq /sys/class/thermal/thermal_zone*/type \\
    /sys/class/thermal/thermal_zone*/temp; do echo "@$file"; cat "$file"; done 2>/dev/null
echo @thermalservice; cat /sys/class/thermal/thermal_zone0/temp >/dev/null 2>&1 || dumpsys thermalservice 2>/dev/null
"""
MACHINE = f"""
for name in {" ".join(PROPERTIES)}; do echo "@$name"; getprop "$name"; done 2>/dev/null
for file in /proc/cpuinfo /proc/meminfo /sys/firmware/devicetree/base/model \\
    {CPUS}/cpu[0-9]*/cpufreq/scaling_governor; do echo "@$file"; cat "$file"; echo; done 2>/dev/null
echo @uname; uname -srm
echo @machine; uname -m
"""
PROCESSOR = re.compile("cpu|soc|big|mid|little", re.IGNORECASE)
"""Names of thermal zones that are of the processor; phones have others too, of the battery and the charger."""
SERVICE = re.compile(r"mValue=([-\d.]+), mType=\d+, mName=([^,]+)")
"""android.os.Temperature.toString, as `dumpsys thermalservice` prints it."""


def survey(machine: Transport) -> Survey:
    return Survey(machine.run(shell(MACHINE + STATE)).output)


def state(machine: Transport) -> dict[str, Any]:
    return Survey(machine.run(shell(STATE)).output).state()


class Survey:
    """The answers, by the name of what was asked."""

    def __init__(self, output: str) -> None:
        self.answers: dict[str, str] = {}
        for part in re.split(r"^@", output, flags=re.MULTILINE)[1:]:
            name, _, text = part.partition("\n")
            self.answers[name.strip()] = text.strip().strip("\0")

    def text(self, name: str) -> str | None:
        return words(self.answers.get(name))

    def number(self, name: str) -> int | None:
        return whole_number(self.answers.get(name, ""))

    def line(self, name: str, key: str) -> str | None:
        """The value of 'key : value' in a file of such lines."""
        match = re.search(rf"^{key}\s*:[ \t]*(.*)$", self.answers.get(name, ""), re.MULTILINE)
        return match[1].strip() if match else None

    def abis(self) -> tuple[str, ...]:
        """What its programs may be built for, the best first: Android's own list, else `uname -m`."""
        listed = self.answers.get("ro.product.cpu.abilist") or self.answers.get("machine") or ""
        return tuple(abi for part in listed.split(",")[:MOST_ABIS] if (abi := words(part)))

    def cores(self) -> list[int]:
        """Those that its shell may use, the fastest first; core 0 alone where it tells nothing that can be."""
        allowed: set[int] = set()
        for part in (self.line("/proc/self/status", "Cpus_allowed_list") or "").split(",")[:MOST_CORES]:
            low, dash, high = part.partition("-")
            first = whole_number(low, 0, MOST_CORES - 1)
            last = whole_number(high, 0, MOST_CORES - 1) if dash else first
            if first is None or last is None:
                return [0]
            allowed.update(range(first, last + 1))
        allowed = allowed or {0}
        return sorted(allowed, key=lambda core: (-(self._frequency("cpuinfo_max", core) or 0), -core))

    def _frequency(self, which: str, core: int) -> int | None:
        return self.number(f"{CPUS}/cpu{core}/cpufreq/{which}_freq")

    def state(self) -> dict[str, Any]:
        frequency = self._frequency("scaling_cur", self.cores()[0])
        return {
            "load_average_1min": decimal((self.answers.get("/proc/loadavg", "").split() or [""])[0], MOST_LOAD),
            "temperature_celsius": self._temperature(),
            "frequency_mhz": frequency / 1000 if frequency and 0 < frequency <= MOST_KHZ else None,
        }

    def _temperature(self) -> float | None:
        """The processor's hottest zone, else the hottest of all; from Android's own service where /sys is closed."""
        zones = [
            (self.answers.get(name.removesuffix("temp") + "type", ""), (self.number(name) or 0) / 1000)
            for name in self.answers
            if name.endswith("/temp")
        ] or self._thermal_service()
        real = [(name, value) for name, value in zones if 0 < value < HOTTEST_CELSIUS]  # some zones give volts, or -273
        return max((v for n, v in real if PROCESSOR.search(n)), default=max((v for _, v in real), default=None))

    def _thermal_service(self) -> list[tuple[str, float]]:
        found = SERVICE.findall(self.answers.get("thermalservice", ""))
        return [(name, decimal(value, HOTTEST_CELSIUS) or 0.0) for value, name in found]

    def describe(self) -> dict[str, Any]:
        """The keys of ``litert_worker.describe`` and Android's own; None where the machine does not tell."""
        soc = " ".join(filter(None, (self.text("ro.soc.manufacturer"), self.text("ro.soc.model"))))
        board = self.text("ro.board.platform") or self.text("ro.hardware")
        model = " ".join(filter(None, (self.text("ro.product.manufacturer"), self.text("ro.product.model"))))
        flags = (self.line("/proc/cpuinfo", "Features") or self.line("/proc/cpuinfo", "flags") or "").split()
        memory = whole_number((self.line("/proc/meminfo", "MemTotal") or "").removesuffix("kB"), 1, MOST_BYTES >> 10)
        named = self.line("/proc/cpuinfo", "Hardware") or self.line("/proc/cpuinfo", "model name")
        return {
            "model": words(model) or self.text("/sys/firmware/devicetree/base/model"),
            "cpu": words(soc) or board or words(named) or self.text("machine"),
            "cpu_features": [feature for feature in FEATURES if feature in flags],
            "cores": len(self.cores()),
            "governor": self.text(f"{CPUS}/cpu{self.cores()[0]}/cpufreq/scaling_governor"),
            "memory_bytes": 1024 * memory if memory else None,
            "system": self.text("uname"),
            "android": self.text("ro.build.version.release"),
            "android_api": self.number("ro.build.version.sdk"),
            "python": None,
            **self.state(),
        }
