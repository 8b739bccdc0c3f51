import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.fakes import encoded, noise
from wplus.data.decode import BadImage, Policies, boxes_of, decode, read_boxes, read_image
from wplus.errors import UserError


def pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def report(content: bytes, *, resolution: int = 8) -> str:
    return "; ".join(decode(content, "x", Policies(resolution=resolution)).oddities)


def test_plain_pixels_come_back_from_bytes_and_paths(tmp_path: Path) -> None:
    image = noise(12, 10)
    (tmp_path / "a.png").write_bytes(encoded(image))
    for source in (encoded(image), tmp_path / "a.png", str(tmp_path / "a.png")):
        read = read_image(source)
        assert read.dtype == torch.uint8
        assert torch.equal(read, pixels(image))
    assert report(encoded(noise(8, 8))) == ""


@pytest.mark.parametrize("form", ["BMP", "GIF", "JPEG", "PNG", "PPM", "TGA", "TIFF", "WEBP"])
def test_formats(form: str) -> None:
    image = noise(16, 16).resize((64, 64), Image.Resampling.BICUBIC)
    difference = read_image(encoded(image, form)).float() - pixels(image).float()
    assert difference.abs().mean() < 12


def test_grey_palette_one_bit_and_cmyk() -> None:
    grey, palette = noise(8, 8, mode="L"), noise(8, 8).quantize(16)
    assert torch.equal(read_image(encoded(grey)), pixels(grey))
    assert torch.equal(read_image(encoded(grey), channels=1)[0], torch.from_numpy(np.array(grey)))
    assert torch.equal(read_image(encoded(palette)), pixels(palette))
    assert read_image(encoded(noise(8, 8, mode="1"))).unique().tolist() == [0, 255]
    assert report(encoded(grey)) == "grey"
    assert report(encoded(palette)) == "palette"
    assert "CMYK" in report(encoded(noise(8, 8, mode="CMYK"), "JPEG"))


def test_colour_becomes_grey_by_the_luma_of_itu_601() -> None:
    image = noise(8, 8)
    expected = (pixels(image).double() * torch.tensor([0.299, 0.587, 0.114]).double()[:, None, None]).sum(0)
    assert (read_image(encoded(image), channels=1)[0] - expected).abs().max() <= 0.51


def test_transparency_is_composited_on_white() -> None:
    values = np.random.default_rng(0).integers(0, 256, (8, 8, 4), dtype=np.uint8)
    alpha = values[:, :, 3:] / 255
    expected = values[:, :, :3] * alpha + 255 * (1 - alpha)
    content = encoded(Image.fromarray(values))
    assert np.abs(read_image(content).permute(1, 2, 0).numpy() - expected).max() <= 1
    assert "transparent" in report(content)
    image = Image.new("P", (8, 8), 0)
    image.putpalette([10, 20, 30] * 256)
    assert read_image(encoded(image, transparency=0)).unique().tolist() == [255]


def test_16_bit_is_scaled_not_clipped() -> None:
    values = np.array([[0, 128, 129, 257], [32896, 65407, 65535, 300]], dtype=np.uint16)
    for form in ("PNG", "TIFF"):
        read = read_image(encoded(Image.fromarray(values), form))
        assert read[1].tolist() == np.rint(values / 257).astype(int).tolist()
    assert "16-bit" in report(encoded(Image.fromarray(values)))


def test_16_bit_colour_is_known_although_pillow_hides_it() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (8, 8, 3), dtype=np.uint16)
    content = png_16_bit(values)
    assert np.abs(read_image(content).permute(1, 2, 0).numpy().astype(int) - values / 257).max() <= 1
    assert report(content) == "16-bit"


def png_16_bit(values: np.ndarray) -> bytes:
    """A colour PNG with 16 bits a channel, which Pillow cannot write, chunk by chunk."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_values_without_a_known_range_are_refused() -> None:
    for values, words in (
        (np.ones((8, 8), np.float32), "floating"),
        (np.full((8, 8), 70000, np.int32), "beyond 16 bits"),
    ):
        with pytest.raises(BadImage, match=words):
            read_image(encoded(Image.fromarray(values), "TIFF"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown = pixels(noise(6, 4))
    stored = {
        1: shown, 2: shown.flip(2), 3: shown.flip(1, 2), 4: shown.flip(1), 5: shown.transpose(1, 2),
        6: shown.transpose(1, 2).flip(1), 7: shown.transpose(1, 2).flip(1, 2), 8: shown.transpose(1, 2).flip(2),
    }[orientation]  # fmt: skip
    content = encoded(Image.fromarray(stored.permute(1, 2, 0).numpy()), exif=exif)
    assert torch.equal(read_image(content), shown)
    assert ("turned by EXIF" in report(content)) == (orientation != 1)


def test_crop_keeps_the_centre_and_pad_adds_white() -> None:
    wide, tall, flat = noise(13, 8), noise(8, 12), noise(8, 5)
    assert torch.equal(read_image(encoded(wide), resolution=8, fit="crop"), pixels(wide)[:, :, 2:10])
    assert torch.equal(read_image(encoded(tall), resolution=8, fit="crop"), pixels(tall)[:, 2:10])
    padded = read_image(encoded(flat), resolution=8, fit="pad")
    assert torch.equal(padded[:, 1:6], pixels(flat))
    assert padded[:, [0, 6, 7]].unique().tolist() == [255]
    opacity = read_image(encoded(flat), resolution=8, fit="pad", alpha="keep")[3]
    assert (opacity[1:6] == 255).all()
    assert (opacity[[0, 6, 7]] == 0).all()
    assert "not square (9x8)" in report(encoded(noise(9, 8)))
    assert "smaller than 16 px (8x8" in report(encoded(noise(8, 8)), resolution=16)


def test_refuse_names_the_image_and_its_size(tmp_path: Path) -> None:
    noise(8, 5).save(tmp_path / "me.png")
    with pytest.raises(UserError, match=r"me\.png'.*8x5"):
        read_image(tmp_path / "me.png", resolution=8, fit="refuse")
    assert read_image(encoded(noise(16, 16)), resolution=8, fit="refuse").shape == (3, 8, 8)


def test_box_averages_blocks_and_lanczos_differs() -> None:
    image = noise(32, 32)
    blocks = pixels(image).double().reshape(3, 8, 4, 8, 4).mean((2, 4))
    box, lanczos = (read_image(encoded(image), resolution=8, resize=resize) for resize in ("box", "lanczos"))
    assert (box - blocks).abs().max() <= 1  # Pillow rounds after each of the two directions
    assert not torch.equal(box, lanczos)


def test_first_frame_of_an_animation() -> None:
    frames = [noise(8, 8, seed=seed) for seed in range(3)]
    content = encoded(frames[0], save_all=True, append_images=frames[1:])
    assert torch.equal(read_image(content), pixels(frames[0]))
    assert "animated (3 frames" in report(content)


def test_damaged_and_missing_files_are_named_and_unknown_policies_refused(tmp_path: Path) -> None:
    for content in (b"", b"hello", encoded(noise(40, 40))[:2000], encoded(noise(40, 40), "JPEG")[:900]):
        (tmp_path / "bad.png").write_bytes(content)
        with pytest.raises(UserError, match=r"bad\.png"):
            read_image(tmp_path / "bad.png", resolution=8)
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    with pytest.raises(UserError, match=r"photo\.heic.*pip install pillow-heif"):
        read_image(tmp_path / "photo.heic")
    with pytest.raises(UserError, match="no such file"):
        read_image(tmp_path / "none.png")
    for options in ({"fit": "squeeze"}, {"resize": "nearest"}, {"channels": 4}, {"alpha": "black"}):
        with pytest.raises(UserError, match="must be one of"):
            read_image(encoded(noise(8, 8)), **options)


def painted(width: int = 8, height: int = 8) -> Image.Image:
    """Red paint on the left half, half of it opaque; transparent blue on the right."""
    pixels = np.zeros((height, width, 4), dtype=np.uint8)
    pixels[:, : width // 2] = 200, 10, 10, 128
    pixels[:, width // 2 :] = 0, 0, 255, 0
    return Image.fromarray(pixels)


def test_kept_opacity_leaves_the_colours_of_the_paint() -> None:
    read = read_image(encoded(painted()), alpha="keep")
    assert read[:, 0, 0].tolist() == [200, 10, 10, 128]
    assert read[:, 0, -1].tolist() == [255, 255, 255, 0]
    assert read_image(encoded(painted()))[:, 0, 0].tolist() == pytest.approx([227, 132, 132], abs=1)
    shrunk = read_image(encoded(painted(12, 12)), alpha="keep", resolution=8)  # the hidden blue does not bleed
    assert shrunk[:3, 0, 0].tolist() == pytest.approx([200, 10, 10], abs=2)
    assert not (shrunk[2] > 20)[shrunk[3] > 0].any()
    grey = read_image(encoded(painted()), alpha="keep", channels=1)
    assert grey[:, 0, 0].tolist() == pytest.approx([67, 128], abs=1)
    for mode in ("RGB", "L", "P", "1"):
        content = encoded(noise(8, 8, mode=mode))
        opaque = read_image(content, alpha="keep")
        assert (opaque[3] == 255).all()
        assert torch.equal(opaque[:3], read_image(content))


@pytest.mark.parametrize(
    ("box", "square"),
    [
        ((2, 3, 7, 8), (2, 3, 7, 8)),
        ((2, 4, 7, 7), (2, 3, 7, 8)),  # as wide as its longer side, about its centre
        ((3.9, 1, 5.1, 9), (1, 1, 9, 9)),
        ((2.4, 3.4, 7.4, 8.4), (2, 3, 7, 8)),
    ],
)
def test_boxes_become_squares(box, square):
    image = noise(12, 10)
    left, top, right, bottom = square
    assert torch.equal(read_image(encoded(image), box=box), pixels(image)[:, top:bottom, left:right])


def test_beyond_the_image_is_white() -> None:
    image = noise(6, 6)
    found = read_image(encoded(image), box=(-2, 3, 4, 9))
    assert torch.equal(found[:, :3, 2:], pixels(image)[:, 3:, :4])
    assert (found[:, 3:] == 255).all()
    assert (found[:, :, :2] == 255).all()
    assert read_image(encoded(image), box=(1, 1, 5, 5), resolution=16).shape == (3, 16, 16)
    for box, words in (((6, 0, 9, 3), "lies outside"), ((-5, 0, 0, 4), "lies outside"), ((0, 0, 97, 4), "far larger")):
        with pytest.raises(UserError, match=rf"box \[.* {words} .*6x6"):
            read_image(encoded(image), box=box)


def test_boxes_belong_to_names_with_or_without_extension():
    boxes = {"a": (0, 0, 1, 1), "sub/b.png": (0, 0, 2, 2), "c.jpg": (0, 0, 3, 3)}
    assert boxes_of(["a.png", "sub/b.png", "c.png"], boxes) == {"a.png": (0, 0, 1, 1), "sub/b.png": (0, 0, 2, 2)}
    with pytest.raises(UserError, match="None of the 3 box"):
        boxes_of(["d.png"], boxes)


def test_bad_box_files_are_named(tmp_path):
    boxes = (
        '{"a": [NaN, 0, 1, 1]}',
        '{"a": [0, 0, 1e9, 1e9]}',
        '{"a": [1, 2, 3]}',
        '{"a": [1, 2, 1, 5]}',
        '{"a": [1, 5, 2, 4]}',
        '{"a": ["x", 0, 1, 1]}',
    )
    for content in ("[1, 2]", "{", *boxes):
        (tmp_path / "boxes.json").write_text(content)
        with pytest.raises(UserError, match=r"boxes\.json"):
            read_boxes(tmp_path / "boxes.json")
    os.mkfifo(tmp_path / "pipe.json")
    for name in ("none.json", "pipe.json"):
        with pytest.raises(UserError, match=name):
            read_boxes(tmp_path / name)
