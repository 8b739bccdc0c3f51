"""The page's content: runs, sweeps and folders, no external resources, and no name that breaks it."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.report.fake_runs import WEIGHT, entry, invert_spec, write_inversion, write_run, write_sweep, write_training
from wplus.__main__ import main
from wplus.errors import UserError
from wplus.report.page import context, write_report
from wplus.report.runs import read_subject
from wplus.sweeps.answer import Asked
from wplus.sweeps.search import Search
from wplus.sweeps.spec import Spec, Stage

EVIL = '<script>alert("x")</script>'


class Page(HTMLParser):
    """Collects what a browser would load, and the text; complains about tags that are not closed in order."""

    VOID = ("meta", "img", "br", "link", "input")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loaded: list[tuple[str, str]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.loaded += [(tag, value) for name, value in attrs if name in ("src", "srcset", "poster")]
        self.loaded += [(tag, value) for name, value in attrs if name == "href" and not value.startswith("#")]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open[-1:] not in (["style"], ["script"]):
            self.words.append(" ".join(data.split()))

    @property
    def text(self) -> str:
        return " ".join(word for word in self.words if word)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    return write_sweep(tmp_path_factory.mktemp("page") / "sweep", invert_spec(), lost=1)


@pytest.fixture(scope="module")
def html(sweep) -> str:
    return write_report(sweep).read_text()


def part(*folders: Path) -> dict:
    return context(folders)["parts"][0]


def test_all_that_is_shown_is_inside(html):
    loaded = Page(html).loaded
    kinds = {source.partition(",")[0].partition(";")[0] for _, source in loaded}
    assert kinds == {"data:image/webp", "data:"}
    assert html.count("<img ") == 3 * (1 + 7)  # targets once, inversions of seven runs
    assert len(loaded) == len(set(loaded))  # equal ones are there once
    assert "default-src 'none'" in html
    assert re.search(r"@import|url\(http", html.partition("<script")[0]) is None


def test_the_whole_of_a_sweep_is_told(html):
    text = Page(html).text
    for words in (
        "Which space?", "wplus sweep run spaces", "7 done", "1 failed",
        "no such cat", "deep <inside>",
        "psnr_db ↑", "prior_distance ↓", "24.05", "24, 24.1",  # the mean of two seeds, and both
        "Peak signal-to-noise ratio of the pixels.", "distance.name", "effnet_lite0",
        "a processor", "2.14", "psnr_db 24", "model cats.safetensors", "Over evaluations of the generator",
    ):  # fmt: skip
        assert words in text, words


def test_the_table_is_data_for_the_script(sweep):
    block = part(sweep)["block"]["data"]
    names = [row["name"] for row in block["rows"]]
    assert all("w+" in name for name in names[:2])  # the best first
    assert {key["label"]: (key["kind"], key["ticks"], key["at"]) for key in block["keys"]} == {
        "perceptual": ("log", ["0.1", "1"], [1, 0.1, 1, 0.1]),
        "space": ("choice", ["w", "w+"], [1, 1, 0, 0]),
    }  # fmt: skip
    cell = block["rows"][0]["cells"]["invert/psnr_db"]
    assert cell == {"value": 24.05, "low": None, "high": None, "over": "seeds", "points": [[0, 24.0], [1, 24.1]]}
    alone = block["rows"][3]["cells"]["invert/psnr_db"]  # its other seed failed: the interval of its images
    assert (alone["low"], alone["high"], alone["over"], len(alone["points"])) == (18.6, 19.6, "items", 1)
    assert (block["baseline"], block["objective"]) == (names[2], "invert/psnr_db")
    tests = {base: rows[names[0]]["invert/psnr_db"] for base, rows in block["tests"].items() if base != names[0]}
    differences = {base: round(test["difference"], 6) for base, test in tests.items()}
    assert differences == {names[1]: 1, names[2]: 4, names[3]: 5}
    assert len(block["members"]) == 7


def test_intervals_and_tests_begin_with_five_seeds(tmp_path):
    block = part(write_sweep(tmp_path / "s", invert_spec(seeds=5), images=1))["block"]["data"]
    cell = block["rows"][0]["cells"]["invert/psnr_db"]
    assert cell["low"] < cell["value"] < cell["high"]
    assert cell["over"] == "seeds"
    best = block["rows"][0]["name"]
    test = block["tests"][block["baseline"]][best]["invert/psnr_db"]
    assert test["num"] == 5
    assert 0 < test["p"] <= 1


def in_order(words: str) -> str:
    return " ".join(words.split())


def test_what_the_table_command_finds_stands_on_the_page(tmp_path, capsys):
    """Tests, equivalence within the sweep's margin, spreads, and the winner on fresh seeds: the same cells."""
    spec = replace(invert_spec(seeds=5), margin=0.5)
    sweep = write_sweep(tmp_path / "s", spec, images=2)
    best = Stage(verb="invert", points=[{"space": "w+", WEIGHT: 1.0}], seeds=[4, 5, 6, 7, 8, 9])  # 4 is not fresh
    write_sweep(sweep / "confirm" / "best", replace(spec, name="best", stages=[best], baseline={}))
    found = part(sweep)["findings"]
    titles = [section.title for section in found["sections"]]
    assert "margin of invert/psnr_db 0.5" in titles[0]
    assert "on the seeds that chose" in titles[-1]
    assert found["sections"][0].rows[1][1].endswith("equal within the margin: p = 1")
    assert found["sections"][-1].rows[0][2] == "fresh seeds 5 to 9"
    (row,) = found["sections"][-1].rows[1:]
    assert (row[0], row[3]) == ("perceptual=1.0 space=w+", "+0.5")
    text = in_order(Page(write_report(sweep).read_text()).text)
    assert main(["sweep", "table", str(sweep), "--output", str(tmp_path / "t.md")]) == 0
    said = in_order(capsys.readouterr().out)
    for section in found["sections"]:
        for cell in section.rows[1]:
            assert cell in text
        assert in_order(section.title)[:60] in said
    for note in found["notes"]:
        assert note in text
        assert note in said


def test_several_data_sets_are_compared_on_the_page(tmp_path):
    for data, level in {"cats": 10.0, "dogs": 30.0}.items():
        for method, gain in (("old", 0.0), ("new", 1.0)):
            for seed in range(3):
                values = {"invert/psnr_db": entry("psnr_db", level + gain + 0.1 * seed)}
                question = {"data.name": data, "method": method, "seed": seed}
                write_run(tmp_path / f"{data}{method}{seed}", "invert", values, question)
    asked = Asked(sort="psnr_db", baseline="method=old", across=["data"])
    sections = context([tmp_path], asked)["parts"][0]["findings"]["sections"]
    (over,) = [section for section in sections if "over all data.name" in section.title]
    ((method, words),) = over.rows[1:]
    assert method == "method=new"
    assert re.fullmatch(r"\+1 \(\+0\.9\d+ to \+1\.0\d+\); better with 1\.00 \[2 sets\]", words)
    write_training(tmp_path / "train", {"training.hparams.gamma": 0.5, "seed": 0})
    with pytest.raises(UserError, match="are for one command; these are runs of train and invert"):
        context([tmp_path], asked)


def test_what_is_searched_by_factors_stands_on_a_logarithmic_axis(tmp_path):
    points = [{WEIGHT: value} for value in (0.123456789, 0.3, 0.4)]
    search = Search(trials=3, space={WEIGHT: {"low": 0.1, "high": 1.0, "log": True}}, points=points)
    stage = Stage(verb="invert", axes={"space": ["w"]}, seeds=[0])
    spec = Spec(name="s", stages=[stage], objective="invert/psnr_db", search=search)
    (key,) = part(write_sweep(tmp_path / "s", spec, images=1))["block"]["data"]["keys"]
    assert (key["kind"], key["ticks"]) == ("log", ["0.1235", "0.3", "0.4"])


def test_curves_and_the_film_of_a_training(tmp_path):
    folder = write_training(tmp_path / "train", {"training.hparams.gamma": 0.5, "seed": 0})
    found = part(folder)
    charts = {chart["title"]: chart for chart in found["curves"]["charts"]}
    assert list(charts)[:2] == ["val/fd_effnet_lite0", "losses"]
    assert [line["name"] for line in charts["losses"]["lines"]] == ["train/generator/loss", "train/discriminator/loss"]
    assert charts["val/fd_effnet_lite0"]["meanings"] == {"val/fd_effnet_lite0": "Fréchet distance while training."}
    assert charts["penalties"]["lines"][0]["y"][5] is None  # not finite: a gap
    (grid,) = found["grids"]
    assert [len(cell.frames) for cell in grid.rows["fixed latents"]] == [3]
    assert grid.has_film
    assert found["derived"] == [{"name": "gamma", "value": "0.5", "why": "given"}]


def test_curves_of_many_runs_are_thinned_and_grouped(tmp_path):
    spec = Spec(name="t", stages=[Stage(verb="train", axes={"training.hparams.gamma": [0.1, 1]}, seeds=2)])
    found = part(write_sweep(tmp_path / "s", spec, steps=600))
    assert found["curves"]["has_seeds"]
    chart = next(each for each in found["curves"]["charts"] if each["title"] == "train/generator/loss")
    assert [(line["group"], len(line["x"])) for line in chart["lines"]] == [
        ("gamma=0.1", 240), ("gamma=0.1", 240), ("gamma=1", 240), ("gamma=1", 240)
    ]  # fmt: skip
    assert chart["lines"][0]["x"][0] == pytest.approx((0.1 + 0.2 + 0.3) / 3, abs=0.06)  # means of neighbours


def test_a_folder_of_runs_has_a_part_for_every_command_in_the_order_of_the_story(tmp_path):
    write_inversion(tmp_path / "invert" / "w", {"space": "w", WEIGHT: 1, "seed": 0})
    write_training(tmp_path / "train", {"training.hparams.gamma": 0.5, "seed": 0})
    write_run(tmp_path / "evaluate", "evaluate", {"evaluate/x": entry("seconds", 1.0)}, {})
    assert [part["heading"] for part in context([tmp_path])["parts"]] == ["Train", "Invert", "Evaluate"]


def test_methods_of_one_run_are_a_table_with_their_tests(tmp_path):
    methods = {"evaluate/paths": {
        "lerp": {"psnr_db": entry("psnr_db", 20.0, (19.0, 21.0))},
        "slerp <b>": {"psnr_db": entry("psnr_db", 22.0, (21.0, 23.0)), "seconds": entry("seconds", 1.0)},
    }}  # fmt: skip
    folder = write_run(tmp_path / "e", "evaluate", {}, {}, methods=methods,
                       files={"evaluate/paths_paired": ["tables/paired.json"]})  # fmt: skip
    columns = ["method", "score", "difference", "low", "high", "p", "p_holm", "higher", "effect", "num_items"]
    (folder / "tables").mkdir()
    table = {"columns": columns, "rows": [["slerp <b>", "psnr_db", 2.0, 1.0, 3.0, 0.01, 0.02, 1.0, 1.0, 8]]}
    (folder / "tables" / "paired.json").write_text(json.dumps(table))
    (block,) = part(folder)["methods"]
    assert block["data"]["baseline"] == "lerp"
    assert block["data"]["tests"]["lerp"]["slerp <b>"]["psnr_db"] == {
        "difference": 2.0, "low": 1.0, "high": 3.0, "p": 0.02, "num": 8
    }  # fmt: skip
    text = Page(write_report(folder).read_text()).text
    for words in ("slerp <b>", "21 to 23", "on the same items", "–"):
        assert words in text, words


def test_a_run_that_goes_on_is_shown_with_what_it_has(tmp_path):
    write_run(tmp_path / "r", "evaluate", {"evaluate/x": entry("seconds", 1.5)}, {}, status="running")
    found = context([tmp_path / "r"])
    assert found["parts"][0]["meanings"][0]["cell"]["value"] == 1.5
    assert [job.state for job in found["lost"]] == ["killed"]  # nobody holds its lock


def test_names_and_words_cannot_break_the_page(tmp_path):
    (tmp_path / "about.json").write_text(json.dumps({"title": EVIL, "text": [EVIL], "command": EVIL}))
    for space in ("w", EVIL):
        folder = write_inversion(tmp_path / f"r{len(space)}", {"space": space, WEIGHT: 1, "seed": 0})
        result = json.loads((folder / "result.json").read_text())
        result["values"][EVIL] = {**entry("seconds", 1.0), "meaning": EVIL, "protocol": {EVIL: EVIL}}
        (folder / "result.json").write_text(json.dumps({**result, "command": EVIL}))
        rows = [{"time": 1, "message": {"text": EVIL, "level": "warning"}}, {"progress/kimg": 1, EVIL: 1.0},
                {"progress/kimg": 2, EVIL: 2.0}]  # fmt: skip
        (folder / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    html = write_report(tmp_path).read_text()
    assert html.count("<script") == 3  # the data, plotly, and our own
    assert EVIL not in html
    assert EVIL in Page(html).text


def test_about_tells_what_the_runs_cannot(tmp_path):
    write_run(tmp_path / "e", "evaluate", {}, {})
    about = {"title": "Cats <3", "text": ["A longer trained model."], "command": "make demo"}
    about["parts"] = {"evaluate": "Few."}
    (tmp_path / "about.json").write_text(json.dumps(about))
    text = Page(write_report(tmp_path).read_text()).text
    for words in ("Cats <3 Skip to the numbers Cats <3", "A longer trained model.", "make demo", "Few."):
        assert words in text, words


def test_what_cannot_be_reported_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="There are no runs in"):
        write_report(tmp_path)
    with pytest.raises(UserError, match="There is no folder"):
        write_report(tmp_path / "absent")
    write_run(tmp_path / "r", "evaluate", {}, {})
    (tmp_path / "about.json").write_text("{")
    with pytest.raises(UserError, match=r"about\.json' is not valid JSON"):
        write_report(tmp_path)


def test_the_commands_write_the_page_and_print_its_path(sweep, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", "report", str(sweep), str(sweep.parent / "runs"), "--output", "both.html"]) == 0
    assert main(["report", f"folder=[{sweep},{sweep.parent}/runs]"]) == 0
    assert capsys.readouterr().out.splitlines() == ["both.html", "report.html"]
    assert (tmp_path / "both.html").stat().st_size == (tmp_path / "report.html").stat().st_size > 4e6
    assert main(["sweep", "report", str(tmp_path)]) == 1
    assert "There are no runs in" in capsys.readouterr().err


def test_every_run_is_there_once(sweep):
    subject = read_subject([sweep, sweep.parent / "runs", sweep])
    assert [(part.name, len(part.runs)) for part in subject.parts] == [("invert", 7)]


def test_without_an_answer_of_the_baseline_the_table_has_none(tmp_path):
    folder = write_sweep(tmp_path / "s", invert_spec(seeds=1), lost=2)  # the configurations of space w
    assert part(folder)["block"]["data"]["baseline"] is None
