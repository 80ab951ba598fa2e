"""A network in two parts that are together what it was."""

import pytest
import timm
import torch
from torch import nn

from acclimate.models.split_network import CannotSplitError, split_network
from acclimate.models.structure import blocks


def frozen_but(name, learning, size=64):
    network = timm.create_model(name, num_classes=4).eval().requires_grad_(False)
    for _, module in blocks(network)[-learning:]:
        module.requires_grad_(True)
    return network, torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))


# Of each kind one: plain, shortcuts inside the first block that learns, tokens.
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("tf_efficientnet_lite0", (320, 2, 2)),
        ("resnet18", (256, 4, 4)),
        ("regnety_002", (368, 2, 2)),
        ("efficientvit_b0", (128, 2, 2)),
        ("test_vit", (17, 64)),
        ("convnext_atto", (320, 2, 2)),
    ],
)
def test_the_parts_give_what_the_whole_gives(name, shape):
    network, images = frozen_but(name, 3, size=160 if name == "test_vit" else 64)
    parts = split_network(network, images.shape[-1])
    with torch.no_grad():
        activations = parts.prefix(images)
        assert torch.equal(parts.suffix(activations), network(images))
    assert activations.shape[1:] == parts.shape
    assert not any(p.requires_grad for p in parts.prefix.parameters())
    if name != "test_vit":
        assert parts.shape == shape


def test_training_the_suffix_trains_the_network():
    network, images = frozen_but("resnet18", 1)
    parts = split_network(network, 64)
    before = [p.clone() for p in network.parameters()]
    learning = [p for p in parts.suffix.parameters() if p.requires_grad]
    assert len(learning) == sum(p.requires_grad for p in network.parameters()) == 2
    parts.suffix(parts.prefix(images)).sum().backward()
    torch.optim.SGD(learning, 0.1).step()
    changed = [not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True)]
    assert changed == [p.requires_grad for p in network.parameters()]
    with torch.no_grad():
        assert torch.equal(parts.suffix(parts.prefix(images)), network(images))


class Flattened(nn.Module):
    """Asks for the batch size, and has an argument that nobody gives."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4 * 6 * 6, 2)

    def forward(self, images, scale=None):
        found = self.body(images)
        if scale is not None:
            found = found * scale
        return self.head(found.flatten(1)).view(found.size(0), -1)


def test_sizes_and_arguments_that_nobody_gave_are_no_activations():
    network = Flattened().eval()
    network.body.requires_grad_(False)
    parts = split_network(network, 8)
    assert parts.shape == (4, 6, 6)
    images = torch.randn(5, 3, 8, 8)  # another batch size than the one it was traced with
    with torch.no_grad():
        assert torch.equal(parts.suffix(parts.prefix(images)), network(images))


def refused(network, size=64):
    with pytest.raises(CannotSplitError) as caught:
        split_network(network, size)
    return str(caught.value)


def test_what_cannot_be_divided_says_why():
    learning, _ = frozen_but("resnet18", 99)
    assert refused(learning) == "its first layer is trainable"

    dense, _ = frozen_but("densenet121", 3)
    assert "17 activations cross" in refused(dense)

    dropping = timm.create_model("ghostnet_050", drop_rate=0.2).requires_grad_(False)
    dropping.classifier.requires_grad_(True)
    assert refused(dropping) == "its graph in training differs from its graph in evaluation"

    class Branching(Flattened):
        def forward(self, images):
            return super().forward(images if images.sum() > 0 else -images)

    assert refused(Branching(), 8).startswith("it cannot be traced (symbolically traced variables")


def test_a_division_leaves_the_mode_of_the_network():
    network, _ = frozen_but("resnet18", 1)
    split_network(network.train(), 64)
    assert network.training
