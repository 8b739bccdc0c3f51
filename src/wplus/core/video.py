"""Write videos of any length frame by frame: mp4 (H.264, plays everywhere) with ffmpeg, and GIF with Pillow.

All writers take batches of images, hold at most one in memory, write to a temporary name and rename it at the end, so
that no partial video appears. Small images are enlarged by an integer factor; odd sides are made even by repeating the
last row or column, because H.264's usual pixel format halves the colour resolution.
"""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, BinaryIO, TypeVar

import imageio_ffmpeg
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from PIL.GifImagePlugin import getdata
from torch import Tensor

from wplus.core.files import ensure_folder
from wplus.core.images import as_uint8, save_png
from wplus.errors import UserError, check_choice

WATCHABLE_PX = 256
Own = TypeVar("Own", bound="VideoWriter")


def upscale_factor(upscale: int | str, size: int) -> int:
    """The integer factor by which images of `size` pixels (longer side) are enlarged: `upscale` itself, or with "auto"
    as much as fits in 256 pixels."""
    if upscale == "auto":
        return max(1, WATCHABLE_PX // size)
    if not isinstance(upscale, int) or upscale < 1:
        raise UserError(f"upscale must be auto or a whole number from 1, got {upscale}.")
    return upscale


def check_writing(*, fps: float = 30.0, upscale: int | str = "auto", frames: str = "drop") -> None:
    """UserError for invalid options of `video_writers`."""
    if not fps > 0:
        raise UserError(f"fps must be above 0, got {fps}.")
    upscale_factor(upscale, WATCHABLE_PX)
    check_choice("frames", frames, ("drop", "keep"))


def video_frames(images: Tensor, *, upscale: int | str) -> Tensor:
    """Images (B, C, H, W), uint8 or float in [-1, 1] -> uint8 (B, H', W', 3): enlarged, even-sized, grey as RGB.

    An alpha channel is dropped: videos have none.
    """
    frames = as_uint8(images).cpu()
    frames = frames.expand(-1, 3, -1, -1) if frames.shape[1] == 1 else frames[:, :3]
    factor = upscale_factor(upscale, max(frames.shape[2:]))
    frames = frames.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
    height, width = frames.shape[2:]
    if height % 2 or width % 2:
        frames = F.pad(frames.float(), (0, width % 2, 0, height % 2), mode="replicate").to(torch.uint8)
    return frames.permute(0, 2, 3, 1).contiguous()


class VideoWriter:
    """A context manager with `add(images)`; the file appears at `path` once the block ends without an error."""

    def __init__(self, path: str | Path, *, fps: float = 30.0, upscale: int | str = "auto") -> None:
        self.path, self.fps, self.upscale, self.num_frames = Path(path), fps, upscale, 0
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")

    def add(self, images: Tensor) -> None:
        """Append images (B, C, H, W), uint8 or float in [-1, 1], of the same size in all calls."""
        for frame in video_frames(images, upscale=self.upscale).numpy():
            self._append(frame)
            self.num_frames += 1

    def __enter__(self: Own) -> Own:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            self._finish()
            if kind is None and self.num_frames:
                os.replace(self._temporary, self.path)
        except OSError as reason:
            # The encoder's final message best explains why a frame could not be written.
            error = reason if kind is None or issubclass(kind, OSError) else error
        finally:
            self._temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UserError(f"Cannot write '{self.path}': {error.strerror or error}.") from error

    def _append(self, frame: np.ndarray) -> None:
        raise NotImplementedError

    def _finish(self) -> None:
        raise NotImplementedError


def find_ffmpeg() -> str:
    """The path of an ffmpeg that writes H.264; UserError states what is missing."""
    advice = "install one (pip install imageio-ffmpeg), or name one in IMAGEIO_FFMPEG_EXE."
    try:
        path = imageio_ffmpeg.get_ffmpeg_exe()
        asked = subprocess.run([path, "-hide_banner", "-h", "encoder=libx264"], capture_output=True, text=True)
    except (RuntimeError, OSError) as error:
        raise UserError(f"mp4 needs ffmpeg, and there is none that starts ({error}): {advice}") from error
    if "Encoder libx264" not in asked.stdout:
        raise UserError(f"mp4 needs ffmpeg with libx264, which '{path}' lacks: {advice}")
    return path


class Mp4Writer(VideoWriter):
    """H.264 in yuv420p at constant quality, colours tagged BT.709."""

    # x264's scale: 0 is lossless, 18 counts as visually lossless, 51 is the worst.
    CRF = 18
    _COLOURS = ("-vf", "scale=out_color_matrix=bt709:out_range=tv", "-colorspace", "bt709",
                "-color_primaries", "bt709", "-color_trc", "bt709")  # fmt: skip

    def __init__(self, path: str | Path, *, fps: float = 30.0, upscale: int | str = "auto") -> None:
        super().__init__(path, fps=fps, upscale=upscale)
        self._ffmpeg = find_ffmpeg()
        self._process: subprocess.Popen[bytes] | None = None

    def _append(self, frame: np.ndarray) -> None:
        if self._process is None:
            size = ["-s", f"{frame.shape[1]}x{frame.shape[0]}", "-r", f"{self.fps:g}"]
            command = [self._ffmpeg, "-y", "-nostdin", "-loglevel", "error",
                       "-f", "rawvideo", "-pix_fmt", "rgb24", *size, "-i", "-",
                       "-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", str(self.CRF), *self._COLOURS,
                       "-movflags", "+faststart", "-f", "mp4", str(self._temporary)]  # fmt: skip
            # Not a pipe: it is not read while frames are written, and a full pipe would block both sides.
            self._messages: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed in _finish)
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=self._messages)
        assert self._process.stdin is not None
        self._process.stdin.write(frame.data)

    def _finish(self) -> None:
        if self._process is None:
            return
        with contextlib.suppress(BrokenPipeError):  # it died earlier; its own message follows
            assert self._process.stdin is not None
            self._process.stdin.close()
        status = self._process.wait()
        with self._messages as messages:
            messages.seek(0)
            lines = messages.read().decode(errors="replace").strip().splitlines()
        if status:
            raise OSError(lines[-1] if lines else f"ffmpeg stopped with status {status}")


class GifWriter(VideoWriter):
    """A looping GIF with a separate palette for every frame, compressed one by one.

    GIF delays are in hundredths of a second, and players slow down below two of them: rounding is spread over the
    frames, and anything above 50 frames per second plays at 50.
    """

    _file: BinaryIO | None = None

    def _append(self, frame: np.ndarray) -> None:
        if self._file is None:
            self._file = open(self._temporary, "wb")  # noqa: SIM115 (closed in _finish)
            size = struct.pack("<HH", frame.shape[1], frame.shape[0])
            # Version, size, no global palette; then the extension that makes players loop forever.
            self._file.write(b"GIF89a" + size + b"\x70\x00\x00" + b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")
        # Pillow's default, median cut, loses rare colours (the eyes of a cat); this method bounds the largest error.
        indexed = Image.fromarray(frame).quantize(256, method=Image.Quantize.MAXCOVERAGE)
        begin, end = (round(index * 100 / self.fps) for index in (self.num_frames, self.num_frames + 1))
        milliseconds = 10 * max(2, end - begin)
        self._file.writelines(getdata(indexed, duration=milliseconds, disposal=1, include_color_table=True))

    def _finish(self) -> None:
        if self._file is not None:
            self._file.write(b"\x3b")
            self._file.close()


class FrameFolder:
    """Writes frame_00000.png, frame_00001.png, ... at original size; frames of an older, longer video are deleted."""

    def __init__(self, folder: str | Path) -> None:
        self.path, self.num_frames = ensure_folder(folder), 0

    def add(self, images: Tensor) -> None:
        """Append images (B, C, H, W), uint8 or float in [-1, 1]."""
        for image in images:
            save_png(self._frame(self.num_frames), image)
            self.num_frames += 1

    def __enter__(self) -> FrameFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            for path in self.path.glob("frame_*.png"):
                if path.name >= self._frame(self.num_frames).name:
                    path.unlink()

    def _frame(self, index: int) -> Path:
        return self.path / f"frame_{index:05d}.png"


@contextlib.contextmanager
def video_writers(
    folder: Path, *, fps: float = 30.0, upscale: int | str = "auto", frames: str = "drop"
) -> Iterator[dict[str, VideoWriter | FrameFolder]]:
    """Open writers for video.mp4, video.gif and, with `frames` "keep", frames/; all of them take `add(images)`.

    Without ffmpeg the mp4 is skipped with a warning.
    """
    check_writing(fps=fps, upscale=upscale, frames=frames)
    writers: dict[str, VideoWriter | FrameFolder] = {}
    with contextlib.ExitStack() as stack:
        try:
            writers["mp4"] = stack.enter_context(Mp4Writer(folder / "video.mp4", fps=fps, upscale=upscale))
        except UserError as error:
            warnings.warn(f"There is no video.mp4. {error}", stacklevel=3)
        writers["gif"] = stack.enter_context(GifWriter(folder / "video.gif", fps=fps, upscale=upscale))
        if frames == "keep":
            writers["frames"] = stack.enter_context(FrameFolder(folder / "frames"))
        yield writers
