"""Masks of a video or a camera as a video: decoding, inference, drawing and encoding overlap.

PyAV (FFmpeg's libraries) decodes and encodes; it is an optional group of requirements.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import queue
import sys
import threading
import time
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pipeline.core.errors import BadSpec, DataError
from pipeline.core.files import new_part
from pipeline.core.progress import track
from pipeline.core.say import Say
from pipeline.data.decode import MOST_PIXELS
from pipeline.data.images import IMAGE_SUFFIXES
from pipeline.measure.threads import over
from pipeline.predict.looks import SUFFIX, Kind, Looks, draw, encoded
from pipeline.predict.segmenter import Segmenter
from pipeline.predict.source import Moving
from pipeline.predict.stills import check_free, place, place_legend

INSTALL = "videos and cameras need PyAV, which is not installed: run `pip install -r requirements-video.txt`."
IMAGES = ", ".join(IMAGE_SUFFIXES)
FILMED: tuple[Kind, ...] = ("overlay", "side")
"""Pictures that become a video; masks are written a PNG a frame, since a video's compression changes ids."""
AHEAD = 4
"""Decoded frames that wait at most."""
DEFAULT_RATE = Fraction(25)
LEAST_RATE, MOST_RATE, MOST_RATE_DENOMINATOR = Fraction(1, 1000), 2000, 10_000
"""Frames a second that are believed: time-lapse cameras are slower than screens, and high-speed ones faster. With
TICKS_A_FRAME, the numbers of such a fraction have 31 bits, as FFmpeg wants."""
TICKS_A_FRAME = 100
"""Of a written video's clock: fine enough for frames at uneven times."""
CAMERAS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
"""FFmpeg's input format for cameras on each system."""
ONLY_FILES = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,matroska,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,obu,ivf,mjpeg,yuv4mpegpipe,asf,flv,"
    "ogg,mxf,nut,dv,rm,gif,apng",
}
"""What FFmpeg may detect in a video file, and read. Lists of other files and of addresses, as HLS and concat, are not
among it."""
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Filmed:
    """What became of a video.

    Attributes:
      frames_per_second: of the whole, measured here from the first frame to the last.
      part_ms: mean milliseconds a frame of each part, on the thread that does it, while the others run.
      ended: why it ended before the source did, in words; '' where it did not.
    """

    folder: Path
    files: tuple[Path, ...]
    frames: int
    frames_per_second: float
    part_ms: dict[str, float]
    ended: str = ""

    @property
    def slowest(self) -> tuple[str, float]:
        """(part, frames per second that it reaches alone on one thread)."""
        part = max(self.part_ms, key=self.part_ms.__getitem__)
        return part, 1000 / self.part_ms[part]


class Stopwatch:
    """Sums the time of parts, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[str, float] = {}
        self._times: dict[str, int] = {}

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        spent = time.perf_counter() - began
        with self._lock:
            self._seconds[part] = self._seconds.get(part, 0.0) + spent
            self._times[part] = self._times.get(part, 0) + 1

    def mean_ms(self) -> dict[str, float]:
        return {part: 1000 * seconds / self._times[part] for part, seconds in self._seconds.items()}


def predict_video(
    moving: Moving,
    network: Segmenter,
    looks: Looks,
    folder: Path,
    say: Say,
    *,
    force: bool = False,
    seconds: float | None = None,
) -> Filmed:
    """Writes ``folder/NAME-KIND.mp4``, or a PNG a frame for masks.

    ``seconds``: of a camera or video, at most. Ctrl-C ends a camera as if it had run out. Raises BadSpec, DataError,
    and RunError for a file that is there already, without ``force``. Sound is left out.
    """
    if importlib.util.find_spec("av") is None:
        taken_for = "" if moving.camera else f"{moving.title} is taken for a video, as images are {IMAGES}; "
        raise BadSpec(f"{taken_for}{INSTALL}")
    kinds = _kinds(looks)
    with _Source(moving) as source:
        name = "camera" if moving.camera else Path(moving.address).stem
        films = {kind: folder / f"{name}-{kind}.mp4" for kind in kinds if kind in FILMED}
        for path in films.values():
            check_free(path, force)
        place_legend(folder, network, force)
        watch = Stopwatch()

        def drawn(frame: Frame) -> tuple[Frame, dict[Kind, Any]]:
            with watch("infer"):
                mask = network.infer(frame.image)
            with watch("draw"):
                return frame, {kind: draw(kind, frame.image, mask, None, network, looks) for kind in kinds}

        frames = ahead(source.frames(seconds, watch), AHEAD)
        count, ended, began = 0, "", time.monotonic()
        with contextlib.ExitStack() as stack:
            stack.callback(frames.close)
            writers = {kind: stack.enter_context(_Film(path, source.rate)) for kind, path in films.items()}
            try:
                for frame, pictures_of in track(say, over(drawn, frames), "predict", source.count(seconds), "frames"):
                    with watch("encode"):
                        for kind, picture in pictures_of.items():
                            if kind in writers:
                                writers[kind].add(np.asarray(picture), frame.seconds)
                            else:
                                file = folder / kind / f"{name}-{count:06d}{SUFFIX[kind]}"
                                place(file, encoded(kind, picture), force)
                    count += 1
            except KeyboardInterrupt:
                if not moving.camera:
                    raise
                ended = "by Ctrl-C"
            if not count:
                raise DataError(f"{moving.title} holds no frame that can be decoded: name another file.")
            spent = time.monotonic() - began
        return Filmed(folder, tuple(films.values()), count, count / spent, watch.mean_ms(), ended)


def _kinds(looks: Looks) -> tuple[Kind, ...]:
    return looks.of(labelled=False) if looks.kinds is not None else ("overlay",)


@dataclasses.dataclass(frozen=True)
class Frame:
    """One picture of a video.

    Attributes:
      image: uint8 [h, w, 3] RGB, upright.
      seconds: when it is shown, after the first one; None: not told.
    """

    image: np.ndarray
    seconds: float | None


class _Source:
    """An open video or camera."""

    def __init__(self, moving: Moving) -> None:
        self._moving = moving

    def __enter__(self) -> _Source:
        import av

        what = self._moving.address
        try:
            if self._moving.camera:
                form = CAMERAS.get(sys.platform)
                what = f"/dev/video{what}" if form == "v4l2" and what.isdecimal() else what
                self._container = av.open(what, format=form)
            else:  # else FFmpeg takes what is before a colon for a protocol
                self._container = av.open(f"file:{what}", options=ONLY_FILES)
        except (OSError, ValueError) as error:  # FFmpeg's errors are both
            if self._moving.camera:
                raise DataError(f"camera {what} cannot be opened ({_words(error)}): name another.") from None
            raise DataError(
                f"{what} is no image ({IMAGES}), and cannot be opened as a video ({_words(error)}): convert it, or name"
                " another file."
            ) from None
        if not self._container.streams.video:
            self._container.close()
            raise DataError(f"{what} holds no video: name another file.")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        try:
            self._check_size(self._stream.width, self._stream.height)
        except DataError:
            self._container.close()
            raise
        self.rate = usable_rate(self._stream.average_rate, self._stream.base_rate)
        return self

    def _check_size(self, width: int, height: int) -> None:
        """Raises DataError for frames that are larger than an image may be."""
        if width * height > MOST_PIXELS:
            raise DataError(
                f"{self._moving.title} has frames of {width}x{height} pixels; allowed are {MOST_PIXELS / 1e6:.0f}"
                " million: scale it down."
            )

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def count(self, seconds: float | None) -> int | None:
        """How many frames the file says it has, at most those of ``seconds``; None where it does not say."""
        frames = self._stream.frames or None
        limit = None if seconds is None else max(1, round(seconds * self.rate))
        return min((n for n in (frames, limit) if n), default=None)

    def frames(self, seconds: float | None, watch: Stopwatch) -> Iterator[Frame]:
        decoded, began = iter(self._container.decode(self._stream)), time.monotonic()
        first: float | None = None  # a broadcast's clock begins anywhere, a camera's with its machine
        while True:
            with watch("decode"):
                try:
                    frame = next(decoded, None)
                except (OSError, ValueError) as error:
                    raise DataError(
                        f"{self._moving.title} cannot be decoded to its end ({_words(error)}): repair or cut it."
                    ) from None
                if frame is None:
                    return
                self._check_size(frame.width, frame.height)  # it may differ from what the header says
                image = _upright(frame)
            at = None if frame.time is None else float(frame.time)
            if at is not None:
                first = at if first is None else first
                at -= first
            now = time.monotonic() - began if self._moving.camera else at
            if seconds is not None and now is not None and now >= seconds:
                return
            yield Frame(image, at)


def usable_rate(*told: Fraction | int | None) -> Fraction:
    """The first rate that a video can have, as a fraction that FFmpeg can count in ticks; else DEFAULT_RATE."""
    rates = (Fraction(rate).limit_denominator(MOST_RATE_DENOMINATOR) for rate in told if rate)
    return next((rate for rate in rates if LEAST_RATE <= rate <= MOST_RATE), DEFAULT_RATE)


def _upright(frame: Any) -> np.ndarray:
    """RGB, turned as the video's display matrix says (FFmpeg's degrees are counter-clockwise)."""
    image: np.ndarray = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90) % 4)) if frame.rotation else image


def _words(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


class _Film:
    """An H.264 video being written; it is there once it is whole, or what there is of it after an error is removed."""

    def __init__(self, path: Path, rate: Fraction) -> None:
        self._path, self._rate = path, rate
        self._stream: Any = None
        self._last = -1

    def __enter__(self) -> _Film:
        import av

        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._part, self._file = new_part(self._path)
        self._container = av.open(self._file, "w", format="mp4")
        return self

    def add(self, image: np.ndarray, seconds: float | None) -> None:
        """``seconds``: when it is shown; None: one frame after the last."""
        import av

        even = np.pad(image, [(0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0)], mode="edge")  # as H.264 asks
        if self._stream is None:
            codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
            self._stream = self._container.add_stream(codec, rate=self._rate)
            self._stream.height, self._stream.width = even.shape[:2]
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = self._tick
            if codec == "libx264":
                self._stream.options = {"preset": "veryfast", "crf": "20"}
        frame = av.VideoFrame.from_ndarray(even, format="rgb24")
        place = self._last + TICKS_A_FRAME if seconds is None else round(seconds / self._tick)
        self._last = max(place, self._last + 1)
        frame.pts, frame.time_base = self._last, self._tick
        self._container.mux(self._stream.encode(frame))

    @property
    def _tick(self) -> Fraction:
        return 1 / (self._rate * TICKS_A_FRAME)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        complete = kind is None and self._stream is not None
        try:
            if complete:
                self._container.mux(self._stream.encode(None))
            self._container.close()
            self._file.flush()
            if complete:
                os.replace(self._part, self._path)
        finally:
            self._file.close()
            self._part.unlink(missing_ok=True)


def ahead(items: Iterator[T], depth: int) -> Generator[T, None, None]:
    """The items, worked out in a thread of their own, at most ``depth`` before they are asked for.

    What they raise is raised here. Closing ends the thread.
    """
    waiting: queue.Queue[tuple[bool, Any]] = queue.Queue(depth)
    closed = threading.Event()

    def put(entry: tuple[bool, Any]) -> None:
        while not closed.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put(entry, timeout=0.1)
                return

    def work() -> None:
        try:
            for item in items:
                put((True, item))
                if closed.is_set():
                    return
            put((False, None))
        except BaseException as error:
            put((False, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            more, item = waiting.get()
            if more:
                yield item
            elif item is None:
                return
            else:
                raise item
    finally:
        closed.set()
        thread.join()
