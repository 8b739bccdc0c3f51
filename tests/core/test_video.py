import io
import re
import subprocess
import warnings
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from wplus.core.video import GifWriter, Mp4Writer, upscale_factor, video_frames, video_writers
from wplus.errors import UserError


def gradients(num: int, size: tuple[int, int] = (16, 16), channels: int = 3) -> torch.Tensor:
    """Smooth pictures that differ from frame to frame, uint8 (N, C, H, W)."""
    rows, columns = torch.linspace(0, 200, size[0])[:, None], torch.linspace(0, 40, size[1])[None]
    planes = torch.stack([rows + columns * k for k in range(channels)])
    return torch.stack([(planes + 10 * index) % 256 for index in range(num)]).clamp(0, 255).to(torch.uint8)


def decoded(path: Path) -> list[np.ndarray]:
    """Frames uint8 (H, W, 3) as ffmpeg reads them back, none dropped or doubled."""
    flags = ["-fps_mode", "passthrough", "-f", "image2pipe", "-c:v", "ppm", "-"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", str(path), *flags]
    stream = io.BytesIO(subprocess.run(command, capture_output=True, check=True).stdout)
    frames = []
    while stream.readline() == b"P6\n":
        width, height = map(int, stream.readline().split())
        assert stream.readline() == b"255\n"
        frames.append(np.frombuffer(stream.read(3 * width * height), dtype=np.uint8).reshape(height, width, 3))
    return frames


def write(writer: Mp4Writer | GifWriter, images: torch.Tensor, batch_size: int = 4) -> Path:
    with writer as film:
        for batch in images.split(batch_size):
            film.add(batch)
    return writer.path


def test_mp4_has_every_frame_at_the_stated_size_rate_and_format(tmp_path: Path) -> None:
    path = write(Mp4Writer(tmp_path / "video.mp4", fps=24, upscale=4), gradients(11))
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-i", str(path)]
    words = subprocess.run(command, capture_output=True, text=True).stderr
    assert all(word in words for word in ("h264", "yuv420p(tv, bt709", "64x64", "24 fps")), words
    assert len(decoded(path)) == 11


def test_mp4_shows_the_pictures(tmp_path: Path) -> None:
    """Colours included: a wrong matrix shifts saturated colours by tens of levels."""
    colours = torch.tensor([[200, 30, 30], [30, 200, 30], [30, 30, 200], [128, 128, 128]], dtype=torch.uint8)
    images = colours.view(4, 3, 1, 1).expand(-1, -1, 32, 32)
    path = write(Mp4Writer(tmp_path / "video.mp4", upscale=2), images)
    for frame, colour in zip(decoded(path), colours, strict=True):
        assert np.abs(frame.astype(int) - colour.numpy()).max() <= 6


@pytest.mark.parametrize("size", [(17, 16), (16, 17), (33, 31)])
def test_odd_sides_become_even_by_repeating_the_last_row_and_column(tmp_path: Path, size: tuple[int, int]) -> None:
    images = gradients(3, size)
    frames = video_frames(images, upscale=1)
    height, width = size[0] + size[0] % 2, size[1] + size[1] % 2
    assert frames.shape == (3, height, width, 3)
    assert torch.equal(frames[:, : size[0], : size[1]], images.permute(0, 2, 3, 1))
    assert torch.equal(frames[:, -1, -1], images[:, :, -1, -1])
    for writer in (Mp4Writer(tmp_path / "video.mp4", upscale=1), GifWriter(tmp_path / "video.gif", upscale=1)):
        shapes = {frame.shape for frame in decoded(write(writer, images))}
        assert shapes == {(height, width, 3)}


def test_small_images_are_enlarged_by_a_whole_factor() -> None:
    assert [upscale_factor("auto", size) for size in (16, 32, 48, 256, 512)] == [16, 8, 5, 1, 1]
    images = gradients(1, (8, 8))
    frames = video_frames(images, upscale=3)
    assert torch.equal(frames[0, ::3, ::3].permute(2, 0, 1), images[0])
    assert torch.equal(frames[0, 2::3, 2::3].permute(2, 0, 1), images[0])
    with pytest.raises(UserError, match="upscale must be auto or a whole number from 1, got 0"):
        upscale_factor(0, 16)


def test_gif_shows_the_pictures_for_ever_and_keeps_time(tmp_path: Path) -> None:
    images = gradients(9)
    path = write(GifWriter(tmp_path / "video.gif", fps=30, upscale=2), images)
    with Image.open(path) as gif:
        assert (gif.n_frames, gif.size, gif.info["loop"]) == (9, (32, 32), 0)
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(gif)]
    # At most 256 different colours a frame here, so the palette loses nothing but its median cut's rounding.
    assert np.abs(np.stack(decoded(path)).astype(int) - video_frames(images, upscale=2).numpy()).max() <= 4
    assert sum(durations) == 300
    assert set(durations) == {30, 40}


def test_gif_keeps_rare_colours(tmp_path: Path) -> None:
    """One blue pixel among a thousand browns; the default palette of Pillow turns it brown."""
    images = torch.randint(60, 200, (1, 3, 32, 32), dtype=torch.uint8)
    images[:, 2] //= 4
    images[0, :, 5, 7] = torch.tensor([20, 40, 255])
    (frame,) = decoded(write(GifWriter(tmp_path / "video.gif", upscale=1), images))
    assert np.abs(frame[5, 7].astype(int) - [20, 40, 255]).max() < 40


def test_grey_and_float_pictures(tmp_path: Path) -> None:
    path = write(GifWriter(tmp_path / "video.gif"), torch.linspace(-1, 1, 3).view(3, 1, 1, 1).expand(-1, 1, 16, 16))
    assert [int(frame.mean()) for frame in decoded(path)] == [0, 128, 255]


@pytest.mark.parametrize("writer_class", [Mp4Writer, GifWriter])
def test_a_film_that_breaks_off_leaves_the_old_one(tmp_path: Path, writer_class: type) -> None:
    path = tmp_path / "film"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="stop"), writer_class(path) as film:  # noqa: PT012 (the block is the test)
        film.add(gradients(2))
        raise RuntimeError("stop")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["film"]
    with pytest.raises(UserError, match=r"Cannot write .*film"), writer_class(tmp_path / "none" / "film") as film:
        film.add(gradients(2))


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    film = Mp4Writer(tmp_path / "video.mp4")
    film._temporary = Path("/dev/full")
    with pytest.raises(UserError, match=r"Cannot write .*video.mp4"), film:  # noqa: PT012
        for _ in range(50):
            film.add(torch.randint(0, 256, (4, 3, 256, 256), dtype=torch.uint8))


def test_without_an_ffmpeg_for_it_the_mp4_is_missed_and_the_rest_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = tmp_path / "deaf"
    deaf.write_text("#!/bin/sh\necho \"Codec 'libx264' is not recognized by FFmpeg.\"\n")
    deaf.chmod(0o755)
    for path, words in ((tmp_path / "nowhere", "none that starts"), (deaf, "with libx264, which '.*deaf' lacks")):
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(path))
        with pytest.raises(UserError, match=f"^mp4 needs ffmpeg.*{words}.*IMAGEIO_FFMPEG_EXE"):
            Mp4Writer(tmp_path / "alone.mp4")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            with video_writers(tmp_path, frames="keep") as opened:
                for writer in opened.values():
                    writer.add(gradients(3))
        assert re.search(f"no video.mp4.*{words}", str(said[0].message))
        assert sorted(opened) == ["frames", "gif"]
        assert len(list((tmp_path / "frames").iterdir())) == 3
    monkeypatch.undo()
    assert len(decoded(tmp_path / "video.gif")) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [({"fps": 0}, "fps must be above 0, got 0"), ({"frames": "some"}, "frames must be one of drop, keep, got 'some'")],
)
def test_writing_that_cannot_be(tmp_path: Path, options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words), video_writers(tmp_path, **options):
        pass
