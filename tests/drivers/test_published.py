"""Fetching benchmark_model once: from a server here that breaks off, refuses, or has something else."""

import http.server
import json
import os
import threading

import numpy as np
import pytest

from pipeline.core.errors import DeviceError
from pipeline.core.files import sha256
from pipeline.drivers import published

FILE = b"\x7fELF" + np.random.default_rng(0).bytes(300_000)


class Server(http.server.ThreadingHTTPServer):
    """Serves ``data``. ``breaks``: after how many bytes the next answers end. ``leads_to``: instead."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.data, self.status = FILE, 200
        self.breaks: list[int] = []
        self.leads_to = ""
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def place(self):
        return f"http://127.0.0.1:{self.server_address[1]}/latest"


class Answer(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        assert isinstance(server, Server)
        server.asked.append(self.path)
        if server.status != 200:
            self.send_error(server.status)
            return
        if server.leads_to and "elsewhere" not in self.path:
            self.send_response(302)
            self.send_header("Location", server.leads_to)
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(server.data)))
        self.end_headers()
        self.wfile.write(server.data[: server.breaks.pop(0) if server.breaks else None])


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(published, "PAUSE_SECONDS", 0)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    serving = Server()
    yield serving
    serving.shutdown()
    serving.server_close()


def get(server, folder):
    return published.benchmark_model("android_aarch64", server.place, folder)


def test_it_is_fetched_once_and_its_sha256_recorded(server, tmp_path):
    file = get(server, tmp_path / "new")
    assert file.read_bytes() == FILE and file.name == "android_aarch64_benchmark_model"
    record = json.loads((tmp_path / "new" / f"{file.name}.json").read_text())
    assert record["sha256"] == sha256(FILE) and record["url"].endswith("/latest/android_aarch64_benchmark_model")
    assert get(server, tmp_path / "new") == file and len(server.asked) == 1
    assert sorted(os.listdir(tmp_path / "new")) == [file.name, f"{file.name}.json"]  # no .part stays
    for broken, text in ((FILE[:-1] + b"x", record), (FILE, {}), (FILE, "[")):
        file.write_bytes(broken)
        file.with_name(f"{file.name}.json").write_text(text if isinstance(text, str) else json.dumps(text))
        with pytest.raises(
            DeviceError, match="is not what was downloaded .*delete it; the next command downloads it again"
        ):
            get(server, tmp_path / "new")
    file.unlink()
    assert get(server, tmp_path / "new").read_bytes() == FILE


def test_a_download_that_breaks_off_is_tried_again(server, tmp_path):
    server.breaks = [100_000, 200_000]
    assert get(server, tmp_path).read_bytes() == FILE and len(server.asked) == 3


def test_what_does_not_come_whole_is_not_kept(server, tmp_path):
    server.breaks = [1_000, 2_000, 3_000]
    with pytest.raises(DeviceError, match=r"cannot be fetched \(the connection ended after 3000 of 300004 bytes\)"):
        get(server, tmp_path)
    assert not (tmp_path / "android_aarch64_benchmark_model").exists()
    server.data = b"\x7fELF" + FILE[4:][::-1][:900]  # a newer and shorter one by then
    assert get(server, tmp_path).read_bytes() == server.data


def test_a_network_that_is_not_there_is_a_sentence(server, tmp_path):
    server.status = 404
    with pytest.raises(
        DeviceError, match=r"cannot be fetched \(.*Not Found.*fetch http://.* elsewhere and give it with"
    ):
        get(server, tmp_path)
    assert len(server.asked) == 1  # asking again would not help
    server.status = 503
    with pytest.raises(DeviceError, match="Service Unavailable"):
        get(server, tmp_path)
    assert len(server.asked) == 4
    with pytest.raises(DeviceError, match=r"cannot be fetched \(.*Connection refused.*--benchmark-binary"):
        published.benchmark_model("android_arm", "http://127.0.0.1:9", tmp_path)


def test_a_server_that_leads_to_an_unprotected_address_is_not_followed(server, tmp_path):
    server.leads_to = f"http://localhost:{server.server_address[1]}/elsewhere"
    with pytest.raises(DeviceError, match=r"leads to http://localhost:\d+/elsewhere, and the way there is not protect"):
        get(server, tmp_path)
    assert len(server.asked) == 2 and not any(file.stat().st_size for file in tmp_path.iterdir())
    server.leads_to = server.place.replace("latest", "elsewhere")
    assert get(server, tmp_path).read_bytes() == FILE


def test_a_download_without_end_is_ended(server, tmp_path, monkeypatch):
    monkeypatch.setattr(published, "MOST_BYTES", 100_000)
    monkeypatch.setattr(published, "CHUNK_BYTES", 10_000)
    with pytest.raises(DeviceError, match=r"cannot be fetched \(the download is larger than"):
        get(server, tmp_path)
    assert len(server.asked) == 1 and not any(file.stat().st_size for file in tmp_path.iterdir())


def test_a_page_to_log_in_is_not_taken_for_the_program(server, tmp_path):
    server.data = b"<html>Welcome to our hotel</html>"
    with pytest.raises(DeviceError, match="the download is not a program"):
        get(server, tmp_path)
    server.data = FILE
    assert get(server, tmp_path).read_bytes() == FILE


def test_a_cache_that_cannot_be_written_is_a_sentence(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DeviceError, match=r"cannot be written or read \(Not a directory\): name another cache"):
        get(server, tmp_path / "file" / "folder")


def test_the_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert published.cache() == tmp_path / "segquant"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert published.cache() == tmp_path / ".cache" / "segquant"
