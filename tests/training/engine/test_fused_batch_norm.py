"""Fewer passes give what the network gives by itself, forwards and backwards."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from acclimate.models.pretrained import pretrained
from acclimate.models.settings import Model
from acclimate.training.engine.fused_batch_norm import find_fusion, fused


class Skipping(nn.Module):
    """What the convolution gives is read by batch norm and by a connection around it."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), used(nn.BatchNorm2d(3))

    def forward(self, images):
        found = self.conv(images)
        return (self.norm(found) + found).mean((2, 3))


class Twice(nn.Module):
    """One batch norm for two convolutions."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.norm = used(nn.BatchNorm2d(3))

    def forward(self, images):
        return self.norm(self.second(self.norm(self.first(images)))).mean((2, 3))


def used(norm):
    """With statistics as after some training."""
    torch.manual_seed(1)
    for values in (norm.running_mean, norm.weight.data, norm.bias.data):
        values.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    return norm


def plain(in_place=True):
    """Convolutions with and without bias, and activations of their own."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=True), used(nn.BatchNorm2d(8)), nn.ReLU6(in_place),
        nn.Conv2d(8, 8, 3, groups=8, bias=False), used(nn.BatchNorm2d(8)), nn.ReLU6(in_place),
        nn.Conv2d(8, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5),
    ).eval()  # fmt: skip


def images(size=32, seed=0):
    return torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 3


def gradients(network, inputs, fusion=None):
    """Logits, and the gradient of each weight and of the inputs."""
    inputs = inputs.clone().requires_grad_()
    network.zero_grad()
    if fusion is None:
        logits = network(inputs)
    else:
        with fused(fusion):
            logits = network(inputs)
    functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()
    found = {name: p.grad.clone() for name, p in network.named_parameters()}
    return logits.detach(), {**found, "inputs": inputs.grad}


def assert_same(network, inputs, fusion):
    logits, expected = gradients(network, inputs)
    fewer, found = gradients(network, inputs, fusion)
    torch.testing.assert_close(fewer, logits, rtol=1e-4, atol=1e-4)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("in_place", [True, False])
def test_convolutions_and_their_norms_are_one(in_place):
    network = plain(in_place)
    fusion = find_fusion(network, images()[:2])
    assert [(type(c), n.num_features) for c, n in fusion.pairs] == [(nn.Conv2d, 8)] * 2
    assert len(fusion.clamps) == 2
    assert_same(network, images(seed=1), fusion)


def test_a_packaged_network_is_fused_whole():
    network = pretrained(Model()).module().eval()
    fusion = find_fusion(network, images()[:2])
    assert (len(fusion.pairs), len(fusion.clamps)) == (49, 33)
    logits, expected = gradients(network, images(seed=1))
    fewer, found = gradients(network, images(seed=1), fusion)
    torch.testing.assert_close(fewer, logits, rtol=1e-3, atol=1e-3)
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 0.01 * gradient.norm() + 1e-6, name


def test_a_norm_that_learns_its_statistics_is_left_alone():
    network = plain()
    fusion = find_fusion(network, images()[:2])
    expected = copy.deepcopy(network.train())
    logits = expected(images(seed=1))
    with fused(fusion):
        torch.testing.assert_close(network(images(seed=1)), logits)
    torch.testing.assert_close(network[1].running_mean, expected[1].running_mean)
    assert not torch.equal(network[1].running_mean, plain()[1].running_mean)


@pytest.mark.parametrize("kind", [Skipping, Twice])
def test_what_is_read_elsewhere_too_is_not_fused(kind):
    torch.manual_seed(0)
    network = kind().eval()
    fusion = find_fusion(network, images()[:2])
    assert fusion.pairs == ()
    assert torch.equal(gradients(network, images())[0], gradients(network, images(), fusion)[0])


def test_the_network_is_left_as_it_was():
    network = plain().train()
    names = list(network.state_dict())
    drawn = torch.random.get_rng_state()
    fusion = find_fusion(network, images()[:2])
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert all(module.training for module in network.modules())
    with pytest.raises(ValueError, match="stop"), fused(fusion):
        raise ValueError("stop")
    assert list(network.state_dict()) == names
    assert not any("forward" in vars(module) for module in network.modules())
