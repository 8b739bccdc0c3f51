"""Films of any length, written frame by frame: mp4 (H.264, plays everywhere) and GIF.

Both writers take batches of images, hold no more than one batch, write under a temporary name and rename at the end, so
a film is whole or absent. Small images are enlarged by a whole factor; an odd side is made even by repeating its last
row or column, because H.264's usual pixel format halves the colour resolution.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from wplus.core.files import ensure_folder
from wplus.core.images import as_uint8, save_png
from wplus.errors import UserError

WATCHABLE_PX = 256


def enlargement(upscale: int | str, size: int) -> int:
    """The whole factor that images of `size` pixels (longer side) are enlarged by.

    "auto": the largest factor that keeps the longer side at 256 pixels or less, so a 32 px cat is shown at 256 and a
    512 px one as it is. A number is taken as it is.
    """
    if upscale == "auto":
        return max(1, WATCHABLE_PX // size)
    if not isinstance(upscale, int) or upscale < 1:
        raise UserError(f"upscale={upscale} is no enlargement; allowed are auto and whole numbers from 1.")
    return upscale


def check_writing(*, fps: float = 30.0, upscale: int | str = "auto", frames: str = "drop") -> None:
    """UserError for options of `film_writers` that make no film."""
    if not fps > 0:
        raise UserError(f"fps={fps} is no frame rate; it must be above 0.")
    enlargement(upscale, WATCHABLE_PX)
    if frames not in ("drop", "keep"):
        raise UserError(f"frames={frames} is not known; allowed are drop and keep.")


def film_frames(images: Tensor, *, upscale: int | str) -> Tensor:
    """Images (B, C, H, W), uint8 or float in [-1, 1] -> uint8 (B, H', W', 3): enlarged, even-sized, grey as RGB.

    An alpha channel is dropped: films have none.
    """
    frames = as_uint8(images).cpu()
    frames = frames.expand(-1, 3, -1, -1) if frames.shape[1] == 1 else frames[:, :3]
    factor = enlargement(upscale, max(frames.shape[2:]))
    frames = frames.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
    height, width = frames.shape[2:]
    if height % 2 or width % 2:
        frames = F.pad(frames.float(), (0, width % 2, 0, height % 2), mode="replicate").to(torch.uint8)
    return frames.permute(0, 2, 3, 1).contiguous()


class FilmWriter:
    """A context manager with `add(images)`; the file appears at `path` when the block ends without an error."""

    def __init__(self, path: str | Path, *, fps: float = 30.0, upscale: int | str = "auto") -> None:
        check_writing(fps=fps, upscale=upscale)
        self.path, self.fps, self.upscale, self.num_frames = Path(path), fps, upscale, 0
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")

    def add(self, images: Tensor) -> None:
        """Append images (B, C, H, W), uint8 or float in [-1, 1]; all calls must bring the same size."""
        for frame in film_frames(images, upscale=self.upscale).numpy():
            self._append(frame)
            self.num_frames += 1

    def __enter__(self) -> FilmWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            self._finish()
            if kind is None and self.num_frames:
                os.replace(self._temporary, self.path)
        except OSError as reason:
            # What the writer says at its end explains best why a frame could not be written.
            error = reason if kind is None or issubclass(kind, OSError) else error
        finally:
            self._temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UserError(f"Cannot write '{self.path}': {error.strerror or error}.") from error

    def _append(self, frame: np.ndarray) -> None:
        raise NotImplementedError

    def _finish(self) -> None:
        raise NotImplementedError


class Mp4Writer(FilmWriter):
    """H.264 in yuv420p at constant quality, colours tagged BT.709, by the ffmpeg that imageio-ffmpeg brings along."""

    # x264's scale: 0 is lossless, 18 is taken as visually lossless, 51 is the worst.
    CRF = 18
    _COLOURS = ("-vf", "scale=out_color_matrix=bt709:out_range=tv", "-colorspace", "bt709",
                "-color_primaries", "bt709", "-color_trc", "bt709")  # fmt: skip

    _ffmpeg: subprocess.Popen[bytes] | None = None

    def _append(self, frame: np.ndarray) -> None:
        if self._ffmpeg is None:
            # Not a pipe: nobody reads it while frames are written, and a full pipe would stop both sides.
            self._messages = tempfile.TemporaryFile()  # noqa: SIM115 (closed in _finish)
            command = self._command(width=frame.shape[1], height=frame.shape[0])
            self._ffmpeg = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=self._messages)
        self._ffmpeg.stdin.write(frame.data)  # type: ignore[union-attr]

    def _command(self, *, width: int, height: int) -> list[str]:
        import imageio_ffmpeg

        source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{self.fps:g}", "-i", "-"]
        codec = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", str(self.CRF), *self._COLOURS]
        target = ["-movflags", "+faststart", "-f", "mp4", str(self._temporary)]
        return [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-nostdin", "-loglevel", "error", *source, *codec, *target]

    def _finish(self) -> None:
        if self._ffmpeg is None:
            return
        with contextlib.suppress(BrokenPipeError):  # it died before; its own words follow
            self._ffmpeg.stdin.close()  # type: ignore[union-attr]
        status = self._ffmpeg.wait()
        with self._messages as messages:
            messages.seek(0)
            lines = messages.read().decode(errors="replace").strip().splitlines()
        if status:
            raise OSError(lines[-1] if lines else f"ffmpeg stopped with status {status}")


class GifWriter(FilmWriter):
    """An endless GIF with a palette of its own for every frame.

    Pillow's own writer keeps all frames in memory until the end; here Pillow compresses one frame at a time, and its
    blocks are copied into the film. A GIF counts hundredths of a second and players slow down below two of them: the
    rounding is spread over the frames, and more than 50 frames a second play at 50.
    """

    _file: BinaryIO | None = None

    def _append(self, frame: np.ndarray) -> None:
        if self._file is None:
            self._file = open(self._temporary, "wb")  # noqa: SIM115 (closed in _finish)
            height, width = frame.shape[:2]
            # Version, size, no global palette; then the extension that makes players repeat it for ever.
            self._file.write(b"GIF89a" + _u16(width) + _u16(height) + b"\x70\x00\x00")
            self._file.write(b"\x21\xff\x0bNETSCAPE2.0\x03\x01" + _u16(0) + b"\x00")
        self._file.write(b"\x21\xf9\x04\x04" + _u16(self._delay(self.num_frames)) + b"\x00\x00")
        self._file.write(_gif_image(frame))

    def _delay(self, index: int) -> int:
        """Hundredths of a second that frame `index` stays; they add up to the film's length."""
        return max(2, round((index + 1) * 100 / self.fps) - round(index * 100 / self.fps))

    def _finish(self) -> None:
        if self._file is not None:
            self._file.write(b"\x3b")
            self._file.close()


def _gif_image(frame: np.ndarray) -> bytes:
    """One frame (H, W, 3) as a GIF image block with a local palette (GIF89a specification, section 20)."""
    buffer = io.BytesIO()
    # Pillow's default, median cut, gives rare colours away (the eyes of a cat); this one bounds the largest error.
    indexed = Image.fromarray(frame).quantize(256, method=Image.Quantize.MAXCOVERAGE)
    indexed.save(buffer, format="GIF", interlace=0)
    raw = buffer.getvalue()
    palette_bits = raw[10] & 7
    start = 13 + 3 * 2 ** (palette_bits + 1)
    palette, image = raw[13:start], raw[_first_image(raw, start) : -1]
    return image[:9] + bytes([0x80 | palette_bits]) + palette + image[10:]


def _first_image(raw: bytes, position: int) -> int:
    """Where the image block begins: extension blocks before it are skipped."""
    while raw[position] == 0x21:
        position += 2
        while raw[position]:
            position += raw[position] + 1
        position += 1
    return position


def _u16(value: int) -> bytes:
    return value.to_bytes(2, "little")


# Frames as pictures, and all that a film is written to


class FrameFolder:
    """Writes frame_00000.png, frame_00001.png, ... at their own size; what an older, longer film left goes."""

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
def film_writers(
    folder: Path, *, fps: float = 30.0, upscale: int | str = "auto", frames: str = "drop"
) -> Iterator[dict[str, FilmWriter | FrameFolder]]:
    """Open the writers of film.mp4, film.gif and, with `frames` "keep", of frames/; all of them take `add(images)`."""
    check_writing(fps=fps, upscale=upscale, frames=frames)
    with contextlib.ExitStack() as stack:
        writers: dict[str, FilmWriter | FrameFolder] = {
            "mp4": stack.enter_context(Mp4Writer(folder / "film.mp4", fps=fps, upscale=upscale)),
            "gif": stack.enter_context(GifWriter(folder / "film.gif", fps=fps, upscale=upscale)),
        }
        if frames == "keep":
            writers["frames"] = stack.enter_context(FrameFolder(folder / "frames"))
        yield writers
