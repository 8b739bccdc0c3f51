"""Methods side by side in the report: which numbers belong together, and what the page says of them."""

import json

import pytest

from tests.tracking.demo_folder import write_evaluation, write_methods
from tests.tracking.test_report import page
from wplus.tracking.local import read_result
from wplus.tracking.report import context, write_report


@pytest.fixture
def folder(tmp_path):
    write_methods(tmp_path / "evaluate", "evaluate/interpolation", "evaluate")
    return tmp_path


def test_numbers_of_methods_stand_apart_from_others(folder):
    write_evaluation(folder / "evaluate")
    found = context(folder)["evaluation"]
    assert [row["name"] for row in found["values"]] == ["fd_effnet_lite0", "ppl_w_end"]
    (table,) = found["methods"]
    assert table["methods"] == ["w_lerp", "z_slerp", "cross-dissolve <of pixels>"]
    assert [row["name"] for row in table["rows"]] == ["psnr_db", "step_cv"]
    assert [cell["value"] for cell in table["rows"][0]["cells"]] == ["23.5", "25.5", "–"]
    assert [figure.caption for figure in table["figures"]] == ["a pair of images"]
    assert found["figures"] == []


def test_the_page_shows_charts_tables_and_tests(folder):
    html = write_report(folder).read_text()
    assert html.count('<g class="dot"') == 2 + 3
    text = page(folder).text
    for words in (
        "Interpolation: 3 methods on the same pairs",
        "How uneven the steps are; 0 is perfectly even.",
        "Peak signal-to-noise ratio",
        "+2 p 0.02",
        "a pair of images",
    ):
        assert words in text, words
    assert "cross-dissolve &lt;of pixels&gt;" in html
    assert 'title="higher on 100% of 8, effect +1.00"' in html


def test_what_is_equal_in_all_methods_is_said_once(folder):
    (table,) = context(folder)["evaluation"]["methods"]
    protocol = dict(table["rows"][1]["protocol"])
    assert protocol["num_items"] == "8"
    assert protocol["path"].startswith("w_lerp: w_lerp, z_slerp: z_slerp")


def test_inversions_compared_stand_with_the_inversions(tmp_path):
    write_methods(tmp_path / "compare", "compare/methods", "compare")
    text = page(tmp_path).text
    assert "Inversions compared on the same images" in text
    assert text.index("Inversions compared") < text.index("Missing: interpolate/")


def test_a_lost_table_of_tests_is_left_out(folder):
    (folder / "evaluate" / "tables" / "evaluate_interpolation_paired.json").unlink()
    (table,) = context(folder)["evaluation"]["methods"]
    assert table["paired"] is None


def test_the_record_keeps_what_a_number_means(folder):
    entry = read_result(folder / "evaluate")["methods"]["evaluate/interpolation"]["w_lerp"]["step_cv"]
    assert entry["meaning"].startswith("How uneven")
    assert json.dumps(entry)
