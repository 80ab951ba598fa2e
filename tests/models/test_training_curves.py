"""The curves beside a model."""

import csv

from acclimate.models.classifier import Classifier, StepRecord


def test_a_saved_model_has_the_curve_of_every_training_beside_it(trained, tmp_path):
    again = StepRecord("fine_tune", curve=({"epoch": 0, "val_loss": 1.5, "train_loss": None},))
    twice = trained.after(again)
    twice.save(tmp_path / "model")
    with (tmp_path / "model" / "curve.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    step = twice.card.steps[-2]
    number = str(len(twice.card.steps) - 1)
    assert len(lines) == len(step.curve) + 1
    for line, epoch in zip(lines, step.curve, strict=False):
        assert (line["step"], line["stage"]) == (number, "fine_tune")
        for name, value in epoch.items():
            wanted = int(value) if name == "epoch" else value
            assert line[name] == ("" if value is None else str(wanted))
    assert lines[-1]["step"] == str(len(twice.card.steps))
    assert (lines[-1]["val_loss"], lines[-1]["train_loss"]) == ("1.5", "")
    assert Classifier.load(tmp_path / "model").digest == trained.digest


def test_a_model_that_was_not_trained_has_none(start, tmp_path):
    start.save(tmp_path / "model")
    assert not (tmp_path / "model" / "curve.csv").exists()
