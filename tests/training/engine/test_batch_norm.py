"""Batch-norm statistics: still, moving, or measured anew where that is better."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from acclimate.fine_tuning.fine_tune import fine_tune
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.structure import head, with_head
from acclimate.training.batches.training_images import TrainingImages
from acclimate.training.engine.batch_norm import eval_frozen, reestimate_batch_norm
from kit import Recorder


def statistics(network):
    return {n: t.clone() for n, t in network.state_dict().items() if "running" in n}


@pytest.fixture
def network(start):
    return with_head(start.module(), head(start.module())).eval()


def test_spoilt_statistics_are_replaced(network, start, dataset, policy, context):
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean += 1.0
    recorder = Recorder()
    views = TrainingImages(dataset, policy, start.contract, context)
    before = statistics(network)
    reestimate_batch_norm(network, views, replace(context, progress=recorder))
    assert all(not torch.equal(t, before[n]) for n, t in statistics(network).items())
    assert recorder.lines[0].endswith(", kept")
    assert not network.training


def test_good_statistics_are_kept_and_frozen_parts_left_alone(
    network, start, dataset, policy, context
):
    recorder = Recorder()
    views = TrainingImages(dataset, policy, start.contract, context)
    before = statistics(network)
    network.requires_grad_(False)
    network.classifier.requires_grad_(True)
    reestimate_batch_norm(network, views, replace(context, progress=recorder))
    after = statistics(network)
    assert all(torch.equal(t, after[n]) for n, t in before.items())
    assert recorder.lines[0].endswith(", not kept")


def test_a_training_measures_anew_at_its_end_and_never_gets_worse_on_val(
    trained, dataset, policy, context
):
    recorder = Recorder()
    settings = FineTune(epochs=2, batch_size=30, learning_rate=2e-3, batch_norm="reestimate")
    here = replace(context, progress=recorder)
    model = fine_tune(trained, dataset, policy, settings, context=here)
    told = [line for line in recorder.lines if line.startswith("batch norm re-estimated: loss ")]
    assert len(told) == 1
    kept = told[0].endswith(", kept")
    was, now = statistics(trained.module()), statistics(model.module())
    assert kept == any(not torch.equal(t, now[n]) for n, t in was.items())


def test_wholly_frozen_parts_neither_drop_nor_count():
    frozen = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(4))
    network = nn.Sequential(frozen, nn.Dropout(0.5), nn.Linear(4, 2))
    frozen.requires_grad_(False)
    network.train()
    eval_frozen(network)
    assert not any(m.training for m in frozen.modules())
    assert network[1].training
    assert network[2].training
