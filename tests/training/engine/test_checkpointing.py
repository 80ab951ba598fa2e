"""A training that was stopped within an epoch goes on at the very next batch."""

import math
import signal
import threading
from dataclasses import replace

import pyarrow as pa
import pytest
from torch import nn

from acclimate.errors import ModelFileError
from acclimate.fine_tuning.fine_tune import fine_tune
from acclimate.fine_tuning.settings import FineTune
from acclimate.training.batches.training_images import TrainingImages
from acclimate.training.engine import checkpointing
from acclimate.training.engine.checkpoint import find_state
from acclimate.training.engine.loop import train
from acclimate.training.plan import make_plan
from kit import (
    CONTRACT,
    Recorder,
    TensorBatches,
    cross_entropy,
    curve,
    mlp,
    same_weights,
    tiny_classifier,
)

SETTINGS = FineTune(epochs=2, batch_size=30, learning_rate=1e-2)
"""180 images: six batches an epoch."""


def interrupted(batch):
    return Recorder(at_advance=batch, by=signal.SIGINT)


@pytest.fixture
def run(context):
    def go(settings=SETTINGS, *, network=None, images=None, **facts):
        plan, here = make_plan(settings, 180, context), replace(context, **facts)
        network = network or mlp(64 if images is None else 3 * 32 * 32, dropout=0.5)
        source = images or TensorBatches(plan.batch_size)
        return train(network, source, cross_entropy, plan, context=here)

    return go


@pytest.mark.parametrize("mixup", [None, 1.0], ids=["dropout", "dropout and mixup"])
def test_stopped_within_an_epoch_it_ends_with_the_weights_of_a_run_that_was_not(
    run, dataset, policy, tmp_path, mixup
):
    settings = SETTINGS.model_copy(update={"batch_norm": "train"})
    mixed = mixup and TrainingImages(dataset, replace(policy, mixup=mixup), CONTRACT)
    whole = run(settings, images=mixed)
    for after in (2, 4 + 1, 1 + 1):  # a resumed epoch first counts what was done of it
        with pytest.raises(KeyboardInterrupt):
            run(settings, images=mixed, workspace=tmp_path, progress=interrupted(after))
    recorder = Recorder()
    resumed = run(settings, images=mixed, workspace=tmp_path, progress=recorder)
    # 2 batches, 4 more end the first epoch, one of the second.
    assert recorder.lines[0] == "resuming in epoch 2 of 2 at batch 2 of 6"
    assert recorder.advances == 1 + 5
    assert same_weights(resumed, whole)
    assert curve(resumed) == curve(whole)
    seconds = [e.seconds for e in resumed.curve]
    assert seconds == sorted(seconds)


def test_a_checkpoint_is_written_every_so_often(run, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpointing, "EVERY_S", 0.0)
    monkeypatch.setattr(checkpointing, "_MOST_TIME", math.inf)

    with pytest.raises(MemoryError):  # unlike a signal, it leaves no time to save anything
        run(workspace=tmp_path, progress=Recorder(at_advance=4, by=MemoryError))
    assert find_state(tmp_path).epoch_progress.batches == 3


def test_a_short_training_is_saved_once_an_epoch(run, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(checkpointing, "save_state", lambda state, _: saved.append(state.epoch))
    run(workspace=tmp_path)
    assert saved == [1, 2]


def test_writing_takes_a_small_part_of_the_time(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpointing.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(checkpointing, "save_state", lambda *_: now.__setitem__(0, now[0] + 30))
    checkpointer = checkpointing.Checkpointer(tmp_path)
    now[0] = 60.0
    assert checkpointer.due
    checkpointer.save(None)
    now[0] += 599
    assert not checkpointer.due
    now[0] += 2
    assert checkpointer.due


def test_sigterm_saves_and_then_does_what_it_did_before(run, tmp_path):
    signals = []
    before = signal.signal(signal.SIGTERM, lambda *_: signals.append("theirs"))
    try:
        run(workspace=tmp_path, progress=Recorder(at_advance=3, by=signal.SIGTERM))
        assert signals == ["theirs"]
        assert signal.getsignal(signal.SIGTERM) is not before
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_second_signal_stops_at_once(tmp_path):
    with checkpointing.Checkpointer(tmp_path) as checkpointer:
        signal.raise_signal(signal.SIGINT)
        assert checkpointer.due
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_a_place_to_save_signals_are_left_alone():
    before = signal.getsignal(signal.SIGINT)
    with checkpointing.Checkpointer(None) as checkpointer:
        assert signal.getsignal(signal.SIGINT) is before
        assert not checkpointer.due


def test_a_process_that_does_not_lead_waits_for_the_one_that_does(tmp_path):
    with checkpointing.Checkpointer(tmp_path, leads=False) as checkpointer:
        signal.raise_signal(signal.SIGINT)  # no KeyboardInterrupt
        assert not checkpointer.due


def test_outside_of_the_main_thread_signals_are_left_alone(tmp_path):
    def work():
        with checkpointing.Checkpointer(tmp_path) as checkpointer:
            seen.append(checkpointer.due)

    seen = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]


def test_a_checkpoint_of_another_network_is_refused_and_stays(run, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(workspace=tmp_path, progress=interrupted(2))
    kept = (tmp_path / "checkpoint.pt").read_bytes()
    other = nn.Sequential(nn.Linear(64, 10))
    with pytest.raises(ModelFileError) as caught:
        run(network=other, workspace=tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'checkpoint.pt'}: checkpoint belongs to another network: '0.bias' is missing "
        "there and (10,) here. Choose another workspace, or move the file away to "
        "train from the start."
    )
    assert (tmp_path / "checkpoint.pt").read_bytes() == kept


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"optimizer": "sgd"}, "optimizer was 'AdamW' there and is 'SGD' here"),
        ({"batch_size": 20}, "batch_size was 30 there and is 20 here"),
        ({"learning_rate": 1e-3}, "learning_rate was 0.01 there and is 0.001 here"),
        ({"schedule": "constant"}, "schedule was 'cosine' there and is 'constant' here"),
        ({"epochs": 3}, "epochs was 2 there and is 3 here"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(run, tmp_path, changed, said):
    with pytest.raises(KeyboardInterrupt):
        run(workspace=tmp_path, progress=interrupted(2))
    with pytest.raises(ModelFileError, match=said):
        run(SETTINGS.model_copy(update=changed), workspace=tmp_path)


def test_a_damaged_checkpoint_is_named(run, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(workspace=tmp_path, progress=interrupted(2))
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ModelFileError, match=r"checkpoint\.pt: checkpoint cannot be read \(.*\)\."):
        run(workspace=tmp_path)


def test_other_images_of_the_same_number_are_another_training(run, dataset, policy, tmp_path):
    images = TrainingImages(dataset, policy, CONTRACT)
    with pytest.raises(KeyboardInterrupt):
        run(images=images, workspace=tmp_path, progress=interrupted(2))
    labels = dataset.table["label"].to_pylist()
    moved = pa.array([*labels[1:], labels[0]]).dictionary_encode()
    place = dataset.table.schema.get_field_index("label")
    other = replace(dataset, table=dataset.table.set_column(place, "label", moved))
    with pytest.raises(ModelFileError, match="another training: data was"):
        run(images=TrainingImages(other, policy, CONTRACT), workspace=tmp_path)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"loss": "focal"}, "loss was 'cross_entropy' there and is 'focal' here"),
        ({"label_smoothing": 0.2}, "label_smoothing was 0.1 there and is 0.2 here"),
    ],
)
def test_a_finished_training_of_another_loss_is_not_handed_out(
    dataset, policy, context, tmp_path, changed, said
):
    start, here = tiny_classifier(dataset.classes), replace(context, workspace=tmp_path)
    settings = FineTune(epochs=1, batch_size=90, class_statistics=False)
    first = fine_tune(start, dataset, policy, settings, context=here)
    assert fine_tune(start, dataset, policy, settings, context=here).digest == first.digest
    with pytest.raises(ModelFileError, match=said):
        fine_tune(start, dataset, policy, settings.model_copy(update=changed), context=here)
