"""Importance of channels: norm of the weights, or change of the loss."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from acclimate.compression.importance import magnitude, taylor
from acclimate.compression.prune import structured
from acclimate.compression.settings import Prune
from acclimate.data.images.batches import ordered_batches
from acclimate.models.pretrained import wrap
from acclimate.models.runtime import Normalizer
from kit import CONTRACT, tiny_classifier


class Stem(nn.Module):
    """Two convolutions; the first has 16 channels that a test can weaken or silence."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, stride=4)
        self.second = nn.Conv2d(16, 16, 3)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = self.second(self.first(x).relu()).relu()
        return self.head(x.mean((2, 3)))


@pytest.fixture
def stem(dataset):
    """A classifier whose channels 8 to 15 of the first layer carry almost nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Stem()
    with torch.no_grad():
        network.first.weight[8:] *= 1e-3
        network.first.bias[8:] *= 1e-3
        network.second.weight[:, 8:] *= 1e-3
    return replace(wrap(network, CONTRACT), classes=dataset.classes)


@pytest.mark.parametrize("importance", ["magnitude", "taylor"])
def test_channels_without_signal_are_removed_first(importance, stem, dataset, context):
    kept = stem.module().first.weight[:8].detach().clone()
    settings = Prune(importance=importance, ratio=0.25, round_to=8)
    network = structured(stem, dataset, settings, context)
    assert network.first.out_channels == 8
    assert torch.equal(network.first.weight, kept)


def test_taylor_removes_large_channels_that_the_next_layer_ignores(stem, dataset, context):
    network = stem.module()
    with torch.no_grad():
        # Large weights that the next layer ignores, so that no loss depends on them.
        network.first.weight[8:] *= 1e5
        network.second.weight[:, 8:] = 0
    quiet = network.first.weight[:8].detach().clone()
    by_loss = structured(stem, dataset, Prune(importance="taylor", ratio=0.25), context)
    by_length = structured(stem, dataset, Prune(importance="magnitude", ratio=0.25), context)
    assert torch.equal(by_loss.first.weight, quiet)
    assert not torch.equal(by_length.first.weight, quiet)


def test_magnitude_needs_no_images(stem, dataset):
    network = stem.module()
    magnitude(network, CONTRACT, dataset, dataset.rows("train")[:0])
    assert all(p.grad is None for p in network.parameters())


def small(dataset):
    return tiny_classifier(dataset.classes).module()


@pytest.mark.parametrize("images", [64, 70])
def test_taylor_accumulates_the_gradient_of_all_images_over_batches(images, dataset):
    rows = dataset.rows("train")[:images]
    network = small(dataset)
    reference = copy.deepcopy(network)
    taylor(network, CONTRACT, dataset, rows)
    batch = next(ordered_batches(dataset, rows, CONTRACT, batch_size=images))
    logits = reference(Normalizer(CONTRACT, torch.device("cpu"))(torch.from_numpy(batch.images)))
    functional.cross_entropy(logits, torch.from_numpy(batch.targets)).backward()
    ours, theirs = (
        torch.cat([p.grad.ravel() for p in n.parameters()]) for n in (network, reference)
    )
    direction = functional.cosine_similarity(ours, theirs, dim=0)
    assert float(direction) == pytest.approx(1.0, abs=1e-4)


def test_taylor_clears_earlier_gradients(dataset):
    rows = dataset.rows("train")[:32]
    fresh, used = small(dataset), small(dataset)
    for parameter in used.parameters():
        parameter.grad = torch.full_like(parameter, 100.0)
    taylor(fresh, CONTRACT, dataset, rows)
    taylor(used, CONTRACT, dataset, rows)
    assert all(
        torch.equal(a.grad, b.grad)
        for a, b in zip(fresh.parameters(), used.parameters(), strict=True)
    )
