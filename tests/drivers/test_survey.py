"""What a machine tells through its shell: a phone's answers, and this machine's own against what Python says of it."""

import os
import platform
import subprocess

from pipeline.drivers import litert_worker, survey
from pipeline.drivers.benchmark_model import CommandResult

CPU = "/sys/devices/system/cpu"


def answers(**properties):
    return "".join(f"@{name}\n{text}\n" for name, text in properties.items())


# The forms of /proc/cpuinfo on arm64 (arch/arm64/kernel/cpuinfo.c), of /proc/meminfo and of sysfs (Linux 5.15), and of
# `dumpsys thermalservice` (frameworks/base, android.os.Temperature.toString).
PHONE = {
    "ro.soc.manufacturer": "Google",
    "ro.soc.model": "Tensor G3",
    "ro.board.platform": "zuma",
    "ro.product.manufacturer": "Google",
    "ro.product.model": "Pixel 8",
    "ro.build.version.release": "14",
    "ro.build.version.sdk": "34",
    "ro.product.cpu.abilist": "arm64-v8a,armeabi-v7a,armeabi",
    "/proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 49.15\nFeatures\t: fp asimd evtstrm asimddp sve i8mm\n"
    "CPU implementer\t: 0x41\n\nprocessor\t: 1\nFeatures\t: fp",
    "/proc/meminfo": "MemTotal:        7785432 kB\nMemFree:          200000 kB",
    "/proc/self/status": "Name:\tcat\nCpus_allowed:\t1f\nCpus_allowed_list:\t0-3,8",
    "/proc/loadavg": "3.25 2.10 1.00 2/3000 12345",
    f"{CPU}/cpu0/cpufreq/cpuinfo_max_freq": "1704000",
    f"{CPU}/cpu1/cpufreq/cpuinfo_max_freq": "1704000",
    f"{CPU}/cpu2/cpufreq/cpuinfo_max_freq": "2367000",
    f"{CPU}/cpu3/cpufreq/cpuinfo_max_freq": "2367000",
    f"{CPU}/cpu8/cpufreq/cpuinfo_max_freq": "2914000",
    f"{CPU}/cpu8/cpufreq/scaling_cur_freq": "1500000",
    f"{CPU}/cpu8/cpufreq/scaling_governor": "sched_pixel",
    f"{CPU}/cpu0/cpufreq/scaling_governor": "powersave",
    "uname": "Linux 5.15.110-android14 aarch64",
    "machine": "aarch64",
}
ZONES = {
    "/sys/class/thermal/thermal_zone0/type": "BIG",
    "/sys/class/thermal/thermal_zone1/type": "LITTLE",
    "/sys/class/thermal/thermal_zone2/type": "battery",
    "/sys/class/thermal/thermal_zone3/type": "cpu-off",
    "/sys/class/thermal/thermal_zone0/temp": "47500",
    "/sys/class/thermal/thermal_zone1/temp": "41000",
    "/sys/class/thermal/thermal_zone2/temp": "55000",
    "/sys/class/thermal/thermal_zone3/temp": "-273000",
    "/sys/class/thermal/thermal_zone4/type": "soc-volt",
    "/sys/class/thermal/thermal_zone4/temp": "850000",
}
SERVICE = """Cached temperatures:
\tTemperature{mValue=39.5, mType=0, mName=CPU0, mStatus=0}
\tTemperature{mValue=44.0, mType=2, mName=battery, mStatus=0}
\tTemperature{mValue=4.2, mType=6, mName=vbat, mStatus=0}"""


def test_a_phone_is_described():
    phone = survey.Survey(answers(**PHONE, **ZONES))
    assert phone.abis() == ("arm64-v8a", "armeabi-v7a", "armeabi")
    assert phone.cores() == [8, 3, 2, 1, 0]
    assert phone.describe() == {
        "model": "Google Pixel 8",
        "cpu": "Google Tensor G3",
        "cpu_features": ["asimd", "asimddp", "i8mm", "sve"],
        "cores": 5,
        "governor": "sched_pixel",
        "memory_bytes": 7785432 * 1024,
        "system": "Linux 5.15.110-android14 aarch64",
        "android": "14",
        "android_api": 34,
        "python": None,
        "load_average_1min": 3.25,
        "temperature_celsius": 47.5,
        "frequency_mhz": 1500.0,
    }


def test_temperatures_come_from_where_they_can_be_read():
    assert survey.Survey(answers(thermalservice=SERVICE)).state()["temperature_celsius"] == 39.5
    battery = {name: text for name, text in ZONES.items() if "zone2" in name}
    assert survey.Survey(answers(**battery)).state()["temperature_celsius"] == 55
    assert survey.Survey("").state() == {
        "load_average_1min": None,
        "temperature_celsius": None,
        "frequency_mhz": None,
    }


def test_what_is_not_told_is_none():
    phone = survey.Survey(answers(machine="armv7l", **{"ro.product.cpu.abilist": "", "ro.soc.model": ""}))
    facts = phone.describe()
    assert phone.abis() == ("armv7l",) and facts["cpu"] == "armv7l" and facts["cores"] == 1
    assert {facts[name] for name in ("model", "governor", "memory_bytes", "system", "android", "android_api")} == {None}


class Here:
    name = "here"

    def run(self, words, timeout_seconds=60):
        result = subprocess.run(words, capture_output=True, text=True, check=False)
        return CommandResult(result.returncode, result.stdout)

    def command(self, words):
        return None

    def push(self, local, remote):
        raise NotImplementedError

    def pull(self, remote, local):
        raise NotImplementedError


def test_this_machine_is_told_as_python_tells_it():
    machine, expected = survey.survey(Here()), litert_worker.describe()
    facts = machine.describe()
    for key in ("cpu_features", "cores", "memory_bytes", "system", "governor"):
        assert facts[key] == expected[key], key
    assert machine.cores() == litert_worker.cores() and machine.abis() == (platform.machine(),)
    assert set(expected) - {"runtime"} <= set(facts)
    assert abs(survey.state(Here())["load_average_1min"] - os.getloadavg()[0]) < 5
