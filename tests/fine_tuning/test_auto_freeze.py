"""All layers or a frozen first part, where that is left to us: what is chosen, and why."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from acclimate.augmentation.policy import choose_policy
from acclimate.augmentation.settings import Augment
from acclimate.fine_tuning.auto_freeze import MIN_STEPS, Choice, choose_trainable, steps_in_budget
from acclimate.fine_tuning.find_learning_rate import find_rate
from acclimate.fine_tuning.fine_tune import fine_tune
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.structure import blocks
from acclimate.training.batches.training_images import TrainingImages
from acclimate.training.plan import make_plan
from kit import Recorder, cross_entropy

# Whatever machine: no step fits the one, more than enough the other.
SHORT, LONG = 1e-5, 1e4


@pytest.fixture
def choose(start, dataset, policy, context):
    def chosen(network=None, here=context, policy=policy, dataset=dataset, sizes=(), **settings):
        made = FineTune(trainable="auto", batch_size=30, **settings)
        views = TrainingImages(dataset, policy, start.contract, here, sizes=sizes)
        plan = make_plan(made, len(dataset.rows("train")), here)
        return choose_trainable(network or start.module(), views, cross_entropy, plan, here)

    return chosen


def test_without_a_bound_of_time_all_layers_learn(choose):
    assert choose() == Choice(None, "all layers, since there is no time budget")


def test_where_too_few_steps_fit_the_first_third_is_frozen(choose, start):
    choice = choose(max_minutes=SHORT)
    assert choice.last == 13
    assert [name for name, _ in blocks(start.module())][-14] == "blocks.3.0"
    assert choice.reason == (
        "the last 13 of 20 blocks, since only about 0 steps of all layers fit into the 1e-05 "
        "minutes left"
    )


def test_where_enough_steps_fit_all_layers_learn(choose):
    choice = choose(max_minutes=LONG)
    assert choice.last is None
    assert choice.reason.startswith("all layers, since about ")


def test_where_nothing_would_be_kept_all_layers_learn(choose, context):
    mixed = choose_policy(Augment(mixup=0.2))
    nothing = "all layers, since activations of a frozen part cannot be kept: "
    assert choose(max_minutes=SHORT, policy=mixed) == Choice(
        None, f"{nothing}the policy mixes images"
    )
    assert choose(max_minutes=SHORT, sizes=(24, 32)) == Choice(
        None, f"{nothing}start_size changes the image size"
    )
    balanced = choose(max_minutes=SHORT, balance="sampling")
    assert balanced == Choice(None, f"{nothing}sampling is balanced")
    full = choose(max_minutes=SHORT, here=replace(context, cache_gb=1e-9))
    assert full.last is None
    assert full.reason.endswith("minutes left: one view per image does not fit 1e-09 GB")


def test_a_network_without_blocks_learns_whole(choose):
    small = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 10),
    )  # fmt: skip
    choice = choose(small.eval(), max_minutes=SHORT)
    assert choice.last is None
    assert choice.reason.endswith("kept: the network has only 1 block before its head")


def test_what_was_decided_stands_when_the_training_goes_on(choose, context, tmp_path, dataset):
    here = replace(context, workspace=tmp_path)
    first = choose(max_minutes=SHORT, here=here)
    assert first.last == 13
    assert choose(max_minutes=LONG, here=here) == first
    # Another training in the same place decides for itself.
    other = dataset.with_columns({"keep": [row > 3 for row in range(len(dataset.keep))]})
    assert choose(max_minutes=LONG, here=here, dataset=other).last is None


def test_timing_a_few_steps_changes_nothing(trained, dataset, policy, context):
    network = copy.deepcopy(trained.module())
    views = TrainingImages(dataset, policy, trained.contract, context)
    plan = make_plan(FineTune(max_minutes=LONG, batch_norm="train"), len(views.rows), context)
    random = torch.get_rng_state()
    steps = steps_in_budget(network, views, cross_entropy, plan, context)
    assert steps > MIN_STEPS
    assert torch.equal(torch.get_rng_state(), random)
    before = trained.module().state_dict()
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())


def test_a_stage_goes_by_the_choice_and_its_card_says_why(
    start, dataset, policy, context, tmp_path
):
    recorder = Recorder()
    here = replace(context, workspace=tmp_path, progress=recorder)
    settings = FineTune(trainable="auto", max_minutes=SHORT, batch_size=30, class_statistics=False)
    model = fine_tune(start, dataset, policy, settings, context=here)
    step = model.card.steps[-1]
    reason = "the last 13 of 20 blocks, since only about 0 steps of all layers fit into the "
    assert any(line.startswith(f"  trainable: {reason}") for line in recorder.lines)
    assert any(line.startswith("frozen part: run once for each of 4 ") for line in recorder.lines)
    assert step.settings["trainable"] == "auto"
    assert step.notes[0].startswith("Trained: the head and the last blocks (blocks.3.0, ")
    assert step.notes[1].startswith("Frozen part: run once for each of 4 views per image (")
    assert any(note.startswith(f"trainable: {reason}") for note in step.notes)
    ours, before = model.module().state_dict(), start.module().state_dict()
    frozen = ("conv_stem", "bn1", "blocks.0", "blocks.1", "blocks.2")
    assert all(torch.equal(t, before[n]) for n, t in ours.items() if n.startswith(frozen))


def test_all_layers_by_choice_are_all_layers_by_name(trained, dataset, policy, context):
    chosen, named = (
        fine_tune(
            trained, dataset, policy,
            FineTune(trainable=choice, epochs=1, batch_size=60, class_statistics=False),
            context=context,
        )
        for choice in ("auto", "all")
    )  # fmt: skip
    assert "trainable: all layers, since there is no time budget." in chosen.card.steps[-1].notes
    ours, theirs = (model.module().state_dict() for model in (chosen, named))
    assert all(torch.equal(t, theirs[name]) for name, t in ours.items())


def test_a_rate_is_found_where_the_parts_are_left_to_us(trained, dataset, policy, context):
    chosen, named = (
        find_rate(
            trained, dataset, policy, FineTune(trainable=choice, batch_size=2), context=context
        )
        for choice in ("auto", "all")
    )
    assert chosen == named
