"""The tables of the study of disentanglement: a cell for each generator and space."""

from experiments.studies.disentanglement import tables
from wplus.config import CONFIG_FOLDER
from wplus.core.files import write_json
from wplus.sweeps.spec import read_spec


def test_every_number_stands_under_its_space(tmp_path):
    names = ["dci_disentanglement_z_x", "dci_disentanglement_w_x", "dci_completeness_w_x", "ls_w_x", "mig_s_x",
             "ppl_zfull_effnet_lite0_seen", "ppl_wfull_effnet_lite0_seen", "fd_mobilenet_v2"]  # fmt: skip
    for seed in (0, 1):
        entries = {f"evaluate/{name}": {"value": number + seed} for number, name in enumerate(names)}
        write_json(tmp_path / str(seed) / "result.json", {"status": "finished", "values": entries})
    found = {title: text.splitlines() for title, text in tables.tables({"no noise": [tmp_path / "0", tmp_path / "1"]})}
    assert found["Disentanglement"] == [
        "| generator | z | w |", "| --- | --- | --- |",
        "| no noise | 0.500 (0.000 to 1.000) | 1.500 (1.000 to 2.000) |",
    ]  # fmt: skip
    assert found["Completeness"][::2] == ["| generator | w |", "| no noise | 2.500 (2.000 to 3.000) |"]
    assert found["Linear separability"][-1] == "| no noise | 4 (3 to 4) |"
    assert found["Mutual information gap"][0] == "| generator | s |"
    assert found["Path length"][::2] == ["| generator | z | w |", "| no noise | 5.5 (5.0 to 6.0) | 6.5 (6.0 to 7.0) |"]
    assert found["Fréchet distance"][-1] == "| no noise | 8 (7 to 8) |"


def test_every_generator_has_a_name_of_its_own():
    points = read_spec(CONFIG_FOLDER / "sweep" / "disentanglement.yaml").stages[0].points
    names = [tables.name_of(point) for point in points]
    assert names == ["as it is", "no style mixing", "mapping of 8 layers", "no noise"]
