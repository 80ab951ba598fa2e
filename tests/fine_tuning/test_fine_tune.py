"""The stage: what comes out of it, what its card says, and what it leaves alone."""

import copy
import functools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from acclimate.augmentation.policy import choose_policy
from acclimate.cleaning.clean import clean
from acclimate.data.dataset import SPLITS
from acclimate.data.sources.read import read
from acclimate.errors import DataError, ModelFileError, RecipeError
from acclimate.fine_tuning.fine_tune import fine_tune, make_objective, val_gap_note
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.classifier import Classifier
from acclimate.models.pretrained import wrap
from acclimate.training.engine.step import LossInputs
from kit import CONTRACT, Recorder

SHORT = FineTune(epochs=2, batch_size=18, learning_rate=1e-2)


@pytest.fixture(scope="module")
def learnt(blank, dataset, policy, context):
    """The small network after two epochs. Never changed."""
    return fine_tune(blank, dataset, policy, SHORT, context=context)


def test_a_pretrained_network_learns_the_digits(tuned):
    step = tuned.card.steps[-1]
    curve = step.curve
    assert tuned.classes == tuple("0123456789")
    assert step.figures["start_val_accuracy"] < 0.3
    assert step.figures["val_accuracy"] > 0.6
    assert step.figures["best_epoch"] > 0
    assert curve[-1]["train_loss"] < 0.6 * curve[1]["train_loss"]


def test_a_network_that_knows_nothing_learns_far_above_chance(learnt):
    figures = learnt.card.steps[-1].figures
    assert figures["start_val_accuracy"] < 0.2
    assert figures["val_accuracy"] > 0.5


def test_the_given_classifier_is_left_as_it_was(blank, dataset, policy, context):
    given = replace(blank, network=copy.deepcopy(blank.network))
    weights = {name: t.clone() for name, t in given.network.state_dict().items()}
    fine_tune(
        given,
        dataset,
        policy,
        FineTune(epochs=1, batch_size=36, learning_rate=1e-2, batch_norm="train"),
        context=context,
    )
    after = given.network.state_dict()
    assert all(torch.equal(t, after[name]) for name, t in weights.items())
    assert not given.network.training
    assert given.card == blank.card
    assert all(p.grad is None for p in given.network.parameters())


def test_the_result_knows_its_classes_its_contract_and_where_it_came_from(learnt, blank, dataset):
    assert learnt.classes == dataset.classes
    assert learnt.contract == blank.contract
    assert learnt.architecture == blank.architecture
    assert learnt.card.parent == blank.digest
    assert learnt.card.dataset == dataset.digest
    assert learnt.card.steps[:-1] == blank.card.steps
    assert not learnt.network.training


def test_the_card_says_what_was_done_and_how_it_went(learnt):
    step = learnt.card.steps[-1]
    assert step.stage == "fine_tune"
    assert step.settings["epochs"] == 2
    assert step.settings["optimizer"] == "adamw"
    assert step.settings["label_smoothing"] == 0.1
    assert step.figures["batch_size"] == 18
    assert step.figures["learning_rate"] == 1e-2
    assert len(step.curve) == 3
    assert step.curve[0]["train_loss"] is None
    assert "patience: half of the epochs, at least 5." in step.notes
    json.dumps([dict(step.settings), dict(step.figures), list(step.curve)], allow_nan=False)


def test_the_result_is_saved_and_comes_back_the_same(learnt, tmp_path):
    learnt.save(tmp_path / "model")
    back = Classifier.load(tmp_path / "model")
    assert back.digest == learnt.digest
    assert back.card == learnt.card


def test_the_same_seed_gives_the_same_model_and_another_seed_another(
    blank, learnt, dataset, policy, context
):
    assert fine_tune(blank, dataset, policy, SHORT, context=context).digest == learnt.digest
    other = fine_tune(blank, dataset, policy, SHORT, context=replace(context, seed=1))
    assert other.digest != learnt.digest


def test_a_head_for_new_classes_is_fitted_before_training(blank, dataset, policy, context):
    recorder = Recorder()
    stranger = replace(blank, classes=tuple("abcdefghij"))
    settings = FineTune(epochs=1, batch_size=90, learning_rate=1e-9)
    here = replace(context, progress=recorder)
    model = fine_tune(stranger, dataset, policy, settings, context=here)
    assert model.classes == dataset.classes
    assert [step.stage for step in model.card.steps] == ["probe", "fine_tune"]
    assert model.card.steps[-1].figures["start_val_accuracy"] > 0.7
    assert any(line.startswith("probe: val accuracy 0.") for line in recorder.lines)


def test_a_classifier_that_knows_the_classes_goes_on_from_its_own_head(
    learnt, dataset, policy, context
):
    more = fine_tune(learnt, dataset, policy, SHORT, context=context)
    assert [step.stage for step in more.card.steps] == ["fine_tune", "fine_tune"]
    first, second = (step.figures for step in more.card.steps)
    assert second["start_val_accuracy"] == first["val_accuracy"]


def test_the_start_is_kept_when_training_only_harms_and_the_card_says_so(
    learnt, dataset, policy, context
):
    settings = FineTune(epochs=2, batch_size=18, learning_rate=0.05)
    kept = fine_tune(learnt, dataset, policy, settings, context=context)
    step = kept.card.steps[-1]
    assert kept.digest == learnt.digest
    assert step.figures["best_epoch"] == 0
    assert step.figures["epochs"] == 2
    assert step.curve[-1]["val_accuracy"] < 0.4
    assert "No epoch was better on val than the start, so the start was kept." in step.notes


def test_the_card_says_how_far_wise_ft_went_and_what_val_said(learnt, dataset, policy, context):
    settings = SHORT.model_copy(update={"wise_ft": "auto", "epochs": 1})
    step = fine_tune(learnt, dataset, policy, settings, context=context).card.steps[-1]
    taken = step.figures["wise_ft"]
    told = next(note for note in step.notes if note.startswith("WiSE-FT chose"))
    assert told.startswith(f"WiSE-FT chose {taken:g}; val accuracy (loss) by coefficient: 0: ")
    assert told.count("(") == 12
    assert f"{taken:g}: {step.figures['val_accuracy']:.3f} (" in told
    assert f" 0: {step.curve[0]['val_accuracy']:.3f} (" in told


def logits_of(objective, targets, rows):
    """What an objective pulls logits of nothing towards."""
    logits = torch.zeros(len(targets), 10, requires_grad=True)
    loss_inputs = LossInputs(torch.zeros(1), torch.as_tensor(targets), np.asarray(rows))
    objective(logits, loss_inputs).sum().backward()
    return -logits.grad


def test_logit_adjustment_pulls_harder_towards_a_rare_class(dataset):
    rows = dataset.rows("train")
    keep = dataset.keep.copy()
    keep[rows[dataset.labels[rows] == 4][2:]] = False
    rare = dataset.with_columns({"keep": keep})
    plainly, adjusted = (
        logits_of(make_objective(FineTune(balance=name, label_smoothing=0), rare), [4, 5], rows[:2])
        for name in ("none", "logit_adjustment")
    )
    assert plainly[0, 4] == pytest.approx(float(plainly[1, 5]))
    assert adjusted[0, 4] > plainly[0, 4]
    assert adjusted[1, 5] < plainly[1, 5]


def test_a_suspected_label_pulls_by_its_weight(dataset):
    first, second = dataset.rows("train")[:2].tolist()
    scores = [None] * len(dataset)
    scores[first] = 0.75
    scored = dataset.with_columns({"label_error": scores})
    objective = make_objective(FineTune(label_weights=True), scored)
    pulled = logits_of(objective, [1, 1], [first, second])
    assert torch.allclose(pulled[0] * 2, pulled[1])
    with pytest.raises(RecipeError, match="no training label has a score of inspect"):
        make_objective(FineTune(label_weights=True), dataset)


@pytest.mark.parametrize("loss", ["focal", "generalized_cross_entropy", "symmetric_cross_entropy"])
def test_each_loss_teaches(blank, dataset, policy, context, loss):
    settings = FineTune(epochs=2, batch_size=18, learning_rate=1e-2, loss=loss, balance="sampling")
    step = fine_tune(blank, dataset, policy, settings, context=context).card.steps[-1]
    assert step.figures["val_accuracy"] > step.figures["start_val_accuracy"] + 0.2


def test_the_plan_is_told_with_its_reasons(blank, dataset, policy, context):
    recorder = Recorder()
    settings = FineTune(epochs=1, batch_size=60, learning_rate=1e-3)
    fine_tune(blank, dataset, policy, settings, context=replace(context, progress=recorder))
    assert recorder.lines[0] == (
        "plan: 1 epoch, batch size 60, learning rate 0.001, 32-true on cpu"
    )
    assert "  precision: float32 on CPU" in recorder.lines


def my_optimizer(groups):
    return torch.optim.Adagrad(groups)


def test_an_optimizer_of_ones_own_is_recorded_by_its_name(blank, dataset, policy, context):
    settings = FineTune(epochs=1, batch_size=60, learning_rate=1e-2)
    model = fine_tune(blank, dataset, policy, settings, context=context, optimizer=my_optimizer)
    assert model.card.steps[-1].settings["optimizer"].endswith("my_optimizer")


def test_an_optimizer_without_a_name_is_recorded_without_an_address(
    blank, dataset, policy, context
):
    settings = FineTune(epochs=1, batch_size=60, learning_rate=1e-2)
    partial = functools.partial(torch.optim.SGD, momentum=0.5)
    model = fine_tune(blank, dataset, policy, settings, context=context, optimizer=partial)
    told = model.card.steps[-1].settings["optimizer"]
    assert "SGD" in told
    assert " at 0x" not in told


def test_an_exported_graph_does_not_outlive_its_weights(blank, dataset, policy, context):
    given = replace(blank, graph=b"of the old weights")
    settings = FineTune(epochs=1, batch_size=60, learning_rate=1e-2)
    assert fine_tune(given, dataset, policy, settings, context=context).graph is None


def test_a_model_without_a_network_is_refused(blank, dataset, policy, context):
    graph_only = replace(blank, network=None, graph=b"int8", precision="int8")
    with pytest.raises(ModelFileError) as caught:
        fine_tune(graph_only, dataset, policy, SHORT, context=context)
    assert str(caught.value) == (
        "test_efficientnet (int8) has no PyTorch network, only an ONNX graph. "
        "Use the float model that it was made of: the one given to quantize, or the folder of the "
        "step before quantize in the run's folder."
    )


def test_a_single_class_is_refused(tmp_path, blank, context):
    place = tmp_path / "photos" / "cat"
    place.mkdir(parents=True)
    for shade in range(6):
        Image.fromarray(np.full((40, 40, 3), shade * 20, np.uint8)).save(place / f"{shade}.png")
    photos = clean(read(tmp_path / "photos"), context=context)
    with pytest.raises(DataError) as caught:
        fine_tune(blank, photos, choose_policy(), SHORT, context=context)
    assert str(caught.value) == (
        f"{tmp_path / 'photos'}: data has only the class 'cat'; a classifier needs at least two "
        "classes. Put the images into one folder per class."
    )


def test_a_class_without_training_images_is_refused(blank, dataset, policy, context):
    names = [SPLITS[i] for i in dataset.splits]
    seven = dataset.labels == 7
    moved = ["val" if s and n == "train" else n for s, n in zip(seven, names, strict=True)]
    with pytest.raises(DataError, match="class '7' has no training images"):
        fine_tune(blank, dataset.with_columns({"split": moved}), policy, SHORT, context=context)


def test_a_batch_larger_than_the_data_is_refused_before_any_work(
    imagenet, dataset, policy, context
):
    recorder = Recorder()
    with pytest.raises(RecipeError, match="batch_size 100000 is larger than the training split"):
        fine_tune(
            imagenet,
            dataset,
            policy,
            FineTune(batch_size=100_000),
            context=replace(context, progress=recorder),
        )
    assert recorder.lines == []


def test_classes_missing_in_val_are_named_and_learnt_all_the_same(blank, dataset, policy, context):
    splits = [SPLITS[i] if i >= 0 else None for i in dataset.splits]
    labels = dataset.labels.tolist()
    moved = [
        "train" if split == "val" and label in (3, 7) else split
        for split, label in zip(splits, labels, strict=True)
    ]
    recorder = Recorder()
    tuned = fine_tune(
        blank, dataset.with_columns({"split": moved}), policy, SHORT,
        context=replace(context, progress=recorder),
    )  # fmt: skip
    warning = (
        "Val has no images of 2 classes ('3', '7'), so they do not count when the best epoch is "
        "chosen. Add some to val, or raise clean.val."
    )
    assert warning in recorder.lines
    assert warning in tuned.card.steps[-1].notes


def test_where_val_holds_every_class_or_is_none_nothing_is_said(dataset):
    assert val_gap_note(dataset) is None
    splits = [SPLITS[i] if i >= 0 else None for i in dataset.splits]
    none = ["train" if split == "val" else split for split in splits]
    assert val_gap_note(dataset.with_columns({"split": none})) is None


def test_a_network_without_a_head_to_replace_is_refused():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1))
    with pytest.raises(ModelFileError) as caught:
        wrap(network, CONTRACT)
    assert str(caught.value) == (
        "Sequential has no fully connected layer to replace as its head. End the network with "
        "torch.nn.Linear."
    )


def test_an_image_alone_in_its_class_trains(blank, dataset, policy, context):
    rows = np.flatnonzero((dataset.labels == 4) & (dataset.splits == SPLITS.index("train")))
    keep = dataset.table["keep"].to_pylist()
    for row in rows[1:]:
        keep[row] = False
    alone = dataset.with_columns({"keep": keep})
    assert alone.counts("train")["4"] == 1
    settings = FineTune(epochs=1, batch_size=18, learning_rate=1e-3)
    tuned = fine_tune(blank, alone, policy, settings, context=context)
    assert len(tuned.card.steps[-1].curve) == 2
