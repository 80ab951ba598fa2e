"""Channels are removed, accuracy recovers, and the result is kept only if it is worth it."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from torch import nn

from acclimate.compression.prune import prune, structured
from acclimate.compression.settings import Prune
from acclimate.data.dataset import SPLITS
from acclimate.errors import DataError, ModelFileError
from acclimate.models.classifier import Classifier, StepRecord
from acclimate.models.onnx.export import agreement, read_metadata, to_onnx
from acclimate.models.pretrained import wrap
from acclimate.models.runtime import run_torch
from acclimate.models.structure import head
from acclimate.training.engine.checkpoint import find_state
from kit import CONTRACT, Recorder

RECOVER = Prune(epochs=3, batch_size=18, learning_rate=5e-3, max_accuracy_drop=30)


class Own(nn.Module):
    """A user's own small network."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3)
        )
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        return self.head(self.body(x).relu().mean((2, 3)))


def untrained(architecture, dataset, image_size=32):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model(architecture, num_classes=10)
    contract = replace(CONTRACT, image_size=image_size)
    return replace(wrap(network, contract), classes=dataset.classes)


def parameters(network):
    return sum(p.numel() for p in network.parameters())


@pytest.fixture(scope="module")
def pruned(trained, dataset, policy, context):
    """The same network, pruned by a fifth and recovered. Never changed."""
    return prune(trained, dataset, policy, RECOVER, context=context)


def test_a_pruned_network_is_smaller_and_still_far_above_chance(pruned, trained):
    figures = pruned.card.steps[-1].figures
    assert pruned.parameters < 0.8 * trained.parameters
    assert figures["val_accuracy"] > 0.5
    assert figures["size_ratio"] < 0.85
    assert pruned.classes == trained.classes
    assert pruned.contract == trained.contract


def test_its_card_has_the_parameters_and_the_reason(pruned, trained, dataset):
    step = pruned.card.steps[-1]
    assert step.stage == "prune"
    assert step.settings["ratio"] == 0.2
    assert step.figures["parameters"] == pruned.parameters
    assert step.figures["parameters_before"] == trained.parameters
    assert step.notes[-1].startswith("pruned: 0.")
    assert step.notes[-1].endswith(" Kept.")
    assert len(step.curve) == 4
    assert pruned.card.parent == trained.digest
    assert pruned.card.dataset == dataset.digest


def test_the_given_classifier_is_left_as_it_was(trained, dataset, context):
    before, weights = trained.digest, parameters(trained.module())
    structured(trained, dataset, Prune(ratio=0.5), context)
    fresh = replace(trained)
    assert fresh.digest == before
    assert parameters(trained.module()) == weights
    assert all(p.grad is None for p in trained.module().parameters())
    assert not trained.module().training


def test_a_pruned_network_is_saved_and_loaded_strictly(pruned, dataset, tmp_path):
    pruned.save(tmp_path / "small")
    back = Classifier.load(tmp_path / "small")
    assert back.digest == pruned.digest
    assert back.parameters == pruned.parameters
    assert back.card == pruned.card
    images = np.stack([CONTRACT.read(dataset.path(row)) for row in dataset.rows("val")])
    assert np.array_equal(run_torch(back, "cpu")(images), run_torch(pruned, "cpu")(images))


def test_a_pruned_network_gives_the_same_logits_in_pytorch_and_onnx(pruned, dataset):
    exported = replace(pruned, graph=to_onnx(pruned))
    figures = agreement(exported, dataset, 40)
    assert figures["same_predictions"] == 1.0
    assert figures["max_difference"] < 1e-3
    assert read_metadata(exported.graph) == (CONTRACT, pruned.classes)
    assert len(exported.graph) < 4.5 * 1.5 * pruned.parameters


def test_a_killed_recovery_resumes_and_ends_with_the_same_weights(
    trained, pruned, dataset, policy, context, tmp_path
):
    here = replace(context, workspace=tmp_path)
    stopped = replace(here, progress=Recorder(at_advance=15))
    with pytest.raises(KeyboardInterrupt):
        prune(trained, dataset, policy, RECOVER, context=stopped)
    recorder = Recorder(at_line="prune: exporting and measuring both models")
    with pytest.raises(KeyboardInterrupt):
        prune(trained, dataset, policy, RECOVER, context=replace(here, progress=recorder))
    assert any(
        line.startswith("resuming in epoch 2 of 3 at batch 1 of ") for line in recorder.lines
    )
    epochs = [task.name for task in recorder.tasks if task.name.startswith("epoch")]
    assert epochs == ["epoch 2", "epoch 3"]
    recovered, wanted = find_state(tmp_path).best, pruned.module().state_dict()
    assert all(torch.equal(recovered[name], wanted[name]) for name in wanted)


def test_a_model_that_loses_too_much_is_not_kept_and_the_card_has_the_reason(
    trained, dataset, policy, context
):
    exported = replace(trained, graph=to_onnx(trained))
    settings = Prune(ratio=0.9, epochs=1, batch_size=90, learning_rate=1e-9, max_accuracy_drop=0)
    recorder = Recorder()
    back = prune(exported, dataset, policy, settings, context=replace(context, progress=recorder))
    assert back.digest == trained.digest
    assert back.network is trained.network
    assert back.graph == exported.graph
    step = back.card.steps[-1]
    assert step.stage == "prune"
    assert "Not kept: the drop of " in step.notes[-1]
    assert step.notes[-1].endswith(" points exceeds max_accuracy_drop (0).")
    assert step.figures["val_accuracy"] < step.figures["val_accuracy_before"]
    assert recorder.lines[-1] == f"prune: {step.notes[-1]}"
    assert back.card.steps[:-1] == trained.card.steps


@pytest.mark.parametrize("architecture", ["test_vit", "test_maxvit"])
def test_a_network_with_attention_comes_back_with_the_reason(
    architecture, dataset, policy, context
):
    given = untrained(architecture, dataset, image_size=160)
    recorder = Recorder()
    back = prune(given, dataset, policy, context=replace(context, progress=recorder))
    reason = "Not pruned: pruning networks with attention is not supported."
    assert back.card.steps[-1].notes == (reason,)
    assert back.network is given.network
    assert recorder.lines[-1] == f"prune: {reason}"
    assert recorder.tasks == []


CONVOLUTIONAL = [
    "test_byobnet",
    "test_convnext",
    "test_convnext2",
    "test_convnext3",
    "test_efficientnet",
    "test_efficientnet_evos",
    "test_efficientnet_gn",
    "test_efficientnet_ln",
    "test_mambaout",
    "test_nfnet",
    "test_resnet",
]


@pytest.mark.parametrize("architecture", CONVOLUTIONAL)
def test_a_pruned_network_can_be_loaded_or_pruning_is_refused(
    architecture, dataset, context, tmp_path
):
    given = untrained(architecture, dataset)
    try:
        network = structured(given, dataset, Prune(), context)
    except ModelFileError:  # `prune` turns it into a note on the card
        return
    small = replace(given, network=network)
    small.save(tmp_path / "small")
    assert Classifier.load(tmp_path / "small").digest == small.digest


def test_common_convolutional_networks_are_pruned(dataset, context):
    for architecture in ("test_resnet", "test_efficientnet", "test_byobnet"):
        given = untrained(architecture, dataset)
        network = structured(given, dataset, Prune(), context)
        assert parameters(network) < 0.85 * given.parameters
        assert head(network).out_features == 10


def test_two_pruners_in_a_row_share_no_state(dataset, context):
    first, other = (untrained(name, dataset) for name in ("test_byobnet", "test_efficientnet"))

    def digest(given):
        return replace(given, network=structured(given, dataset, Prune(), context)).digest

    alone = digest(first)
    digest(other)
    assert digest(first) == alone


def test_a_pruned_network_can_be_pruned_again(pruned, dataset, context, tmp_path):
    smaller = replace(pruned, network=structured(pruned, dataset, Prune(ratio=0.3), context))
    assert smaller.parameters < pruned.parameters
    smaller.save(tmp_path / "smaller")
    assert Classifier.load(tmp_path / "smaller").digest == smaller.digest


def test_a_larger_ratio_removes_more_parameters(trained, dataset, context):
    sizes = [
        parameters(structured(trained, dataset, Prune(ratio=ratio), context))
        for ratio in (0.1, 0.3, 0.6)
    ]
    assert trained.parameters > sizes[0] > sizes[1] > sizes[2] > 1000


@pytest.mark.parametrize("round_to", [4, 8])
def test_widths_stay_a_multiple_of_round_to(round_to, dataset, context):
    given = untrained("test_resnet", dataset)
    network = structured(given, dataset, Prune(ratio=0.3, round_to=round_to), context)
    widths = {m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)}
    assert all(width % round_to == 0 for width in widths)
    assert len(widths) > 2


def test_batch_norm_is_left_ready_to_train_and_to_run(trained, dataset, context):
    network = structured(trained, dataset, Prune(importance="magnitude", ratio=0.3), context)
    given = [m for m in trained.module().modules() if isinstance(m, nn.BatchNorm2d)]
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [m.momentum for m in norms] == [m.momentum for m in given]
    assert not any(m.training for m in network.modules())
    assert all(p.grad is None or not p.grad.any() for p in network.parameters())
    assert all(torch.isfinite(t).all() for t in network.state_dict().values())


def test_a_last_batch_of_a_single_image_is_accepted(trained, dataset, context):
    names = [SPLITS[i] for i in dataset.splits]
    for row in dataset.rows("train")[65:]:
        names[row] = "unlabelled"
    few = dataset.with_columns({"split": names})
    assert len(few.rows("train")) == 65
    network = structured(trained, few, Prune(), context)
    assert parameters(network) < trained.parameters


def test_a_pruned_module_of_a_user_loads_into_a_fresh_one(dataset, context, tmp_path):
    given = replace(wrap(Own(), CONTRACT), classes=dataset.classes)
    network = structured(given, dataset, Prune(ratio=0.3), context)
    small = given.after(StepRecord("prune"), network=network)
    assert small.parameters < given.parameters
    small.save(tmp_path / "small")
    assert Classifier.load(tmp_path / "small", network=Own()).digest == small.digest


def test_a_model_without_a_network_comes_back_with_the_reason(trained, dataset, policy, context):
    graph_only = replace(trained, network=None, graph=b"int8", precision="int8")
    back = prune(graph_only, dataset, policy, context=context)
    assert back.graph == b"int8"
    assert back.card.steps[-1].notes == (
        "Not pruned: test_efficientnet (int8) has no PyTorch network, only an ONNX graph.",
    )


def test_a_model_of_other_classes_is_refused(trained, dataset, context):
    stranger = replace(trained, classes=(*"012345678", "ten"))
    with pytest.raises(DataError, match="data has classes the model does not know: '9'"):
        prune(stranger, dataset, context=context)
