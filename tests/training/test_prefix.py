"""The frozen part of a network, run once for each view of each image."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from acclimate.augmentation.policy import choose_policy
from acclimate.context import Context, derive_seed
from acclimate.models.division import divide
from acclimate.models.runtime import Normalizer
from acclimate.models.structure import blocks
from acclimate.training.prefix import VIEWS, Prefix, views_that_fit
from acclimate.training.views import Views

CPU = torch.device("cpu")


class Counted(Views):
    """Keeps which views were made."""

    def train(self, row, seed):
        self.made.append((row, seed))
        return super().train(row, seed)


@pytest.fixture
def divided(start):
    network = copy.deepcopy(start.module()).eval().requires_grad_(False)
    for _, module in blocks(network)[-4:]:
        module.requires_grad_(True)
    return divide(network, start.contract.image_size)


@pytest.fixture
def views(start, dataset):
    counted = Counted(dataset, choose_policy(), start.contract)
    object.__setattr__(counted, "made", [])
    return counted


def test_each_view_is_run_once_and_is_what_the_network_sees(divided, views, start, tmp_path):
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

    pixels = np.stack([views.train(int(r), derive_seed(3, "view", 2, int(r))) for r in rows[:5]])
    with torch.no_grad():
        wanted = divided.prefix(Normalizer(start.contract, CPU)(torch.from_numpy(pixels)))
    apart = np.abs(second[0].astype(np.float32) - wanted.numpy()).max()
    assert apart < 2e-3 * float(wanted.abs().max())

    views.made.clear()
    again = Prefix(divided, views, 2, CPU, context)
    assert all(map(np.array_equal, again.train(2, groups), second))
    assert views.made == []


def test_val_is_seen_as_evaluation_sees_it(divided, views, start):
    prefix = Prefix(divided, views, 1, CPU, Context())
    rows = views.dataset.rows("val")
    found = list(prefix.val(rows))
    assert np.array_equal(np.concatenate([r for _, r in found]), rows)
    pixels = np.stack([start.contract.read(views.dataset.path(int(row))) for row in rows])
    with torch.no_grad():
        direct = divided.suffix(
            divided.prefix(Normalizer(start.contract, CPU)(torch.from_numpy(pixels)))
        )
        kept = torch.cat([divided.suffix(prefix.to_input(torch.from_numpy(a))) for a, _ in found])
    assert torch.allclose(direct, kept, atol=0.01 * float(direct.abs().max()))


def test_as_many_views_are_kept_as_the_disk_may_take(divided, views, tmp_path):
    images, val = (len(views.dataset.rows(split)) for split in ("train", "val"))
    one = 2 * int(np.prod(divided.shape))
    context = Context(workspace=tmp_path)
    assert views_that_fit(divided, views, context) == VIEWS
    for count in (0, 1, 3):
        room = (count * images + val + images / 2) * one / 1e9
        assert views_that_fit(divided, views, replace(context, cache_gb=room)) == count
    assert views_that_fit(divided, views, replace(context, cache_gb=0)) == 0
