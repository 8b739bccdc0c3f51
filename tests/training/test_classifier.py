import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.evaluation.labelled import image_set
from wplus.__main__ import main
from wplus.data import ImageSet
from wplus.errors import UserError
from wplus.pretrained import attribute_training
from wplus.pretrained.attribute_classifier import load_classifier
from wplus.pretrained.attribute_training import Schedule
from wplus.tracking.local import read_records
from wplus.training import classifier as classifier_training
from wplus.training.classifier import accuracies, train

SHORT = Schedule(kimg=0.64, batch_size=16, snapshot_kimg=0.16, learning_rate=1e-2)


@pytest.fixture
def learn(tmp_path: Path) -> Any:
    def learned(images: ImageSet, folder: str = "a", schedule: Schedule = SHORT, **options: Any) -> Any:
        return train(images, name="toy", folder=tmp_path / folder, schedule=schedule, width=16, **options)

    return learned


def test_it_learns_what_can_be_seen(learn: Any) -> None:
    classifier = learn(image_set(200), num_contrasts=1)
    assert classifier.classes == {"corner": ["0", "1", "2", "3"], "ground": ["0", "1"]}
    assert classifier.attributes == ["corner=0", "corner=1", "corner=2", "corner=3", "ground=1"]
    found = {m.name: m for m in accuracies(classifier, image_set(100))}
    assert found["accuracy_corner"].value > 0.95
    assert found["accuracy_ground"].value > 0.95
    assert classifier.protocol["classifier_trained"]["num_images"] == 200


def test_an_interrupted_training_equals_an_uninterrupted_one(learn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    images, save = image_set(70), classifier_training._save

    def interrupted(path: Path, net: Any, optimizer: Any, run: Any, step: int) -> None:
        save(path, net, optimizer, run, step)
        if step == 20:
            raise KeyboardInterrupt

    whole = learn(images, "whole")
    monkeypatch.setattr(classifier_training, "_save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        learn(images, "part")
    monkeypatch.setattr(classifier_training, "_save", save)
    torch.manual_seed(5)  # the state of the process must not matter
    part = learn(images, "part")
    assert part.protocol == whole.protocol
    assert all(torch.equal(a, b) for a, b in zip(part.parameters(), whole.parameters(), strict=True))
    assert learn(images, "other", replace(SHORT, seed=1)).protocol != whole.protocol


def test_a_folder_of_another_training_is_refused(learn: Any) -> None:
    images, short = image_set(40), replace(SHORT, kimg=0.032)
    learn(images, schedule=short)
    with pytest.raises(UserError, match=r"another training \(learning_rate differ"):
        learn(images, schedule=replace(short, learning_rate=1e-4))


def test_every_image_is_seen_once_in_an_epoch() -> None:
    schedule = Schedule(kimg=0.07, batch_size=10)
    batches = [indices for _, indices in attribute_training._order(14, schedule, 0)]
    assert all(len(batch) == 10 for batch in batches)
    seen = torch.cat(batches).view(5, 14)
    assert torch.equal(seen.sort(dim=1).values, torch.arange(14).expand(5, -1))
    assert not torch.equal(seen[0], seen[1])
    later = [indices for _, indices in attribute_training._order(14, schedule, 3)]
    assert all(torch.equal(a, b) for a, b in zip(later, batches[3:], strict=True))


def test_the_rate_rises_and_falls() -> None:
    schedule = Schedule(kimg=6.4, batch_size=64, learning_rate=1.0)
    rates = [schedule.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[4] > 0.99
    assert rates[50] == pytest.approx(0.5)
    assert 0 < rates[99] < 0.001


def test_accuracy_counts_unseen_classes_as_wrong_and_has_wilsons_interval(learn: Any) -> None:
    classifier = learn(image_set(40), schedule=replace(SHORT, kimg=0.016))
    images = image_set(50)
    assert images.attributes is not None
    images.attributes["corner"][:] = 7 + torch.arange(50) % 2
    (corner, _) = accuracies(classifier, images)
    upper = 1.96**2 / (50 + 1.96**2)  # Wilson: (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), p = 0
    assert (corner.value, corner.interval[0]) == (0, 0)
    assert corner.interval[1] == pytest.approx(upper, rel=1e-3)


# The command


def test_the_command(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["data.num_images=60", "data.resolution=16", "schedule.kimg=0.1", "schedule.batch_size=20", "width=16"]
    arguments = ["tracking=local", "run_dir=out", "classifier=toy_cats", "factors=[body,flip]", *small]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WPLUS_CACHE", str(tmp_path / "cache"))
    for _ in range(2):  # the same command again loses no row
        assert main(["classifier", *arguments]) == 0
    assert [row["progress/kimg"] for row in read_records(tmp_path / "out")] == [0.1]
    classifier = load_classifier(tmp_path / "out" / "classifier.safetensors")
    assert classifier.name == "toy_cats"
    assert list(classifier.classes) == ["body", "flip"]
    values = json.loads((tmp_path / "out" / "result.json").read_text())["values"]
    assert list(values) == ["classifier/accuracy_body", "classifier/accuracy_flip"]
    assert values["classifier/accuracy_flip"]["protocol"]["num_images"] > 0
    assert "accuracy_flip" in capsys.readouterr().out
