"""Dropout and stochastic depth act while training, and leave no trace."""

import copy

import pytest
import timm
import torch
import torchvision
from timm.layers import DropPath
from torch import nn

from acclimate.fine_tuning.fine_tune import fine_tune
from acclimate.fine_tuning.settings import FineTune
from acclimate.fine_tuning.stochastic_depth import stochastic_layers

IMAGES = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
NETWORKS = {
    "efficientnet": lambda: timm.create_model("tf_efficientnet_lite0", num_classes=5),
    "resnet": lambda: timm.create_model("test_resnet", num_classes=5),
    "vit": lambda: timm.create_model("test_vit", num_classes=5, img_size=32),
    "convnext": lambda: timm.create_model("test_convnext", num_classes=5),
    "torchvision": lambda: torchvision.models.efficientnet_b0(
        num_classes=5, stochastic_depth_prob=0.0
    ),
}


def still(network):
    """Training mode but for batch norm: only what is drawn differs from one call to the next."""
    network.train()
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.Dropout)):
            module.eval()
    return network


def open_branches(network):
    """Scales that start at zero would hide a branch, and unknown statistics every signal."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.fill_(1)
            module.momentum = None
        if isinstance(getattr(module, "gamma", None), nn.Parameter):
            module.gamma.fill_(1)
    network.train()(IMAGES)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("rates", [(0.5, 0.0), (0.0, 0.9)])
def test_it_acts_in_training_only_and_is_gone_afterwards(name, rates):
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        network = NETWORKS[name]()
        open_branches(network)
        before, kinds = network.eval()(IMAGES), [type(m) for m in network.modules()]
        with stochastic_layers(network, *rates) as missing:
            assert missing == ""
            assert torch.equal(network.eval()(IMAGES), before)
            drawn = [still(network)(IMAGES) for _ in range(6)]
            assert any(not torch.allclose(drawn[0], other) for other in drawn[1:])
            assert torch.equal(network.eval()(IMAGES), before)
        assert [type(m) for m in network.modules()] == kinds
        assert torch.equal(still(network)(IMAGES), network(IMAGES))
        copy.deepcopy(network)


def test_the_rate_rises_with_depth_over_residual_branches_only():
    network = timm.create_model("tf_efficientnet_lite0", num_classes=5)
    with stochastic_layers(network, 0.0, 0.2):
        rates = [m.drop_prob for m in network.modules() if isinstance(m, DropPath)]
        with_skip = [m for m in network.modules() if getattr(m, "has_skip", False)]
        assert len(rates) == len(with_skip) == 9
        assert rates == pytest.approx([0.2 * i / 9 for i in range(1, 10)])


def test_a_network_without_branches_says_so():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3072, 5))
    with stochastic_layers(network, 0.0, 0.2) as missing:
        assert missing == "Sequential has no residual branches, so drop_path has no effect."


def test_a_network_learns_with_both(trained, dataset, policy, context):
    options = {
        "epochs": 2,
        "batch_size": 30,
        "trainable": "last",
        "learning_rate": 1e-3,
        "prefix_views": 0,
    }
    drawn = FineTune(dropout=0.5, drop_path=0.3, **options)
    model = fine_tune(trained, dataset, policy, drawn, context=context)
    figures = model.card.steps[-1].figures
    assert figures["val_accuracy"] >= figures["start_val_accuracy"] > 0.5
    # Where nothing is learnt, what is hidden is all that differs.
    still = {"learning_rate": 1e-9, "epochs": 1}
    hidden, plain = (
        fine_tune(trained, dataset, policy, settings.model_copy(update=still), context=context)
        for settings in (drawn, FineTune(**options))
    )
    losses = [one.card.steps[-1].curve[1]["train_loss"] for one in (hidden, plain)]
    assert losses[0] > 1.02 * losses[1]
    assert not any(isinstance(m, DropPath) for m in model.module().modules())
