"""What is said of what was lost: true figures, the worst classes by name, and what is not known."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from acclimate.evaluation.evaluate import evaluate
from acclimate.evaluation.settings import Evaluate
from acclimate.features.discriminant import with_statistics
from acclimate.fine_tuning.forgetting import forgetting
from acclimate.models.structure import head, with_head

JUDGE = Evaluate(split="val", bootstrap=100, latency=False)


def changed(classifier, classes, shift):
    """The same rows, more of them, and another bias."""
    layer = head(classifier.module())
    more = nn.Linear(layer.in_features, len(classes))
    with torch.no_grad():
        more.weight.zero_()
        more.bias.fill_(-1e4)
        more.weight[: len(layer.weight)] = layer.weight
        more.bias[: len(layer.bias)] = layer.bias
        for label, by in shift.items():
            more.bias[label] += by
    return replace(classifier, network=with_head(classifier.module(), more), classes=classes)


@pytest.fixture
def never_three(start):
    """Does not say "3" any more."""
    return changed(start, (*start.classes, "ten"), {3: -1e4})


def test_what_is_measured_is_the_accuracy_of_both(start, never_three, dataset, context):
    wide = dataset.with_classes(never_three.classes, "")
    figures = forgetting(never_three, start, wide, context).figures
    then, now = (
        evaluate(one, dataset, JUDGE, context=context).metrics["home"]["accuracy"].value
        for one in (start, never_three)
    )
    assert figures == {
        "old_accuracy_before": pytest.approx(then),
        "old_accuracy_after": pytest.approx(now),
    }
    assert now < then


def test_the_class_that_lost_most_is_named_first(start, never_three, dataset, context):
    told = forgetting(
        never_three, start, dataset.with_classes(never_three.classes, ""), context
    ).summary
    assert "(largest losses: '3' " in told
    assert told.split("(largest losses: '3' ")[1].startswith(("1.00 to 0.00", "0.75 to 0.00"))
    assert told.endswith("val images")


def test_without_images_the_held_features_say_the_same(start, never_three, dataset, context):
    holding = with_statistics(start, dataset, context)
    wide = dataset.with_classes(never_three.classes, "")
    without = wide.with_columns({"keep": wide.keep & (wide.splits == 0)})
    assert not len(without.rows("val"))
    seen, held = (forgetting(never_three, holding, d, context) for d in (wide, without))
    assert dict(held.figures) == pytest.approx(dict(seen.figures))
    assert "on stored features of " in held.summary


def test_where_nothing_is_at_hand_that_is_said(start, never_three, dataset, context):
    wide = dataset.with_classes(never_three.classes, "")
    without = wide.with_columns({"keep": wide.keep & (wide.splits == 0)})
    found = forgetting(never_three, start, without, context)
    assert found.figures == {}
    assert found.summary == ("old classes: 10 classes without images: not measured")


def test_held_features_of_another_backbone_judge_nothing(start, never_three, dataset, context):
    holding = with_statistics(start, dataset, context)
    other = changed(start, never_three.classes, {})
    with torch.no_grad():
        next(other.network.parameters()).mul_(1.01)
    wide = dataset.with_classes(never_three.classes, "")
    without = wide.with_columns({"keep": wide.keep & (wide.splits == 0)})
    assert forgetting(other, holding, without, context).figures == {}


def test_new_images_tell_how_alike_both_see_the_old_classes(start, dataset, context):
    seven = replace(start, classes=start.classes[:7], network=first_rows(start, 7))
    same = changed(seven, start.classes, {})
    found = forgetting(same, seven, dataset, context)
    assert found.figures["old_agreement"] == 1
    assert found.figures["new_accuracy"] == 0
    assert "the most likely old class is the same as before for 100 %" in found.summary


def first_rows(classifier, rows):
    layer = head(classifier.module())
    fewer = nn.Linear(layer.in_features, rows)
    with torch.no_grad():
        fewer.weight.copy_(layer.weight[:rows])
        fewer.bias.copy_(layer.bias[:rows])
    return with_head(classifier.module(), fewer).eval()
