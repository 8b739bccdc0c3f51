from __future__ import annotations

from wplus.evaluation.interpolation.columns import meaning, shown


def test_a_number_whose_name_begins_like_another_is_not_taken_for_it():
    names = ["step_cv_max", "end_miss", "end_psnr_db", "end_net", "step_cv", "ends_pass"]
    columns = shown(names)["Ends and shape of the way"]
    assert list(columns) == ["ends_pass", "end_psnr_db", "end_net", "step_cv", "step_cv_max"]
    assert len({meaning(name) for name in names} - {""}) == len(names)
    assert shown(["step_cv_max"])["Ends and shape of the way"].keys() == {"step_cv_max"}
    assert shown(["unknown"]) == {}
