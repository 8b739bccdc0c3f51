"""The page in a headless Chromium: sorting, filtering, brushing, opening pictures, playing videos, without errors."""

import pytest

from experiments.browser import Browser, browser, find_browser
from tests.report.fake_runs import film, invert_spec, write_sweep
from wplus.report.page import write_report

pytestmark = pytest.mark.skipif(find_browser() is None, reason="there is no Chromium: install one, or set CHROMIUM")

EVIL = "<script>document.title = 'broken'</script><img src=x onerror=\"document.title = 'broken'\">"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A sweep of four configurations and two seeds with videos, and a question that tries to inject HTML."""
    folder = tmp_path_factory.mktemp("page")
    moving = film(folder / "film.mp4").read_bytes()
    sweep = write_sweep(folder / "sweep", invert_spec(question=f"Which space? {EVIL}"), film=moving)
    with browser() as opened:
        opened.page = write_report(sweep)
        opened.open(opened.page)
        yield opened
        assert opened.errors == []
        assert opened.requests == []


def rows(page: Browser) -> list[str]:
    """The configurations shown in the table, in its order."""
    return page.run("[...document.querySelectorAll('table.numbers tbody tr:not([hidden])')].map(r => r.dataset.row)")


def type_into(page: Browser, selector: str, text: str) -> None:
    page.run(f"""(() => {{ const field = document.querySelector({selector!r}); field.value = {text!r};
        field.dispatchEvent(new Event('input', {{bubbles: true}}));
        field.dispatchEvent(new Event('change', {{bubbles: true}})); }})()""")


def test_the_words_of_a_user_stay_words(page):
    assert "<script>document.title" in page.run("document.querySelector('h1').textContent")
    assert page.run("document.title").startswith("Which space? <script>")


def test_a_click_sorts_and_says_so(page):
    assert rows(page) == ["0", "1", "2", "3"]  # by the objective
    head = "th[data-number='invert/psnr_db']"
    assert page.run(f"document.querySelector(\"{head}\").getAttribute('aria-sort')") == "descending"
    page.click(f"{head} button")
    assert rows(page) == ["3", "2", "1", "0"]
    assert page.run(f"document.querySelector(\"{head}\").getAttribute('aria-sort')") == "ascending"
    page.click("th[data-number='invert/seconds'] button")
    assert page.run("document.querySelectorAll('table.numbers th[aria-sort]').length") == 1


def test_a_filter_hides_rows_and_pictures(page):
    type_into(page, ".filter", "space=w+")
    assert sorted(rows(page)) == ["0", "1"]
    shown = "[...document.querySelectorAll('.grid thead th[data-group]')].filter(h => !h.hidden).length"
    assert page.run(shown) == 2 * 2 + 2 * 2  # a grid of images, one of films
    assert page.run("document.querySelector('.shown').textContent") == "2 of 4 shown"
    type_into(page, ".filter", "")
    assert len(rows(page)) == 4


def test_columns_hide_and_a_baseline_gives_differences(page):
    head = "document.querySelector(\"th[data-number='invert/seconds']\").hidden"
    labels = "[...document.querySelectorAll('.columns label')]"
    box = page.run(f"{labels}.findIndex(l => l.textContent.startsWith('seconds'))")
    assert page.run(head) is False
    page.run(f"document.querySelectorAll('.columns input')[{box}].click()")
    assert page.run(head) is True
    text = "document.querySelector(\"tr[data-row='0'] td[data-number='invert/psnr_db'] .difference\")?.textContent"
    assert page.run(text) == "Δ +4"  # below five seeds without a test
    names = page.run("[...document.querySelector('.baseline').options].map(o => o.textContent)")
    type_into(page, ".baseline", names[1])
    assert page.run(text) is None
    other = text.replace("data-row='0'", "data-row='3'")
    assert page.run(other) == "Δ −5"
    type_into(page, ".baseline", "")
    assert page.run(other) is None


def test_a_brush_keeps_the_lines_that_pass(page):
    page.run("document.querySelector('[data-chart=parallel]').scrollIntoView({block: 'center'})")
    page.wait("document.querySelectorAll('[data-chart=parallel] .axis-brush').length > 0")
    page.settle("[data-chart=parallel]")
    names = page.run("[...document.querySelectorAll('[data-chart=parallel] .axis-title')].map(t => t.textContent)")
    place = names.index("space")
    brushes = "document.querySelectorAll('[data-chart=parallel] .axis-brush .background')"
    box = page.run(f"(b => [b.x + b.width / 2, b.y, b.height])({brushes}[{place}].getBoundingClientRect())")
    page.drag((box[0], box[1] + 3), (box[0], box[1] + 0.4 * box[2]))  # the upper part: the second value
    page.wait("document.querySelectorAll('table.numbers tbody tr[hidden]').length === 2")
    kept = {page.run(f"document.querySelector(\"tr[data-row='{row}'] th\").textContent") for row in rows(page)}
    assert all("w+" in name for name in kept)
    page.click(".unbrush")
    page.wait("document.querySelectorAll('table.numbers tbody tr[hidden]').length === 0")


def test_a_picture_opens_and_the_keys_step_on(page):
    page.click(".grid button.open")
    assert page.run("document.querySelector('#viewer').open")
    first = page.run("document.querySelector('#viewer img').alt")
    page.key("ArrowRight")
    second = page.run("document.querySelector('#viewer img').alt")
    assert first == "cat0, target"
    assert second.startswith("cat0, inversion: ")
    page.key("ArrowDown")
    assert page.run("document.querySelector('#viewer img').alt").startswith("cat1, inversion: ")
    page.run("document.querySelector('#viewer .close').click()")
    assert not page.run("document.querySelector('#viewer').open")


def test_films_play_in_step(page):
    page.run("document.querySelector('.play').closest('.grid').scrollIntoView()")
    videos = "[...document.querySelectorAll('.grid video')]"
    assert page.run(f"{videos}.length") == 8
    assert page.run(f"new Set({videos}.map(v => v.src)).size") == 1  # the same film is in the page once
    assert page.run(f"{videos}.filter(v => v.hasAttribute('id')).length") == 1
    page.run("document.querySelector('.play').click()")
    page.wait(f"{videos}.every(v => v.currentTime > 0.1)")
    page.run("document.querySelector('.play').click()")
    type_into(page, ".position", "500")
    page.wait(f"{videos}.every(v => Math.abs(v.currentTime - v.duration / 2) < 0.06)")
    assert page.run(f"{videos}.every(v => v.paused)")


def test_every_figure_is_drawn(page):
    page.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    charts = page.run("[...document.querySelectorAll('[data-chart]')].map(c => c.dataset.chart)")
    assert sorted(set(charts)) == ["axis", "curve", "dots", "heat", "parallel", "pareto"]
    for index in range(len(charts)):
        page.run(f"document.querySelectorAll('[data-chart]')[{index}].scrollIntoView({{block: 'center'}})")
        page.wait(f"document.querySelectorAll('[data-chart]')[{index}].querySelector('.main-svg') !== null")


@pytest.mark.parametrize("dark", [True, False])
def test_it_is_readable_on_a_telephone_dark_and_light(page, dark):
    page.show(390, 800, dark=dark)
    page.wait("document.documentElement.scrollWidth <= 390", seconds=10)
    assert page.run("Math.min(...[...document.querySelectorAll('p, td, th, figcaption, label')]"
                    ".map(e => parseFloat(getComputedStyle(e).fontSize)))") >= 12  # fmt: skip
    ink, paper = page.run("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
    brightness = [sum(map(int, colour[4:-1].split(", "))) / 765 for colour in (ink, paper)]
    assert (brightness[0] > 0.8 > 0.2 > brightness[1]) == dark
    assert (brightness[1] > 0.8 > 0.2 > brightness[0]) == (not dark)


def test_a_page_of_a_hundred_runs_opens_in_three_seconds(page, hundred):
    began = page.processor_seconds()
    page.open(hundred)
    assert page.processor_seconds() - began < 3
    assert len(rows(page)) == 20
