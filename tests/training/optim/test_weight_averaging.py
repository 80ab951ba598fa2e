"""Means of weights over steps, and the epochs that a soup may be made of."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from acclimate.training.curve import Epoch
from acclimate.training.optim.weight_averaging import AVERAGES, Averager, copied

CPU = torch.device("cpu")


def layer(value, counted=0):
    """Every weight and statistic is the value."""
    network = nn.BatchNorm1d(2)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.fill_(value)
    network.num_batches_tracked.fill_(counted)
    return network


def after(name, values, total=None):
    averager = Averager(name)
    for step, value in enumerate(values, 1):
        averager.after_step(layer(value, step), step / (total or len(values)))
    return averager


def shown(averager, network):
    with averager.shown(network):
        return copied(network)


@pytest.mark.parametrize("name", ["none", "soup"])
def test_without_a_mean_the_network_is_shown_as_it_is(name):
    seen = shown(after(name, [1.0, 2.0, 3.0]), layer(3.0))
    assert set(seen["weight"].tolist()) == {3.0}


def test_swa_is_the_plain_mean_of_the_last_quarter():
    values = [float(v * v) for v in range(1, 13)]
    seen = shown(after("swa", values), layer(99.0))
    for name in ("weight", "bias", "running_mean", "running_var"):
        assert seen[name].tolist() == pytest.approx([sum(values[9:]) / 3] * 2)


def test_before_its_quarter_swa_shows_the_network():
    averager = after("swa", [1.0, 2.0, 3.0], total=4)
    assert set(shown(averager, layer(3.0))["weight"].tolist()) == {3.0}


def test_ema_follows_timms_warm_up():
    values = [1.0, 5.0, -2.0, 7.0]
    expected = values[0]
    for count, value in enumerate(values):
        decay = (1 + count) / (10 + count)
        expected = decay * expected + (1 - decay) * value
    assert shown(after("ema", values), layer(0.0))["weight"].tolist() == pytest.approx(
        [expected] * 2
    )


def test_a_long_ema_remembers_no_more_than_its_largest_decay():
    assert AVERAGES["ema"](10**9, 0.5) == pytest.approx(2e-4)


@settings(deadline=None, max_examples=30)
@given(
    name=st.sampled_from(["ema", "swa"]), values=st.lists(st.floats(-9, 9), min_size=1, max_size=30)
)
def test_a_mean_lies_among_what_it_is_of(name, values):
    found = shown(after(name, values), layer(0.0))["weight"][0].item()
    assert min(values) - 1e-4 <= found <= max(values) + 1e-4


def test_counters_are_copied_and_not_averaged():
    seen = shown(after("ema", [1.0, 2.0, 3.0]), layer(0.0))
    assert seen["num_batches_tracked"].item() == 3


def test_the_network_has_its_own_weights_again_after_being_shown():
    averager, network = after("ema", [1.0, 5.0]), layer(5.0)
    with averager.shown(network):
        assert set(network.weight.tolist()) != {5.0}
    assert set(network.weight.tolist()) == {5.0}


def test_a_mean_goes_on_from_its_state():
    values = [1.0, 5.0, -2.0, 7.0]
    whole = after("ema", values)
    part = after("ema", values[:2], total=4)
    again = Averager("ema")
    again.load_state_dict(part.state_dict(), CPU)
    for step, value in enumerate(values[2:], 3):
        again.after_step(layer(value, step), step / 4)
    assert torch.equal(shown(again, layer(0.0))["weight"], shown(whole, layer(0.0))["weight"])


def test_a_soup_keeps_the_best_epochs_only():
    averager, curve = Averager("soup"), []
    accuracies = [0.1, 0.5, 0.4, 0.7, 0.7, 0.2, 0.6, 0.3]
    for epoch, accuracy in enumerate(accuracies):
        curve.append(Epoch(epoch, 1.0, 1.0 - epoch / 100, accuracy, 0.1, 0.0))
        averager.after_epoch(curve[-1], curve, layer(float(epoch)))
    assert sorted(averager.ingredients) == [1, 2, 3, 4, 6]
    assert averager.ingredients[4]["weight"].tolist() == [4.0, 4.0]


def test_only_a_soup_keeps_epochs():
    averager = Averager("ema")
    line = Epoch(1, 1.0, 1.0, 0.5, 0.1, 0.0)
    averager.after_epoch(line, [line, line], layer(1.0))
    assert averager.ingredients == {}
