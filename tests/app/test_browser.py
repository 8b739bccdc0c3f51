"""The app in a headless Chromium: clicks, uploads and strokes; no traffic leaves the machine, sessions are separate."""

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import wplus
from experiments.browser import Browser, browser, find_browser
from tests.processes import Python
from wplus.__main__ import main
from wplus.app.acts import Acts, directions_of
from wplus.commands import app as command

pytest.importorskip("gradio")
pytestmark = pytest.mark.skipif(find_browser() is None, reason="there is no Chromium: install one, or set CHROMIUM")
TOAST = "[...document.querySelectorAll('.toast-body, .toast-wrap')].map(e => e.textContent).join(' ')"


@pytest.fixture(scope="module")
def acts() -> Acts:
    """What the app has, to compare with."""
    model = wplus.load("cats32_e4e")
    return Acts(model, wplus.load("cats32_outline"), directions_of(model, None))


@pytest.fixture(scope="module")
def app() -> Iterator[Python]:
    """The command in a process of its own; interrupted, it ends as others do."""
    process = Python(Path(__file__).parent / "served.py", "--megabytes", 0.1, "--device", "cpu")
    yield process
    process.send_signal(signal.SIGINT)
    process.output(timeout=120)
    assert process.returncode == 130


@pytest.fixture(scope="module")
def address(app) -> str:
    end = time.monotonic() + 240
    while (found := re.search(r"The app is at (\S+) until Ctrl-C", app.printed())) is None:
        assert app.poll() is None, app.printed()
        assert time.monotonic() < end, app.printed()
        time.sleep(0.1)
    return found[1]


@pytest.fixture(scope="module")
def page(address):
    with browser() as opened:
        yield visited(opened, address)
        assert [url for url in opened.requests if not url.startswith(address)] == []
        assert [each for each in opened.errors if "Uncaught" in each or "net::" in each or "Refused" in each] == []


def visited(opened: Browser, address: str) -> Browser:
    opened.show(1280, 900)
    opened.go(address)
    opened.wait("document.querySelector('#samples-go') !== null", 240)
    return opened


def shown(page: Browser, name: str, tag: str = "img") -> str:
    """The picture below a button, once there is one."""
    found = f"document.querySelector('#{name}-shown-0 {tag}')"
    page.wait(f"{found} !== null", 240)
    return page.run(f"{found}.src")


def upload(page: Browser, name: str, file: Path) -> None:
    """A file for an act, all of it."""
    page.choose(f"#{name}-file input[type=file]", file)
    text = f"document.querySelector('#{name}-file').textContent"
    page.wait(f"{text}.includes({file.stem!r}) && !{text}.includes('Uploading')", 240)


def edit_own(page: Browser) -> None:
    """Choose to edit one's own image, repeatedly until it holds: before the tab listens, a choice is lost."""
    choice = "document.querySelectorAll('#edit-own input')[1]"
    page.wait(f"{choice} !== undefined", 240)
    page.settle("#edit-own")
    page.wait(f"(field => {{ const held = field.checked; if (!held) field.click(); return held; }})({choice})", 240)


def says(page: Browser, words: str) -> None:
    """A sentence on the page, which is closed again."""
    page.wait(f"{TOAST}.includes({words!r})", 240)
    page.run("document.querySelectorAll('.toast-close').forEach(e => e.click())")
    page.wait(f"!{TOAST}.includes({words!r})", 240)


def test_samples_are_those_of_the_library(page, acts):
    page.click("#samples-go")
    assert shown(page, "samples") in acts.model.generate(8, psi=0.7)._repr_html_()


def test_styles_are_mixed(page, acts):
    page.click("#tab-style-mixing-button")
    page.click("#mixing-go")
    made = acts.model.mix(["seed:1", "seed:2", "seed:3"], [f"seed:{each}" for each in range(4, 8)])
    assert shown(page, "mixing") in made._repr_html_()


def test_an_upload_is_inverted_walked_from_and_edited(page, acts, tmp_path):
    acts.model.generate(seed=5, psi=0.5).pil[0].save(tmp_path / "mine.png")
    page.click("#tab-your-image-button")
    upload(page, "image", tmp_path / "mine.png")
    page.run(
        "[...document.querySelectorAll('#tab-your-image input[type=radio]')].find(e => e.value === 'encoder').click()"
    )
    page.click("#image-go")
    mine = acts.model.invert(tmp_path / "mine.png", space="w+", method="encoder")
    assert shown(page, "image") in mine._repr_html_()
    page.click("#walk-go")
    assert shown(page, "walk", "video").startswith("data:video/mp4;base64,")
    page.click("#tab-edit-button")
    edit_own(page)
    slider = "#edit-0 input[type=range]"
    page.settle(slider)
    middle = page.middle(slider)
    place = (middle[0] + 0.25 * page.run(f"document.querySelector('{slider}').offsetWidth"), middle[1])
    page.mouse("mousePressed", place)
    page.mouse("mouseReleased", place)
    first = shown(page, "edit")
    assert first not in acts.edit(mine, True, 1, 0.7, *[0.0] * len(acts.directions))._repr_html_()
    page.click("#edit-go")
    value = float(page.run("document.querySelector('#edit-0 input[type=number]').value"))
    assert value == pytest.approx(1.5, abs=0.6)
    wanted = acts.edit(mine, True, 1, 0.7, value, *[0.0] * (len(acts.directions) - 1))._repr_html_()
    page.wait(f"{wanted!r}.includes(document.querySelector('#edit-shown-0 img').src)", 240)


def test_a_drawing_becomes_a_cat(page):
    page.click("#tab-draw-button")
    page.wait("document.querySelector('#sketch-canvas button[title=Brush]') !== null", 240)
    page.click("#sketch-go")
    says(page, "There is no drawing yet")
    page.settle("#sketch-canvas canvas")
    page.click("#sketch-canvas button[title=Brush]")
    x, y = page.middle("#sketch-canvas canvas")
    page.drag((x - 60, y - 60), (x + 60, y + 60))
    page.wait("!document.querySelector('#sketch-canvas button[title=Undo]').disabled", 240)
    page.click("#sketch-go")
    assert shown(page, "sketch").startswith("data:image/png")
    page.wait("document.querySelector('#sketch-shown-1 img') !== null", 240)


def test_pictures_are_translated(page):
    page.click("#tab-translate-button")
    page.click("#translate-go")
    assert shown(page, "translate").startswith("data:image/png")


def test_bad_uploads_get_a_sentence(page, address, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)).save(tmp_path / "large.png")
    visited(page, address).click("#tab-your-image-button")
    upload(page, "image", tmp_path / "broken.png")
    page.click("#image-go")
    says(page, "'broken.png' is not a readable image")
    page.click("#tab-translate-button")
    page.choose("#translate-file input[type=file]", tmp_path / "large.png")
    says(page, 'File(s) exceed the maximum allowed size of 102.4 Kb: "large.png"')


def test_two_users_are_served_in_turn_and_see_their_own(page, acts, app, address):
    """The second one has no image, though the first has; and what both ask for at once is made one after another."""
    with browser() as other:
        visited(other, address)
        other.click("#tab-edit-button")
        edit_own(other)
        other.click("#edit-go")
        says(other, "There is no image of yours yet")
        other.click("#tab-samples-button")
        page.click("#tab-samples-button")
        for each, seed in ((page, 7), (other, 8)):
            each.run(f"""(field => {{ field.value = {seed};
                field.dispatchEvent(new Event('input', {{bubbles: true}})); }})
                (document.querySelector('#tab-samples input[type=number]'))""")
            each.click("#samples-go")
        for each, seed in ((page, 7), (other, 8)):
            wanted = acts.model.generate(8, seed=seed, psi=0.7)._repr_html_()
            each.wait(f"{wanted!r}.includes(document.querySelector('#samples-shown-0 img')?.src)", 240)
        assert re.findall("draw (begins|ends)", app.printed())[-4:] == ["begins", "ends"] * 2


def test_it_listens_on_this_machine_alone(address):
    port = int(address.rstrip("/").rpartition(":")[2])
    with open("/proc/net/tcp") as file:
        listening = [line.split()[1] for line in file if line.split()[3] == "0A"]
    assert [each for each in listening if each.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (["--model", "nothing"], "'nothing' does not exist"),
        (["--model", "cats32_outline"], "it has no latent space"),
        (["--seconds", "0"], "--seconds must be"),
    ],
)
def test_what_cannot_be_served_is_said(given, word):
    with pytest.raises(SystemExit, match=word):
        main(["app", *given])


def test_without_gradio_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"^The app needs gradio: pip install '\.\[app\]'\.$"):
        main(["app"])
