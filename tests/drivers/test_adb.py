"""Driving adb: what it says, by a stand-in for it that answers in adb's recorded words. For real: test_android.py."""

import os
import socket

import pytest

from pipeline.core.device import DeviceOptions, RunnerOptions
from pipeline.core.errors import DeviceError
from pipeline.devices import android, connect, device
from pipeline.drivers import adb
from tests.support.single_ops import small_file

FAKE = """#!/bin/sh
echo "$*" >>"$FAKE/calls"
case $1 in
    devices) cat "$FAKE/devices" ;;
    connect) cat "$FAKE/connect"; [ ! -e "$FAKE/connected" ] || cp "$FAKE/connected" "$FAKE/devices" ;;
    -s)
        [ ! -e "$FAKE/unplugged" ] || exit 0
        verb=$3
        shift 3
        case $verb in
            shell) exec sh -c "$*" ;;
            *) cat "$FAKE/copied"; exit 1 ;;
        esac ;;
esac
"""
STARTED = "* daemon not running; starting now at tcp:5037\n* daemon started successfully\n"
HEAD = "List of devices attached\n"
# `adb devices -l` of one phone, from its documentation (developer.android.com/tools/adb); the problems: transport.cpp
# (connection_state_name) and diagnose_usb.cpp of packages/modules/adb.
PIXEL = "37021FDJG0001        device usb:1-1 product:shiba model:Pixel_8 device:shiba transport_id:1\n"
NETWORK = "192.168.1.5:5555     device product:raven model:Pixel_6_Pro device:raven transport_id:2\n"
UNAUTHORIZED = "R58M12ABCDE          unauthorized usb:1-2 transport_id:3\n"
OFFLINE = "emulator-5554        offline transport_id:4\n"
FORBIDDEN = (
    "????????????         no permissions (user in plugdev group; are your udev rules wrong?); see"
    " [http://developer.android.com/tools/device.html] usb:1-3 transport_id:5\n"
)
RECOVERY = "0123456789ABCDEF     recovery usb:1-4 product:x model:X device:x transport_id:6\n"


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A folder that says what `adb` is to answer."""
    folder = tmp_path / "fake adb"
    folder.mkdir()
    (folder / "adb").write_text(FAKE)
    (folder / "adb").chmod(0o755)
    (folder / "devices").write_text(HEAD + PIXEL)
    (folder / "connect").write_text("")
    (folder / "calls").write_text("")
    monkeypatch.setenv("FAKE", str(folder))
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    monkeypatch.setattr(adb, "may_be_attached", lambda: True)
    monkeypatch.setattr(adb, "RETURN_SECONDS", 0.2)
    return folder


@pytest.mark.parametrize(
    "listed, selector, serial",
    [
        (PIXEL, "", "37021FDJG0001"),
        (UNAUTHORIZED + PIXEL, "", "37021FDJG0001"),
        (PIXEL + NETWORK, "192.168.1.5:5555", "192.168.1.5:5555"),
        (PIXEL + NETWORK, "37021FDJG0001", "37021FDJG0001"),
        (STARTED + PIXEL, "", "37021FDJG0001"),
    ],
)
def test_one_device_needs_no_name(fake, listed, selector, serial):
    started, listed = (STARTED, listed[len(STARTED) :]) if listed.startswith(STARTED) else ("", listed)
    (fake / "devices").write_text(started + HEAD + listed)
    assert adb.Phone(selector).name == f"android:{serial}"


@pytest.mark.parametrize(
    "listed, selector, sentence",
    [
        ("", "", "no Android device is attached: plug one in that has USB debugging"),
        (PIXEL + NETWORK, "", r"2 Android devices are attached: name one of android:37021FDJG0001 \(Pixel 8\), "),
        (PIXEL, "nosuch", "no device has the serial nosuch; attached: android:37021FDJG0001"),
        (UNAUTHORIZED, "", "android:R58M12ABCDE does not trust this computer yet: unlock it and accept"),
        (PIXEL + UNAUTHORIZED, "R58M12ABCDE", "does not trust this computer yet"),
        (OFFLINE, "", r"emulator-5554 does not answer \(offline\): unplug it"),
        (FORBIDDEN, "", "may not be opened by this user: `apt-get install android-sdk-platform-tools-common`"),
        (RECOVERY, "", "is in the state 'recovery': boot Android on it"),
    ],
)
def test_a_device_that_cannot_be_used_is_one_sentence(fake, listed, selector, sentence):
    (fake / "devices").write_text(HEAD + listed)
    with pytest.raises(DeviceError, match=sentence) as raised:
        android.connect(selector, DeviceOptions())
    assert str(raised.value).count("\n") == 0
    if not selector and "no Android" not in sentence and "2 Android" not in sentence:
        assert android.find() is None and android.missing() in str(raised.value)
        with pytest.raises(DeviceError, match=f"device android is not attached: .*{sentence}"):
            device("android")


def test_what_is_attached_is_found(fake):
    (fake / "devices").write_text(HEAD + PIXEL + UNAUTHORIZED + NETWORK)
    assert android.find() == "Pixel 8 (37021FDJG0001), Pixel 6 Pro (192.168.1.5:5555)"


def test_without_adb_the_command_that_installs_it_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert android.find() is None and "apt-get install adb" in android.missing()
    with pytest.raises(DeviceError, match="adb is not on PATH: run `apt-get install adb`"):
        connect("android:X")


def test_no_server_is_started_where_nothing_can_be_found(fake, monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setenv("FAKE", str(fake))
    monkeypatch.setenv("PATH", f"{fake}:{os.environ['PATH']}")
    for name in ("ANDROID_SERIAL", "ADB_SERVER_SOCKET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(adb, "USB", tmp_path / "usb")
    interface(tmp_path / "usb" / "1-2:1.0", "03", "01", "01")
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(server.getsockname()[1]))
        assert android.find() == "Pixel 8 (37021FDJG0001)"  # a server is there, so it may be asked
    (fake / "calls").write_text("")
    assert android.find() is None and "USB debugging" in android.missing()
    assert not (fake / "calls").read_text()
    interface(tmp_path / "usb" / "1-1:1.0", "ff", "42", "01")
    assert android.find() == "Pixel 8 (37021FDJG0001)" and (fake / "calls").read_text()


def interface(folder, *numbers):
    """A USB interface as Linux shows it: class, subclass and protocol."""
    folder.mkdir(parents=True)
    for name, number in zip(("Class", "SubClass", "Protocol"), numbers, strict=True):
        (folder / f"bInterface{name}").write_text(f"{number}\n")


def test_a_usb_port_with_an_android_device_is_known(tmp_path):
    interface(tmp_path / "1-1:1.0", "ff", "42", "01")
    interface(tmp_path / "1-2:1.0", "03", "01", "01")
    assert [adb._is_adb(tmp_path / name) for name in ("1-1:1.0", "1-2:1.0", "none")] == [True, False, False]


@pytest.mark.parametrize(
    "printed, sentence",
    [
        # printed by Debian 12's adb 29.0.6, which exits with 0; the second by adb of 2023 (client/adb_client.cpp)
        ("failed to connect to '10.0.0.1:5555': Connection refused\n", "adb cannot connect to 10.0.0.1:5555 .*refused"),
        ("failed to resolve host: 'nowhere': Name or service not known\n", "adb cannot connect to .*not known"),
        ("failed to authenticate to 10.0.0.1:5555\n", "does not trust this computer yet"),
    ],
)
def test_adb_connect_is_believed_by_its_words(fake, printed, sentence):
    (fake / "connect").write_text(printed)
    (fake / "connected").write_text(HEAD + UNAUTHORIZED.replace("R58M12ABCDE ", "10.0.0.1:5555"))
    with pytest.raises(DeviceError, match=sentence):
        adb.Phone("10.0.0.1:5555")
    assert ("disconnect 10.0.0.1:5555" in (fake / "calls").read_text()) == ("authenticate" in printed)


def test_a_connection_over_the_network_is_taken_back(fake):
    (fake / "connect").write_text("* daemon started successfully\nconnected to 192.168.1.5:5555\n")
    (fake / "connected").write_text(HEAD + PIXEL + NETWORK)
    adb.Phone("192.168.1.5:5555").close()
    assert (fake / "calls").read_text().splitlines()[-1] == "disconnect 192.168.1.5:5555"
    adb.Phone("192.168.1.5:5555").close()  # it was there already
    assert (fake / "calls").read_text().splitlines()[-1] == "devices -l"


HOSTILE = ["$(touch pwned)", "a b", "'", '"', "; touch pwned;", "`touch pwned`", "*", "-n", "\\", "&& touch pwned", "é"]


def test_no_word_reaches_a_shell_unquoted(fake, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    client = adb.Phone("")
    assert client.run(["printf", "%s\\n", *HOSTILE]).output == "\n".join([*HOSTILE, ""])
    assert client.run(["sh", "-c", "echo no newline at the end | tr -d '\\n'; exit 7"]) == (7, "no newline at the end")
    serial = "$(touch pwned)'; touch pwned #"
    with pytest.raises(DeviceError, match="no device has the serial"):
        connect(f"android:{serial}")
    assert not list(tmp_path.rglob("pwned"))


def test_a_device_that_goes_away_is_noticed_though_adb_exits_with_0(fake):
    client = adb.Phone("")
    (fake / "unplugged").touch()
    with pytest.raises(
        DeviceError, match="android:37021FDJG0001 went away while a program ran on it: plug it in again"
    ):
        client.run(["true"])


# printed by Debian 12's adb 29.0.6 against adbd 34
FULL = "adb: error: failed to copy 'm' to '/data/local/tmp/m': remote write failed: No space left on device\n"
DENIED = "adb: error: failed to copy 'm' to '/x': remote couldn't create file: Permission denied\n"


@pytest.mark.parametrize(
    "printed, after, sentence",
    [
        (FULL, PIXEL, "the disk of android:37021FDJG0001 is full: free some space"),
        (DENIED, PIXEL, "adb cannot push .* to /x .*Permission denied"),
        ("adb: error: failed to read copy response\n", PIXEL.replace(" device ", " offline "), "went away while files"),
        ("adb: error: device '37021FDJG0001' not found\n", "", "went away while files"),
    ],
)
def test_a_copy_that_fails_is_one_sentence(fake, tmp_path, printed, after, sentence):
    client = adb.Phone("")
    (fake / "copied").write_text(printed)
    (fake / "devices").write_text(HEAD + after)
    with pytest.raises(DeviceError, match=sentence):
        client.push(tmp_path, "/x")


def test_a_server_that_does_not_work_is_one_sentence(fake):
    """The words of client/adb_client.cpp: an older server is ended, and that can fail."""
    (fake / "adb").write_text(
        '#!/bin/sh\necho "adb server version (41) doesn\'t match this client (39); killing..."\n'
        "echo '* failed to start daemon'\necho 'error: cannot connect to daemon' >&2\nexit 1\n"
    )
    with pytest.raises(DeviceError, match=r"an adb server of another version \(41, this adb is 39\) is in its way"):
        adb.Phone("")
    assert android.find() is None and "adb kill-server" in android.missing()


def test_adb_cannot_hang_for_ever(fake):
    (fake / "adb").write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(DeviceError, match=r"did not finish in 0.2 s.*adb kill-server"):
        adb.adb(["devices"], 0.2)


def test_no_build_is_published_for_every_processor(fake, monkeypatch, tmp_path):
    (fake / "getprop").write_text("#!/bin/sh\n[ $1 != ro.product.cpu.abilist ] || echo riscv64\n")
    (fake / "getprop").chmod(0o755)
    connection = connect("android")
    with pytest.raises(DeviceError, match=r"no benchmark_model is published for android:37021FDJG0001 \(riscv64\)"):
        connection.open(small_file(tmp_path), RunnerOptions())
    (fake / "getprop").write_text("#!/bin/sh\n[ $1 != ro.product.cpu.abilist ] || echo arm64-v8a,armeabi-v7a\n")
    asked = []

    def published(build):
        asked.append(build)
        return tmp_path / "none"

    monkeypatch.setattr(android, "benchmark_model", published)
    with pytest.raises(DeviceError, match="none cannot be read"):
        connect("android").open(small_file(tmp_path), RunnerOptions())
    assert asked == ["android_aarch64"]
