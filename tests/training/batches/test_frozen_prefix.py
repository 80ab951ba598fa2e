"""The frozen part of a network, run once for each view of each image."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from acclimate.augmentation.policy import choose_policy
from acclimate.augmentation.settings import Augment
from acclimate.context import Context, derive_seed
from acclimate.fine_tuning.fine_tune import fine_tune
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.runtime import Normalizer
from acclimate.models.split_network import split_network
from acclimate.models.structure import blocks
from acclimate.training.batches.frozen_prefix import VIEWS, Prefix, frozen_prefix, views_that_fit
from acclimate.training.batches.training_images import TrainingImages
from acclimate.training.plan import make_plan
from kit import CONTRACT, Recorder

CPU = torch.device("cpu")


class Counted(TrainingImages):
    """Keeps which views were made."""

    def augmented(self, row, seed):
        self.made.append((row, seed))
        return super().augmented(row, seed)


@pytest.fixture
def divided(trained):
    network = copy.deepcopy(trained.module()).eval().requires_grad_(False)
    for _, module in blocks(network)[-4:]:
        module.requires_grad_(True)
    return split_network(network, trained.contract.image_size)


@pytest.fixture
def views(trained, dataset):
    counted = Counted(dataset, choose_policy(), trained.contract)
    object.__setattr__(counted, "made", [])
    return counted


def test_each_view_is_run_once_and_is_what_the_network_sees(divided, views, tmp_path):
    context = Context(seed=3, workspace=tmp_path)
    prefix = Prefix(divided, views, 2, CPU, context)
    rows = views.dataset.rows("train")[:12]
    groups = [rows[:5], rows[5:]]
    first, second, third = (list(prefix.train(epoch, groups)) for epoch in (1, 2, 3))
    assert len(views.made) == 24
    assert len(set(views.made)) == 24
    assert [found.shape for found in first] == [(5, *divided.shape), (7, *divided.shape)]
    assert np.array_equal(first[1], third[1])
    assert not np.array_equal(first[1], second[1])

    pixels = np.stack(
        [views.augmented(int(r), derive_seed(3, "view", 2, int(r))) for r in rows[:5]]
    )
    with torch.no_grad():
        wanted = divided.prefix(Normalizer(CONTRACT, CPU)(torch.from_numpy(pixels)))
    apart = np.abs(second[0].astype(np.float32) - wanted.numpy()).max()
    assert apart < 2e-3 * float(wanted.abs().max())

    views.made.clear()
    again = Prefix(divided, views, 2, CPU, context)
    assert all(map(np.array_equal, again.train(2, groups), second))
    assert views.made == []


def test_val_is_seen_as_evaluation_sees_it(divided, views):
    prefix = Prefix(divided, views, 1, CPU, Context())
    rows = views.dataset.rows("val")
    found = list(prefix.val(rows))
    assert np.array_equal(np.concatenate([r for _, r in found]), rows)
    pixels = np.stack([CONTRACT.read(views.dataset.path(int(row))) for row in rows])
    with torch.no_grad():
        direct = divided.suffix(divided.prefix(Normalizer(CONTRACT, CPU)(torch.from_numpy(pixels))))
        kept = torch.cat([divided.suffix(prefix.to_input(torch.from_numpy(a))) for a, _ in found])
    assert torch.allclose(direct, kept, atol=0.01 * float(direct.abs().max()))


LAST = FineTune(
    trainable="last",
    trainable_blocks=4,
    epochs=3,
    batch_size=18,
    learning_rate=2e-3,
    averaging="ema",
)


def tuned(start, dataset, tmp_path, policy=None, **settings):
    recorder = Recorder()
    context = Context(device="cpu", workspace=tmp_path, cache=tmp_path / "cache", progress=recorder)
    made = LAST.model_copy(update=settings)
    result = fine_tune(start, dataset, policy or choose_policy(), made, context=context)
    (told,) = [line for line in recorder.lines if line.startswith("frozen part: ")] or [None]
    return result, told


def test_training_after_a_prefix_is_the_training_that_sees_the_images(headless, dataset, tmp_path):
    # AdamW's steps go by the sign where a gradient is next to nothing.
    plain = {"optimizer": "sgd", "learning_rate": 1e-2}
    # From a head that knows nothing: from a fitted one, the start may be kept.
    (kept, told), (seen, nothing) = (
        tuned(headless, dataset, tmp_path / str(views), prefix_views=views, **plain)
        for views in (3, 0)
    )
    assert told.startswith(
        "frozen part: run once for each of 3 views per image (set by prefix_views) and cached: "
    )
    assert nothing == "frozen part: run in every step, because prefix_views is 0"
    notes = [model.card.steps[-1].notes[1] for model in (kept, seen)]
    assert notes == [
        f"Frozen part: {told.removeprefix('frozen part: ')}.",
        "Frozen part: run in every step, because prefix_views is 0.",
    ]
    ours, theirs = (model.module().state_dict() for model in (kept, seen))
    before = headless.module().state_dict()
    moved = [name for name in ours if not torch.equal(theirs[name], before[name])]
    assert moved
    for name in moved:
        way = (theirs[name] - before[name]).norm()
        # Activations are kept in 16 bits: three digits of each.
        assert (ours[name] - theirs[name]).norm() < 0.1 * way, name
    assert all(torch.equal(ours[n], theirs[n]) for n in ours if n not in moved)
    curves = [model.card.steps[-1].curve for model in (kept, seen)]
    for a, b in zip(*curves, strict=True):
        assert a["val_loss"] == pytest.approx(b["val_loss"], rel=0.02)


def test_views_come_again_and_the_network_learns_from_them(headless, dataset, tmp_path):
    model, told = tuned(headless, dataset, tmp_path, prefix_views=1, epochs=4)
    assert "once for each of 1 view per image (set by prefix_views)" in told
    curve = model.card.steps[-1].curve
    assert curve[4]["train_loss"] < 0.8 * curve[1]["train_loss"]


def test_where_the_images_must_be_seen_it_is_said_why(blank, dataset, tmp_path):
    reasons = {
        "the policy mixes images": {"policy": choose_policy(Augment(mixup=0.2))},
        "the loss compares views": {"policy": choose_policy(Augment(consistency=12))},
        "its first layer is trainable": {"trainable_blocks": 99},
        "sampling is balanced": {"balance": "sampling"},
        "start_size changes the image size": {"start_size": 24},
    }
    for index, (reason, settings) in enumerate(reasons.items()):
        _, told = tuned(blank, dataset, tmp_path / str(index), epochs=1, **settings)
        assert told == f"frozen part: run in every step, because {reason}"


def test_as_many_views_are_kept_as_the_disk_may_take(divided, views, tmp_path):
    images, val = (len(views.dataset.rows(split)) for split in ("train", "val"))
    one = 2 * int(np.prod(divided.shape))
    context = Context(workspace=tmp_path)
    assert views_that_fit(divided, views, VIEWS, context) == VIEWS
    for count in (0, 1, 3):
        room = (count * images + val + images / 2) * one / 1e9
        assert views_that_fit(divided, views, VIEWS, replace(context, cache_gb=room)) == count
    assert views_that_fit(divided, views, VIEWS, replace(context, cache_gb=0)) == 0


def test_what_auto_keeps_is_said_with_its_reason(trained, dataset, tmp_path):
    network = copy.deepcopy(trained.module()).eval().requires_grad_(False)
    for _, module in blocks(network)[-4:]:
        module.requires_grad_(True)
    views = TrainingImages(dataset, choose_policy(), trained.contract)
    shape = split_network(network, trained.contract.image_size).shape
    images, val = (len(dataset.rows(split)) for split in ("train", "val"))
    room = (2.5 * images + val) * 2 * int(np.prod(shape)) / 1e9
    runs = {
        "4 views per image (the default of prefix_views)": (5, 10.0),
        "1 view per image (one for each epoch)": (1, 10.0),
        "2 views per image (of 4; more do not fit cache_gb or the disk)": (3, room),
    }
    for index, (told, (epochs, cache_gb)) in enumerate(runs.items()):
        here = Context(device="cpu", workspace=tmp_path / str(index), cache_gb=cache_gb)
        plan = make_plan(FineTune(epochs=epochs), images, here)
        part = frozen_prefix(network, views, plan, "auto", here)
        assert part.source is not None
        assert part.note.startswith(f"run once for each of {told} and cached: ")
    nothing = frozen_prefix(network, views, plan, "auto", replace(here, cache_gb=0))
    assert nothing.source is None
    assert nothing.note == "run in every step, because one view per image does not fit 0 GB"


def test_statistics_of_what_learns_are_measured_anew_after_a_prefix(headless, dataset, tmp_path):
    recorder = Recorder()
    context = Context(device="cpu", cache=tmp_path / "cache", progress=recorder)
    made = LAST.model_copy(update={"batch_norm": "reestimate", "averaging": "none"})
    fine_tune(headless, dataset, choose_policy(), made, context=context)
    assert any(line.startswith("frozen part: run once") for line in recorder.lines)
    assert any(line.startswith("batch norm re-estimated: loss ") for line in recorder.lines)
