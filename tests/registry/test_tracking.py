"""Curves in MLflow, and what happens where it does not answer."""

from dataclasses import replace

import pytest
import timm
from mlflow import MlflowClient

from acclimate.models.classifier import StepRecord
from acclimate.models.pretrained import wrap
from acclimate.registry.tracking import track
from kit import Recorder


@pytest.fixture(scope="module")
def trained():
    """A small classifier with a training curve of three epochs in its card."""
    start = {"epoch": 0, "train_loss": None, "val_loss": 2.3, "val_accuracy": 0.125}
    epochs = [
        {"epoch": n, "train_loss": 2.5 - n / 2, "val_loss": 2.25 - n / 2, "val_accuracy": n / 4}
        for n in (1, 2, 3)
    ]
    model = wrap(timm.create_model("test_efficientnet", num_classes=10))
    made = model.after(StepRecord("fine_tune", curve=(start, *epochs)))
    return replace(made, card=replace(made.card, dataset="0" * 32))


def test_every_figure_of_every_epoch_is_there(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MLflow makes a folder for artifacts where it stands
    uri, recorder = f"sqlite:///{tmp_path / 'tracking.db'}", Recorder()
    run = track(uri, "leaf", trained, recorder)
    client = MlflowClient(tracking_uri=uri)
    kept = client.get_run(run)
    assert kept.info.run_name == "leaf"
    assert kept.info.status == "FINISHED"
    assert kept.data.params["digest"] == trained.digest
    curve = trained.card.steps[-1].curve
    accuracy = client.get_metric_history(run, "fine_tune/val_accuracy")
    assert [(m.step, m.value) for m in accuracy] == [
        (e["epoch"], pytest.approx(e["val_accuracy"])) for e in curve
    ]
    loss = client.get_metric_history(run, "fine_tune/train_loss")
    assert [m.step for m in loss] == [e["epoch"] for e in curve[1:]]  # unknown at the start
    assert recorder.lines == [
        f"training curves are in MLflow at {uri}, experiment acclimate, run {run}"
    ]
    assert track(uri, "leaf", trained, recorder) != run  # another run, in the same experiment


def test_where_nothing_was_trained_nothing_is_sent(start, tmp_path):
    assert track(f"sqlite:///{tmp_path / 'tracking.db'}", "leaf", start, Recorder()) is None
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_answer_costs_no_model(trained, tmp_path):
    recorder = Recorder()
    uri = "no-such-scheme://host"
    assert track(uri, "leaf", trained, recorder) is None
    assert recorder.lines[0].startswith(f"training curves were not sent to MLflow at {uri} (")
