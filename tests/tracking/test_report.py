"""The report: everything inside one page, what is missing said, nothing taken from elsewhere."""

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.tracking.demo_folder import opened, picture, write_demo, write_evaluation, write_inversion, write_train
from wplus.errors import UserError
from wplus.tracking.report import context, inversion_names, write_report

SAMPLES = ["real images", "fixed latents, 0 kimg", "fixed latents, 20 kimg"]


class Page(HTMLParser):
    """Collects what a browser would load, and the text; complains about tags that are not closed in order."""

    VOID = ("meta", "img", "br", "link", "line")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loaded: list[tuple[str, str]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.loaded += [(tag, value) for name, value in attrs if name in ("src", "href", "srcset", "poster")]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open[-1:] != ["style"]:
            self.words.append(" ".join(data.split()))

    @property
    def text(self) -> str:
        return " ".join(word for word in self.words if word)


def page(folder: Path) -> Page:
    return Page(write_report(folder).read_text())


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    return write_demo(tmp_path_factory.mktemp("demo"))


def test_pictures_and_films_are_inside_and_nothing_is_loaded_from_elsewhere(demo):
    html = write_report(demo).read_text()
    loaded = Page(html).loaded
    assert [tag for tag, _ in loaded].count("img") == 3 + 1 + 3 * 2 + 3  # samples, inversions, interpolation
    assert [tag for tag, _ in loaded].count("video") == 1
    assert all(source.startswith(("data:image/", "data:video/mp4;base64,")) for _, source in loaded)
    assert "<script" not in html
    assert "url(" not in html
    assert "@import" not in html


def test_the_whole_story_is_told(demo):
    text = page(demo).text
    assert "Missing" not in text
    for words in (
        "real images", "fixed latents, 0 kimg", "fixed latents, 20 kimg",  # the cats at the start and the end
        "generator/loss", "logits/real", "Speed (thousand images per second)",
        "gamma 0.02 0.0002 x 32 px squared / batch 32",
        "target, then z, w, w+", "target, inversion", "psnr", "11.71 to 14.31",
        "a to b: slerp", "step_cv", "0 is perfectly even", "0.81",
        "fd_effnet_lite0", "812.3", "800 to 825", "num_real 2500", "effnet_lite0 <stages 1 & 2>",
        "python train.py experiment=cats32 run_dir=runs/demo/train", "python interpolate.py path=slerp",
        "torch", "processor", "dataset cats", "model model.safetensors",
    ):  # fmt: skip
        assert words in text, words


def test_a_training_shows_its_beginning_and_its_end(demo):
    train = context(demo)["train"]
    assert [figure.caption for figure in train["samples"]] == SAMPLES
    assert len({figure.source for figure in train["samples"]}) == 3
    assert ([row["name"] for row in train["derived"]], [row["name"] for row in train["given"]]) == (
        ["gamma"],
        ["batch_size"],
    )
    assert train["charts"][0]["title"] == "Losses"
    assert train["charts"][0]["svg"].count('class="line"') == 2
    assert len(train["charts"]) == 3
    assert [chart["title"] for chart in train["more_charts"]] == ["Gradient norms", "Penalties"]
    assert train["more_charts"][1]["meanings"] == [("penalty", "Slope of the discriminator at real images.")]


def test_inversion_compares_the_spaces(demo, tmp_path):
    inversion = context(demo)["inversion"]
    assert inversion["methods"] == ["z", "w", "w+"]
    psnr = next(row for row in inversion["rows"] if row["name"] == "psnr")
    assert [cell["value"] for cell in psnr["cells"]] == ["13.01", "16.02", "23.01"]
    assert ("num_images", "8") in psnr["protocol"]
    for space, steps in (("z", 10), ("w", 20)):
        with opened(tmp_path / "invert" / space, "invert") as tracker:
            tracker.summary({"invert/l2": {"value": 1.0, "protocol": {"steps": steps, "n": 8}}})
    (row,) = context(tmp_path)["inversion"]["rows"]
    assert row["protocol"] == [("steps", "z: 10, w: 20"), ("n", "8")]


def test_an_empty_folder_says_what_is_missing(tmp_path):
    text = page(tmp_path).text
    assert text.count("Missing:") == 5
    for command in ("wplus train", "wplus invert", "wplus interpolate", "wplus evaluate", "make demo"):
        assert command in text


def write_edit(folder: Path) -> None:
    with opened(folder, "edit") as tracker:
        tracker.summary({"edit/moved": {"value": 0.25}})


@pytest.mark.parametrize(
    ("write", "heading", "told"),
    [
        (write_train, "Training", "Losses"),
        (lambda folder: write_inversion(folder, "w", l2=0.1), "Inversion", "Values are means over the images"),
        (write_evaluation, "Metrics", "ppl"),
        (write_edit, "Metrics", "0.25"),  # what has no section of its own is a measurement
    ],
)
def test_a_run_by_itself_has_its_own_section_alone(tmp_path, write, heading, told):
    write(tmp_path)
    text = page(tmp_path).text
    assert "Missing:" not in text
    assert told in text
    html = (tmp_path / "report.html").read_text()
    shown = [name for name in ("Training", "Inversion", "Interpolation", "Metrics") if f"<h2>{name}</h2>" in html]
    assert shown == [heading]


@pytest.mark.parametrize(
    ("names", "missing"), [(["w"], ["z", "w+"]), (["hybrid", "w+", "z+"], ["z", "w"]), (["hybrid"], [])]
)
def test_a_missing_space_is_named_beside_others_and_inverters(tmp_path, names, missing):
    for name in names:
        write_inversion(tmp_path / "invert" / name, name, l2=0.1)
    assert inversion_names(tmp_path / "invert") == sorted(names, key=lambda name: name != "w+")
    text = page(tmp_path).text
    assert names[0] in text
    assert [space for space in ("z", "w", "w+") if f"invert/{space}/ has no result.json" in text] == missing


def test_what_was_seen_and_said_of_a_run_is_told(tmp_path):
    folder = tmp_path / "train"
    write_train(folder)
    with opened(folder, "train") as tracker:
        for kimg in (0, 20):
            mixed = picture(folder / "samples" / f"{kimg}-mixed.png", hue=0.7)
            tracker.image("samples/style_mixing", mixed, caption="styles mixed", kimg=kimg)
            tracker.log({"probe/diversity_pixels": 0.9, "probe/logits/train_mean": 1.0}, kimg=kimg)
            tracker.histogram("probe/logits/train", [1, 2, 3], kimg=kimg)
        tracker.log_message("Diversity <fell>.", level="warning", kimg=20.48)
        tracker.log_message("Held-out images are missing.")
    train = context(tmp_path)["train"]
    assert [figure.caption for figure in train["more_samples"]] == ["styles mixed"]  # the last one
    assert [figure.caption for figure in train["samples"]] == SAMPLES
    assert [chart["title"] for chart in train["more_charts"]][-2:] == ["probe", "probe/logits"]
    (folder / "samples" / "20.png").unlink()
    text = page(tmp_path).text
    assert "1 more pictures of the end styles mixed" in text
    assert "20.48 kimg Diversity <fell>. Held-out images are missing." in text
    assert "samples/20.png cannot be shown" in text


def test_a_run_that_did_not_finish_says_so(tmp_path):
    opened(tmp_path / "train", "train").log({"train/generator/loss": 1.0}, kimg=1)
    (tmp_path / "train" / "run.json").touch()  # a command's, whose process is gone
    with pytest.raises(KeyboardInterrupt), opened(tmp_path / "evaluate", "evaluate"):
        raise KeyboardInterrupt
    write_evaluation(tmp_path / "interpolate")
    result = json.loads((tmp_path / "interpolate" / "result.json").read_text())
    (tmp_path / "interpolate" / "result.json").write_text(json.dumps(result | {"status": "failed", "error": "E: why"}))
    text = page(tmp_path).text
    for words in ("train killed", "evaluate interrupted", "interpolate failed: E: why"):
        assert words in text, words
    for words in ("no sample pictures were logged", "evaluate/ has no measurements"):
        assert words in text, words


def test_another_model_than_the_trained_one_is_told(demo, tmp_path):
    assert context(demo)["other_model"] == ""
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"other weights")
    write_inversion(tmp_path / "invert" / "w", "w", l2=0.1, model=other)
    assert context(tmp_path)["other_model"] == ""  # nothing was trained here
    write_train(tmp_path / "train")
    assert f"another generator than the one that is trained here: {other}" in page(tmp_path).text


def test_about_tells_what_the_results_cannot(tmp_path):
    write_evaluation(tmp_path / "evaluate")
    about = {"title": "Cats <3", "text": ["A longer trained model was used."], "command": "make demo"}
    (tmp_path / "about.json").write_text(json.dumps(about))
    text = page(tmp_path).text
    assert text.startswith("Cats <3 Cats <3")  # title and heading
    assert "A longer trained model was used." in text
    assert "All of this: make demo" in text


def test_what_cannot_be_reported_is_one_sentence(tmp_path):
    (tmp_path / "about.json").write_text("{")
    with pytest.raises(UserError, match=r"about\.json' is not valid JSON"):
        write_report(tmp_path)
    with pytest.raises(UserError, match="There is no folder"):
        write_report(tmp_path / "absent")


def test_names_and_captions_cannot_break_the_page(tmp_path):
    evil = '<script>alert("x")</script>'
    with opened(tmp_path / "train", "train", notes=evil) as tracker:
        tracker.image("samples/" + evil, picture(tmp_path / "train" / "a.png", hue=0.1), caption=evil, kimg=1)
        tracker.log({evil: 1.0}, kimg=1)
        tracker.summary({evil: {"value": 1.0, "protocol": {evil: evil}}})
    html = write_report(tmp_path).read_text()
    assert "<script" not in html
    assert evil in Page(html).text


def test_wide_pictures_get_a_row_of_their_own(demo):
    wide = [figure.caption for figure in context(demo)["interpolation"]["figures"] if figure.is_wide]
    assert wide == ["a to b: slerp"]


def test_the_command_writes_the_page_and_prints_its_path(tmp_path):
    write_evaluation(tmp_path / "evaluate")
    command = [sys.executable, "-m", "wplus", "report"]
    done = subprocess.run([*command, f"folder={tmp_path}"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == str(tmp_path / "report.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evaluate", "report.html"]
