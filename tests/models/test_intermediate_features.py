"""What a network knew halfway, of networks of all kinds."""

import pytest
import timm
import torch
from torch import nn

from acclimate.models.intermediate_features import WithIntermediateFeatures, intermediate_size
from acclimate.models.structure import backbone

SIZE = 64


def bodied(network):
    return WithIntermediateFeatures(backbone(network)).eval()


@pytest.mark.parametrize(
    ("name", "size"), [("test_efficientnet", 64), ("test_resnet", 64), ("test_vit", 160)]
)
def test_maps_and_tokens_are_averaged_over_places_and_follow_the_features(name, size):
    torch.manual_seed(0)
    body = bodied(timm.create_model(name, num_classes=4))
    images = torch.randn(3, 3, size, size)
    with torch.inference_mode():
        found, features = body(images), body.network(images)
    width = intermediate_size(body, size)
    assert width > 50
    assert found.shape == (3, features.shape[1] + width)
    assert torch.equal(found[:, : features.shape[1]], features)
    assert (found[:, features.shape[1] :].std(0) > 0).float().mean() > 0.5


class ChannelsLast(nn.Module):
    """As Swin keeps its maps: (B, H, W, C)."""

    def forward(self, images):
        return images.permute(0, 2, 3, 1)


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 8, 8)
        self.turn = nn.Sequential(ChannelsLast(), nn.LayerNorm(5))
        self.fc = nn.Linear(5, 2)

    def forward(self, images):
        return self.fc(self.turn(self.stem(images)).mean((1, 2)))


def test_maps_with_channels_last_are_averaged_over_places_and_not_over_channels():
    body = bodied(Body())
    images = torch.randn(4, 3, SIZE, SIZE)
    with torch.inference_mode():
        expected = body.network.turn(body.network.stem(images)).mean((1, 2))
        assert torch.allclose(body(images)[:, -5:], expected)


def test_a_network_of_flat_layers_alone_has_no_middle():
    body = bodied(nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 8), nn.ReLU(), nn.Linear(8, 2)))
    assert intermediate_size(body, 4) == 0
    assert body(torch.zeros(2, 3, 4, 4)).shape == (2, 8)


def test_asking_leaves_no_hook_behind():
    body = bodied(timm.create_model("test_efficientnet", num_classes=4))
    intermediate_size(body, SIZE)
    assert not any(module._forward_hooks for module in body.modules())


def test_a_head_on_plain_pixels_has_no_middle():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 2)).eval()
    assert intermediate_size(bodied(network), SIZE) == 0  # nothing has weights before the head
