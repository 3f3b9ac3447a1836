"""The live page's camera in a real Chromium: what goes wrong while it starts. The network is a stand-in."""

import functools
import http.server
import threading
import time
from pathlib import Path

import pytest

import pipeline.bundle
from pipeline.compilers.browser import browser
from tests.support.chromium import chromium

PAGE = Path(pipeline.bundle.__file__).parent / "parts" / "browser"
NETWORK = """
const description = {classes: ["a"], colours: [[255, 0, 0]], file: "x.tflite", input: {width: 1, height: 1}};
export const check = async () => ({passed: true, text: "PASSED"});
export const load = async () => ({description, infer: async () => 0, mask: (_, h, w) => new Uint8Array(h * w)});
"""
CAMERA = """
const canvas = document.createElement("canvas");
canvas.getContext("2d").fillRect(0, 0, 8, 8);
const tracks = [];
let play;
navigator.mediaDevices.getUserMedia = async () => {
  const stream = canvas.captureStream();
  tracks.push(...stream.getTracks());
  return stream;
};
HTMLMediaElement.prototype.play = () => new Promise((resolve, reject) => play = {resolve, reject});
"""
"""A camera whose pictures come, or do not, when the test says so."""
DROP = """new Promise((done) => {
  const drawn = document.createElement("canvas");
  [drawn.width, drawn.height] = [5, 3];
  drawn.getContext("2d").fillRect(0, 0, 5, 3);
  drawn.toBlob((blob) => {
    const data = new DataTransfer();
    data.items.add(new File([blob], "photo.png", {type: "image/png"}));
    document.dispatchEvent(new DragEvent("drop", {dataTransfer: data, cancelable: true}));
    done();
  });
})"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    (folder / "segment.js").write_text(NETWORK)
    (folder / "live.js").write_text((PAGE / "live.js").read_text())
    before = '<script type="importmap">'
    page = (PAGE / "index.html").read_text().replace(before, f"<script>{CAMERA}</script>{before}")
    (folder / "index.html").write_text(page)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}/index.html"
        server.shutdown()


@pytest.fixture
def tab(address):
    if browser() is None:
        pytest.skip("no browser: install chromium")
    with chromium() as opened:
        opened(f"location.assign({address!r})")
        until(opened, "window.segquant !== undefined")
        opened("segquant.ready.then(() => true)")
        yield opened


def until(tab, done):
    end = time.monotonic() + 60
    while not tab(done):
        assert time.monotonic() < end, done
        time.sleep(0.05)


BUTTON, STATUS = (f"document.getElementById('{name}').textContent" for name in ("camera", "status"))


@pytest.mark.real
def test_a_camera_whose_pictures_may_not_be_played_is_closed_and_says_why(tab):
    tab("document.getElementById('camera').click()")
    until(tab, "play !== undefined")
    tab("play.reject(new Error('it is not allowed'))")
    until(tab, f"{STATUS} !== ''")
    assert "it is not allowed" in tab(STATUS) and tab(BUTTON) == "Start the camera"
    assert tab("tracks.every((track) => track.readyState === 'ended')") and tab.problems == []


@pytest.mark.real
def test_an_image_that_is_dropped_while_the_camera_starts_is_shown_and_stays(tab):
    tab("document.getElementById('camera').click()")
    until(tab, "play !== undefined")
    tab(DROP)
    tab("play.resolve()")
    until(tab, "segquant.shown() !== undefined")
    time.sleep(0.3)
    assert tab("[segquant.shown().image.width, segquant.frames]") == [5, 0]
    assert tab(BUTTON) == "Start the camera" and tab.problems == []
