"""The parts of a network: head, depth, and the shapes that pruning left."""

from dataclasses import replace

import pytest
import timm
import torch
from torch import nn

from acclimate.compression.prune import structured
from acclimate.compression.settings import Prune
from acclimate.errors import ModelFileError
from acclimate.models.classifier import Classifier
from acclimate.models.pretrained import wrap
from acclimate.models.rebuild import build
from acclimate.models.structure import (
    backbone,
    blocks,
    check_head,
    counts_beyond_shapes,
    create,
    fit_to_shapes,
    head,
    head_names,
    with_head,
    with_linear_head,
)

FAMILIES = {
    "tf_efficientnet_lite0": ("classifier", 64),
    "test_resnet": ("fc", 64),
    "test_efficientnet": ("classifier", 64),
    "test_byobnet": ("head.fc", 64),
    "test_convnext": ("head.fc", 64),
    "test_vit": ("head", 160),
    "mobilenetv3_small_050": ("classifier", 64),
}


def pictures(size):
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def run(network, size):
    with torch.no_grad():
        return network.eval()(pictures(size))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_is_its_backbone_and_its_head(name):
    declared, size = FAMILIES[name]
    network = timm.create_model(name, num_classes=4).eval()
    assert head_names(network) == (declared,)
    features = run(backbone(network), size)
    assert features.shape == (2, head(network).in_features)
    assert torch.allclose(head(network)(features), run(network, size), atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_another_head_is_put_on_a_copy(name):
    _, size = FAMILIES[name]
    network = timm.create_model(name, num_classes=4).eval()
    before = run(network, size)
    layer = nn.Linear(head(network).in_features, 9)
    changed = with_head(network, layer)
    expected = layer(run(backbone(network), size))
    assert torch.allclose(run(changed, size), expected, atol=1e-5)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.zero_()
    assert torch.equal(run(network, size), before)


def test_the_head_of_a_plain_network_is_its_last_fully_connected_layer():
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Sequential(nn.Dropout(0.1), nn.Linear(8, 3))
    )
    assert head_names(network) == ("3.1",)
    assert head(with_head(network, nn.Linear(8, 5))).out_features == 5


def test_a_timm_network_whose_head_was_replaced_by_two_layers_ends_in_the_second():
    network = timm.create_model("test_resnet")
    network.fc = nn.Sequential(nn.Dropout(0.2), nn.Linear(96, 6))
    assert head_names(network) == ("fc.1",)


def test_no_layer_of_the_body_passes_for_a_head_that_is_no_linear_one():
    network = timm.create_model("test_resnet")
    network.layer1.gate = nn.Linear(3, 3)
    network.fc = nn.Sequential(nn.Unflatten(1, (-1, 1, 1)), nn.Conv2d(96, 6, 1), nn.Flatten())
    with pytest.raises(ModelFileError, match="ResNet has no fully connected layer to replace"):
        head_names(network)


def test_a_head_that_is_a_convolution_becomes_a_linear_layer_of_the_same_logits():
    network = timm.create_model("resnetv2_18", stem_chs=8, channels=(16,) * 4, num_classes=4).eval()
    before = run(network, 64)
    assert before.std() > 0
    changed = with_linear_head(network)
    assert head_names(changed) == ("head.fc",)
    assert torch.allclose(run(changed, 64), before, atol=1e-5)
    check_head(changed, (3, 64, 64))


def test_both_heads_of_a_distilled_transformer_become_one_layer():
    network = timm.create_model("deit_tiny_distilled_patch16_224", depth=1, img_size=32).eval()
    assert head_names(network) == ("head", "head_dist")
    layer = nn.Linear(192, 5)
    with torch.no_grad():
        expected = layer(run(backbone(network), 32))
    assert torch.allclose(run(with_head(network, layer), 32), expected, atol=1e-5)
    check_head(network, (3, 32, 32))


class TwoWays(nn.Module):
    """Its logits come from the last layer and, past it, from another."""

    def __init__(self, past):
        super().__init__()
        self.first, self.last, self.past = nn.Linear(12, 8), nn.Linear(8, 3), past

    def forward(self, images):
        features = self.first(images.flatten(1))
        logits = self.last(features)
        return logits.softmax(1) if self.past == "softmax" else logits + features.mean()


@pytest.mark.parametrize("past", ["softmax", "features"])
def test_logits_that_are_not_the_heads_alone_are_refused(past):
    with pytest.raises(ModelFileError, match="TwoWays does not compute its logits by one"):
        check_head(TwoWays(past), (3, 2, 2))


def test_a_network_that_cannot_be_run_is_refused_in_one_sentence():
    with pytest.raises(ModelFileError) as caught:
        check_head(nn.Sequential(nn.Flatten(), nn.Linear(5, 3)), (3, 2, 2))
    assert str(caught.value).startswith("Sequential cannot be run on images of 2 px, float32 (2, 3")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("test_convnext", "stages.1.blocks.0"),
        ("regnety_002", "s3.b4"),
        ("test_resnet", "layer2.0"),
        ("test_vit", "blocks.5"),
    ],
)
def test_a_stage_is_taken_apart_into_its_blocks(name, wanted):
    assert wanted in dict(blocks(timm.create_model(name)))


@pytest.mark.parametrize("name", FAMILIES)
def test_blocks_stand_in_the_order_in_which_a_picture_meets_them(name):
    _, size = FAMILIES[name]
    network, met = timm.create_model(name), []
    parts = blocks(network)
    for part, module in parts:
        module.register_forward_hook(lambda *_, part=part: met.append(part))
    run(network, size)
    assert met == [part for part, _ in parts]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_weight_of_a_layer_is_in_one_block(name):
    network = timm.create_model(name)
    inside = [id(p) for _, module in blocks(network) for p in module.parameters()]
    loose = {id(p) for n, p in network.named_parameters() if "." not in n}
    assert len(inside) == len(set(inside))
    assert set(inside) | loose == {id(p) for p in network.parameters()}


def test_blocks_go_from_the_stem_to_the_head():
    names = [name for name, _ in blocks(timm.create_model("tf_efficientnet_lite0"))]
    assert (names[0], names[-1]) == ("conv_stem", "classifier")
    stages = [name for name in names if name.startswith("blocks.")]
    assert stages == sorted(stages)
    assert len(stages) == 16


# Pruned networks


PRUNED = ["test_resnet", "test_efficientnet", "test_byobnet", "test_convnext", "regnetx_002"]


@pytest.mark.parametrize("name", [*PRUNED, "mobilenetv3_small_050", "tf_efficientnet_lite0"])
def test_a_pruned_network_is_rebuilt_from_its_shapes_with_equal_logits(
    name, dataset, context, tmp_path
):
    torch.manual_seed(0)
    whole = wrap(timm.create_model(name, num_classes=10))
    whole = replace(whole, classes=dataset.classes, contract=replace(whole.contract, image_size=32))
    settings = Prune(ratio=0.4, importance="magnitude")
    pruned = replace(whole, network=structured(whole, dataset, settings, context))
    pruned.save(tmp_path / "model")
    again = Classifier.load(tmp_path / "model")
    assert again.parameters == pruned.parameters < 0.9 * whole.parameters
    assert again.digest == pruned.digest
    assert torch.equal(run(again.network, 32), run(pruned.network, 32))


def test_a_network_pruned_twice_is_rebuilt_too(dataset, context, tmp_path):
    model = wrap(timm.create_model("test_efficientnet", num_classes=10))
    model = replace(model, classes=dataset.classes, contract=replace(model.contract, image_size=32))
    for round_ in range(2):
        settings = Prune(ratio=0.3, importance="magnitude")
        model = replace(model, network=structured(model, dataset, settings, context))
        model.save(tmp_path / str(round_))
        again = Classifier.load(tmp_path / str(round_))
        assert torch.equal(run(again.network, 32), run(model.network, 32))
        model = again


def test_an_unpruned_network_is_rebuilt_as_it_was(tmp_path):
    network = timm.create_model("test_resnet", num_classes=3).eval()
    again = build("timm:test_resnet", 3, network.state_dict(), {}, tmp_path)
    assert not again.training
    assert torch.equal(run(again, 64), run(network, 64))


def test_only_grouped_convolutions_are_counted():
    network = nn.Sequential(
        nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1, groups=2)
    )
    assert counts_beyond_shapes(network) == {"1": 8, "2": 2}


def test_fitting_to_shapes_can_only_take_away():
    with pytest.raises(ModelFileError) as caught:
        fit_to_shapes(nn.Sequential(nn.Linear(4, 3)), {"0.weight": torch.zeros(5, 4)}, {})
    assert str(caught.value) == "layer '0' has shape (5, 4), not within (3, 4)."


def test_a_layer_that_cannot_be_resized_is_named():
    network = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))
    with pytest.raises(ModelFileError) as caught:
        fit_to_shapes(network, {"1.weight": torch.zeros(2)}, {})
    assert str(caught.value) == "layer '1' (LayerNorm) cannot be resized."


def test_weights_with_a_name_too_many_are_refused(tmp_path):
    weights = {**timm.create_model("test_resnet", num_classes=3).state_dict(), "x": torch.ones(1)}
    with pytest.raises(ModelFileError) as caught:
        build("timm:test_resnet", 3, weights, {}, tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: weights do not fit timm:test_resnet: 'x' is missing or too much."
    )


def test_an_architecture_is_made_without_weights_in_evaluation_mode():
    network = create("timm:test_resnet", 5)
    assert not network.training
    assert head(network).out_features == 5
