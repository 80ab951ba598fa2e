"""Classes that come later: the new ones are learnt, the old ones kept, and the price is told."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from acclimate.errors import ModelFileError, RecipeError
from acclimate.evaluation.evaluate import evaluate
from acclimate.evaluation.settings import Evaluate
from acclimate.fine_tuning.class_incremental import class_increment_of
from acclimate.fine_tuning.fine_tune import fine_tune
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.classifier import Classifier
from acclimate.models.heads import MlpHead, replace_head
from acclimate.models.structure import backbone, head, with_head
from acclimate.models.weights import digest_weights
from kit import Recorder, classifier_once

OLD = 8
KEEP = FineTune(keep_classes=True, epochs=2, batch_size=16, learning_rate=5e-4)
JUDGE = Evaluate(bootstrap=100, latency=False)


def of(dataset, *digits, kept=None):
    """The images of some digits, and of `kept` a few training images a digit."""
    keep = dataset.keep & np.isin(dataset.labels, digits)
    for digit, images in (kept or {}).items():
        rows = dataset.rows("train")
        keep[rows[dataset.labels[rows] == digit][:images]] = True
    names = sorted({*map(str, digits), *map(str, kept or {})})
    return replace(dataset.with_columns({"keep": keep}), classes=tuple(names))


@pytest.fixture(scope="module")
def old(blank, dataset, policy, shared, context):
    """The digits 0 to 7 learnt. Never changed."""
    settings = FineTune(epochs=8, batch_size=16, learning_rate=1e-2)
    start, data = replace(blank, classes=()), of(dataset, *range(OLD))
    return classifier_once(
        shared / "old classes",
        lambda: fine_tune(start, data, policy, settings, context=context),
    )


@pytest.fixture(scope="module")
def new(dataset):
    """Images of 8 and 9 alone."""
    return of(dataset, 8, 9)


@pytest.fixture(scope="module")
def more(old, new, policy, context):
    """The digits 8 and 9 added without images of the others. Never changed."""
    return fine_tune(old, new, policy, KEEP, context=context)


def accuracies(model, dataset, context):
    """Over test images of the old digits, and of the new ones."""
    found = evaluate(model, dataset, JUDGE, context=context)
    table = found.confusion("home")
    right, images = table.diagonal(), table.sum(1)
    is_old = np.array([int(name) < OLD for name in found.classes])
    return tuple(right[some].sum() / max(1, images[some].sum()) for some in (is_old, ~is_old))


def test_new_classes_are_learnt_without_old_images_and_the_old_ones_kept(
    old, more, dataset, context
):
    before, _ = accuracies(old, of(dataset, *range(OLD)), context)
    after, added = accuracies(more, dataset, context)
    assert before > 0.7
    assert after > before - 0.12
    assert added > 0.6


def test_plain_fine_tuning_on_the_new_images_knows_the_new_classes_alone(old, new, policy, context):
    model = fine_tune(old, new, policy, replace_settings(keep_classes=False), context=context)
    assert model.classes == ("8", "9")


def replace_settings(**changes):
    return KEEP.model_copy(update=changes)


def test_old_classes_come_first_in_their_order_and_new_ones_after(old, dataset, context):
    turned = replace(
        old,
        classes=tuple(reversed(old.classes)),
        network=with_head(old.module(), flipped(head(old.module()))),
        statistics=None,
    )
    increment = class_increment_of(turned, dataset, KEEP)
    assert increment.dataset.classes == (*"76543210", "8", "9")
    assert increment.added == ("8", "9")
    assert increment.absent == ()


def flipped(layer):
    turned = torch.nn.Linear(layer.in_features, layer.out_features)
    with torch.no_grad():
        turned.weight.copy_(layer.weight.flip(0))
        turned.bias.copy_(layer.bias.flip(0))
    return turned


def test_without_old_images_the_backbone_stays_bit_for_bit(old, more):
    assert more.classes == tuple("0123456789")
    assert digest_weights(backbone(more.module())) == digest_weights(backbone(old.module()))
    assert more.card.parent == old.digest
    assert [step.stage for step in more.card.steps] == ["probe", "fine_tune", "fine_tune"]


def test_what_it_cost_the_old_classes_is_measured_without_their_images(old, new, policy, context):
    recorder = Recorder()
    model = fine_tune(old, new, policy, KEEP, context=replace(context, progress=recorder))
    step = model.card.steps[-1]
    figures = step.figures
    assert figures["old_accuracy_before"] == old.card.steps[-1].figures["val_accuracy"]
    assert 0.5 < figures["old_accuracy_after"] <= 1
    assert 0.4 < figures["new_accuracy"] <= 1
    assert 0 <= figures["old_agreement"] <= 1
    line = next(line for line in recorder.lines if line.startswith("old classes: accuracy"))
    assert "stored features of" in line
    assert f"{figures['old_accuracy_after']:.3f} after" in line
    assert step.notes[-1] == f"O{line[1:]}."


def test_the_held_features_judge_as_their_images_would(old, more, dataset, context):
    whole = of(dataset, *range(10))
    judged = evaluate(more, whole, Evaluate(split="val", **plain_judge()), context=context)
    table = judged.confusion("home")[:OLD]
    right = table[:, :OLD].diagonal().sum() / table.sum()
    assert more.card.steps[-1].figures["old_accuracy_after"] == pytest.approx(right, abs=0.04)


def plain_judge():
    return {"bootstrap": 100, "latency": False}


def test_classes_are_added_again_to_a_model_that_was_saved(old, dataset, policy, context, tmp_path):
    with_eight = fine_tune(old, of(dataset, 8), policy, KEEP, context=context)
    with_eight.save(tmp_path / "model")
    loaded = Classifier.load(tmp_path / "model")
    both = fine_tune(loaded, of(dataset, 9), policy, KEEP, context=context)
    assert both.classes == tuple("0123456789")
    kept, added = accuracies(both, dataset, context)
    assert kept > 0.65
    assert added > 0.6


def test_with_images_of_all_classes_all_layers_learn(old, dataset, policy, context):
    recorder = Recorder()
    told = replace(context, progress=recorder)
    model = fine_tune(old, dataset, policy, replace_settings(epochs=3), context=told)
    assert model.classes == tuple("0123456789")
    kept, added = accuracies(model, dataset, context)
    assert kept > 0.7
    assert added > 0.6
    figures = model.card.steps[-1].figures
    assert figures["old_accuracy_before"] == old.card.steps[-1].figures["val_accuracy"]
    assert "old_accuracy_after" in figures
    assert any("val images" in line for line in recorder.lines if line.startswith("old classes"))
    assert not any(line.startswith("balance:") for line in recorder.lines)


def test_few_old_images_are_shown_more_often(old, dataset, policy, context):
    recorder = Recorder()
    few = of(dataset, 8, 9, kept=dict.fromkeys(range(OLD), 3))
    told = replace(context, progress=recorder)
    bare = replace(old, statistics=None)
    model = fine_tune(bare, few, policy, replace_settings(epochs=1), context=told)
    assert "balance: sampling, since an old class has 3 images and a new one 18" in recorder.lines
    assert model.card.steps[-1].settings["balance"] == "sampling"


def test_too_few_old_images_are_counted_and_not_trained_on(old, dataset, policy, context):
    few = of(dataset, 8, 9, kept=dict.fromkeys(range(OLD), 3))
    model = fine_tune(old, few, policy, KEEP, context=context)
    assert digest_weights(backbone(model.module())) == digest_weights(backbone(old.module()))
    assert model.statistics.counts[0] == old.statistics.counts[0] + 3


def test_some_old_classes_at_hand_are_judged_by_images_and_others_by_features(
    old, dataset, policy, context
):
    recorder = Recorder()
    told = replace(context, progress=recorder)
    model = fine_tune(old, of(dataset, 0, 8, 9), policy, KEEP, context=told)
    assert model.classes == tuple("0123456789")
    line = next(line for line in recorder.lines if line.startswith("old classes: accuracy"))
    images = dataset.counts("val")["0"]
    held = sum(n for digit, n in dataset.counts("val").items() if 0 < int(digit) < OLD)
    assert f"on {images} val images and stored features of {held} images" in line


@pytest.mark.slow
def test_a_hidden_layer_stays_and_the_last_one_grows(old, dataset, policy, new, context):
    settings = FineTune(epochs=1, batch_size=16, learning_rate=5e-4, head="mlp")
    known = fine_tune(old, of(dataset, *range(OLD)), policy, settings, context=context)
    model = fine_tune(known, new, policy, KEEP, context=context)
    grown = next(m for m in model.module().modules() if isinstance(m, MlpHead))
    kept = next(m for m in known.module().modules() if isinstance(m, MlpHead))
    assert grown[2].out_features == 10
    assert torch.equal(grown[0].weight, kept[0].weight)


def refused(old, dataset, settings=KEEP):
    with pytest.raises((RecipeError, ModelFileError)) as caught:
        class_increment_of(old, dataset, settings)
    return str(caught.value)


def test_a_model_without_statistics_cannot_keep_what_has_no_images(old, new):
    assert refused(replace(old, statistics=None), new) == (
        f"{old.name}: the data has no training images of 8 classes ('0', '1', '2', …), and the "
        "model has no class statistics of them. Add images of them, or fine-tune the old classes "
        "again with class_statistics."
    )


def test_no_new_class_and_some_old_ones_missing_is_refused(old, dataset):
    assert refused(old, of(dataset, 0, 1)) == (
        "keep_classes: the data has no new class, and no images of 6 classes ('2', '3', '4', …). "
        "Add images of these classes, or leave keep_classes out to train on the data's classes "
        "only."
    )


def test_a_model_that_was_never_fine_tuned_has_nothing_to_keep(blank, new):
    assert refused(blank, new) == (
        f"keep_classes: {blank.name} was never fine-tuned, so it has no classes to keep. Leave "
        "keep_classes out."
    )


def test_two_spellings_of_one_class_are_refused(old, new):
    named = replace(old, classes=(*old.classes[:-1], "Cat"))
    names = np.array([new.classes[i] if i >= 0 else None for i in new.labels], object)
    names[names == "8"] = "cat "
    spelt = replace(new.with_columns({"label": names}), classes=("9", "cat "))
    assert refused(named, spelt) == (
        "keep_classes: the data has the class 'cat ' and the model has 'Cat'. Rename it to 'Cat' "
        "if it is the same class, or to a clearly different name."
    )


def test_another_head_and_a_new_class_without_training_images_are_refused(old, new, dataset):
    assert refused(old, new, replace_settings(head="mlp")) == (
        "head: the model has a linear head, and keep_classes keeps its kind. Leave it at auto."
    )
    keep = new.keep & ~((new.labels == 1) & (new.splits == 0))
    assert "the data has no training images of 1 class ('9')" in refused(
        old, new.with_columns({"keep": keep})
    )


def test_a_cosine_head_needs_images_of_the_old_classes(old, new):
    network = with_head(old.module(), head(old.module()))
    replace_head(network, "cosine", OLD)
    assert "which a cosine head needs" in refused(replace(old, network=network), new)


def test_with_nothing_new_it_goes_on_from_its_own_head(old, dataset, policy, context):
    model = fine_tune(
        old, of(dataset, *range(OLD)), policy, replace_settings(epochs=1), context=context
    )
    assert model.classes == old.classes
    figures = model.card.steps[-1].figures
    assert figures["start_val_accuracy"] == old.card.steps[-1].figures["val_accuracy"]
