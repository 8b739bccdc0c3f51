"""Pictures within the size limit of a page: exact if small, downscaled if many, named if left out."""

import base64
import io

import pytest
from PIL import Image

from tests.report.fake_runs import film, picture
from wplus.report import media as limits
from wplus.report.media import Media, encoded


def decoded(source: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))


def test_small_pictures_are_exact_and_equal_ones_are_one(tmp_path):
    first, second = (picture(tmp_path / name, hue=0.3, noise=True) for name in ("a.png", "b.png"))
    media = Media()
    names = {media.add(first), media.add(second)}
    media.embed()
    (name,) = names
    assert decoded(media.sources[name]).convert("RGB").tobytes() == Image.open(first).convert("RGB").tobytes()
    assert media.exact == names
    assert media.notes == []


def test_many_pictures_shrink_until_they_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "PICTURES_MB", 0.04)
    media = Media()
    for index in range(4):
        media.add(picture(tmp_path / f"{index}.png", hue=index / 4, size=(300, 300), noise=True))
    media.embed()
    assert len(media.sources) == 4
    assert sum(len(source) for source in media.sources.values()) * 3 / 4 <= 0.04e6
    shown = decoded(next(iter(media.sources.values())))
    assert 64 <= shown.width < 300
    assert media.notes == [f"Pictures are shown at no more than about {shown.width} by {shown.width} pixels."]


def test_what_does_not_fit_at_all_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "PICTURES_MB", 0.004)
    media = Media()
    for index in range(8):
        media.add(picture(tmp_path / f"{index}.png", hue=index / 8, size=(256, 256), noise=True))
    media.embed()
    assert 0 < len(media.sources) < 8
    assert f"{8 - len(media.sources)} picture(s) are left out" in media.notes[-1]


def test_a_film_that_is_too_large_shrinks_or_is_named(tmp_path, monkeypatch):
    large = film(tmp_path / "large.mp4", side=400, frames=4, noise=True)
    for limit, num_shown in ((large.stat().st_size / 1e6, 1), (0.6 * large.stat().st_size / 1e6, 1), (1e-3, 0)):
        monkeypatch.setattr(limits, "FILMS_MB", limit)
        media = Media()
        name = media.add(large)
        media.embed()
        assert len(media.sources) == num_shown
        assert sum(len(source) for source in media.sources.values()) * 3 / 4 <= limit * 1e6 + 40
    assert name not in media.sources
    assert "1 video(s) are left out" in media.notes[-1]


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_a_damaged_picture_has_no_content(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    assert encoded(tmp_path / "a.png", 100) == ("", b"")
    media = Media()
    assert media.add(tmp_path / "a.txt") is None
    assert media.add(tmp_path / "absent.png") is None
    name = media.add(tmp_path / "a.png")
    media.embed()
    assert name not in media.sources


def test_a_hundred_runs_make_a_page_of_less_than_25_mb(hundred):
    assert 6e6 < hundred.stat().st_size < 25e6
