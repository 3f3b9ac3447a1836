"""Videos through FFmpeg's libraries for real: frames, sizes, times and colours of what comes out."""

import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import DataError
from pipeline.predict import video
from pipeline.predict.looks import Looks
from pipeline.predict.segmenter import Segmenter
from pipeline.predict.source import Moving
from pipeline.predict.video import ahead, predict_video, usable_rate
from tests.support.again import again_where_it_fails

COLOURS = ((0, 0, 255), (255, 0, 0))
NETWORK = Segmenter(None, lambda image: (image[..., 1] > 128).astype(np.uint8), ("dark", "green"), COLOURS)
"""Makes its mask of the green channel, so that frames tell themselves apart."""


def film(path, frames=30, height=60, width=80, rate=10, begin=0):
    """Frame i is green in its left (i + 1) / frames; the first is shown after ``begin`` seconds."""
    av = pytest.importorskip("av", reason="no PyAV: pip install -r requirements-video.txt")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width, stream.pix_fmt, stream.bit_rate = height, width, "yuv420p", 4_000_000
        for i in range(frames):
            image = np.zeros((height, width, 3), np.uint8)
            image[:, : width * (i + 1) // frames, 1] = 255
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = i + begin * rate, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def frames_of(path):
    import av

    with av.open(str(path)) as container:
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


@pytest.mark.real
def test_a_file_is_opened_alone_whatever_it_names(tmp_path, monkeypatch):
    """A list of files (FFmpeg's concat) is no video; a colon in a name is no protocol."""
    monkeypatch.chdir(tmp_path)
    film(tmp_path / "a.mp4", frames=3)
    (tmp_path / "a.mp4").rename("a:b.mp4")
    with video._Source(Moving("a:b.mp4", "a", "a:b.mp4")) as source:
        assert sum(1 for _ in source.frames(None, video.Stopwatch())) == 3
    (tmp_path / "a:b.mp4").rename("a.mp4")
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile a.mp4\n")
    with pytest.raises(DataError, match="cannot be opened as a video"):
        video._Source(Moving("list.mp4", "list", "list.mp4")).__enter__()


@pytest.mark.real
@pytest.mark.parametrize(("height", "width"), [(60, 80), (61, 81)])
def test_every_frame_is_drawn_in_its_order_at_its_time(tmp_path, height, width):
    film(tmp_path / "in.mp4", height=height - height % 2, width=width - width % 2)
    moving = Moving("in.mp4", "in", str(tmp_path / "in.mp4"))
    messages: list[str] = []
    result = predict_video(moving, NETWORK, Looks(), tmp_path / "out", messages.append)
    assert result.files == (tmp_path / "out" / "in-overlay.mp4",) and result.frames == 30
    frames, drawn = frames_of(tmp_path / "in.mp4"), frames_of(result.files[0])
    assert len(drawn) == 30
    for i, ((at, image), (shown_at, overlay)) in enumerate(zip(frames, drawn, strict=True)):
        assert shown_at == pytest.approx(at, abs=0.002)
        green = (image[..., 1] > 128)[5:-5].mean()
        red = ((overlay[..., 0].astype(int) - overlay[..., 2]) > 0)[5:-5].mean()
        assert red == pytest.approx(green, abs=0.06), i
    assert set(result.part_ms) == {"decode", "infer", "draw", "encode"}


@pytest.mark.real
def test_a_recording_whose_clock_did_not_begin_at_0_is_drawn_from_its_first_frame_on(tmp_path):
    film(tmp_path / "in.ts", begin=3600)  # as of a broadcast, or of a camera, whose clock is that of its machine
    assert frames_of(tmp_path / "in.ts")[0][0] == pytest.approx(3600)
    moving = Moving("in.ts", "in", str(tmp_path / "in.ts"))
    result = predict_video(moving, NETWORK, Looks(), tmp_path / "out", lambda _: None, seconds=0.95)
    assert [at for at, _ in frames_of(result.files[0])] == pytest.approx([i / 10 for i in range(10)], abs=0.002)


@pytest.mark.real
@again_where_it_fails
def test_parts_overlap_so_the_whole_is_nearly_as_fast_as_the_slowest(tmp_path):
    import time

    film(tmp_path / "in.mp4", frames=60)

    def slow(image):
        time.sleep(0.02)  # an accelerator: the processor is free meanwhile
        return NETWORK.infer(image)

    network = Segmenter(None, slow, NETWORK.classes, COLOURS)
    moving, out = Moving("in", "in", str(tmp_path / "in.mp4")), Path(tempfile.mkdtemp(dir=tmp_path))
    result = predict_video(moving, network, Looks(), out, lambda _: None)
    assert result.slowest[0] == "infer"
    assert result.frames_per_second >= 0.9 * result.slowest[1]


@pytest.mark.real
def test_masks_are_pngs_seconds_limit_and_nothing_is_overwritten(tmp_path):
    from PIL import Image

    from pipeline.core.errors import RunError

    film(tmp_path / "in.mp4")
    moving = Moving("in.mp4", "in", str(tmp_path / "in.mp4"))
    result = predict_video(moving, NETWORK, Looks(("mask", "side")), tmp_path / "o", lambda _: None, seconds=0.95)
    masks = sorted((tmp_path / "o" / "mask").iterdir())
    assert result.frames == 10 and [m.name for m in masks] == [f"in-{i:06d}.png" for i in range(10)]
    assert np.asarray(Image.open(masks[9]))[30].mean() == pytest.approx(10 / 30, abs=0.02)
    before = result.files[0].read_bytes()
    with pytest.raises(RunError, match="is there already"):
        predict_video(moving, NETWORK, Looks(("side",)), tmp_path / "o", lambda _: None)
    assert result.files[0].read_bytes() == before and not list((tmp_path / "o").glob(".*"))


@pytest.mark.real
def test_a_broken_or_empty_video_is_a_sentence(tmp_path, cli):
    from tests.support.shipped import shipped

    _, artifact = shipped(tmp_path)
    film(tmp_path / "in.mp4")
    data = (tmp_path / "in.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.mp4").write_text("no video at all")
    for name in ("cut.mp4", "text.mp4"):
        result = cli("predict", name, "--model", str(artifact.path), cwd=tmp_path)
        assert result.returncode == 2 and name in result.stderr and "Traceback" not in result.stderr, result.stderr
    assert "text.mp4 is no image (.png, .jpg" in result.stderr
    assert not list(tmp_path.rglob("*.part"))


def test_without_pyav_a_video_says_what_to_install(tmp_path, cli, monkeypatch):
    import importlib.util

    from tests.support.shipped import shipped

    _, artifact = shipped(tmp_path)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "av" else real(name, *a))
    (tmp_path / "photo.heic").write_bytes(b"")
    result = cli("predict", "photo.heic", "--model", str(artifact.path), cwd=tmp_path)
    assert result.returncode == 2 and "pip install -r requirements-video.txt" in result.stderr
    assert "photo.heic is taken for a video, as images are .png, .jpg" in result.stderr


def test_work_ahead_keeps_the_order_passes_errors_on_and_ends_when_closed():
    assert list(ahead(iter(range(50)), 3)) == list(range(50))

    def fails():
        yield 1
        raise ValueError("here")

    results = ahead(fails(), 3)
    assert next(results) == 1
    with pytest.raises(ValueError, match="here"):
        next(results)
    asked: list[int] = []

    def counted():
        while True:
            asked.append(len(asked))
            yield asked[-1]

    endless = ahead(counted(), 2)
    next(endless)
    endless.close()
    count = len(asked)
    assert count < 10 and len(asked) == count


@pytest.mark.parametrize(
    ("told", "rate"),
    [
        ((Fraction(30000, 1001), None), Fraction(30000, 1001)),
        ((None, 10), 10),
        ((Fraction(10**9), 25), 25),
        ((Fraction(1, 10**9), None), 25),
        ((0, -5), 25),
        ((Fraction(120_000_000, 5_005_005),), Fraction(2997, 125)),
    ],
)
def test_a_rate_that_cannot_be_is_not_believed(told, rate):
    assert float(usable_rate(*told)) == pytest.approx(float(rate), rel=1e-6)
    ticks = usable_rate(*told) * video.TICKS_A_FRAME
    assert max(ticks.numerator, ticks.denominator) < 2**31


def test_frames_larger_than_an_image_may_be_are_refused(tmp_path, monkeypatch):
    film(tmp_path / "in.mp4", frames=2)
    monkeypatch.setattr(video, "MOST_PIXELS", 60 * 80 - 1)
    with pytest.raises(DataError, match="frames of 80x60 pixels; allowed are"):
        predict_video(Moving("in.mp4", "in", str(tmp_path / "in.mp4")), NETWORK, Looks(), tmp_path / "out", print)
    assert not list(tmp_path.glob("out/*.mp4"))
