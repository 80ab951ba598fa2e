"""What is trained learns, what is not stays bit for bit, and what comes out is ordinary."""

from dataclasses import replace

import pytest
import torch

from acclimate.errors import RecipeError
from acclimate.fine_tuning.fine_tune import fine_tune
from acclimate.fine_tuning.settings import FineTune
from acclimate.fine_tuning.trainable_layers import freeze_layers, relative_gradients
from acclimate.models.classifier import Classifier
from acclimate.models.structure import blocks, head, with_head
from acclimate.training.batches.training_images import TrainingImages
from kit import Recorder

FAST = {"epochs": 4, "batch_size": 16, "learning_rate": 2e-3, "prefix_views": 0}


def changed(before, after):
    """The names of tensors that are not bit for bit what they were."""
    then, now = before.module().state_dict(), after.module().state_dict()
    assert list(then) == list(now)
    return {name for name in then if not torch.equal(then[name], now[name])}


def layer_choice(dataset, policy, classifier, context, **settings):
    """The arguments of `freeze_layers` after the network."""
    images = TrainingImages(dataset, policy, classifier.contract, context)
    return FineTune(**settings), images, context


@pytest.mark.parametrize("choice", ["head", "last", "surgical", "lora"])
def test_every_choice_learns_and_leaves_the_rest_alone(
    choice, headless, dataset, policy, context, tmp_path
):
    settings = FineTune(trainable=choice, trainable_blocks=2, **FAST)
    model = fine_tune(headless, dataset, policy, settings, context=context)
    figures = model.card.steps[-1].figures
    assert figures["start_val_accuracy"] < 0.2
    assert figures["val_accuracy"] > 0.5
    assert model.card.steps[-1].notes[0].startswith("Trained: the head")
    moved = changed(headless, model)
    parts = [name for name, _ in blocks(headless.module())]
    body = {part for part in parts if any(name.startswith(f"{part}.") for name in moved)}
    assert "classifier" in body
    assert not any("running" in name or "num_batches" in name for name in moved)
    if choice == "lora":
        assert len(body) == len(parts) - sum("bn" in part for part in parts)
        assert not any(".bn" in name for name in moved)
    else:
        assert len(body) == {"head": 1, "last": 3, "surgical": 3}[choice]
    if choice == "last":
        assert body == set(parts[-3:])
    model.save(tmp_path / "model")
    assert Classifier.load(tmp_path / "model").digest == model.digest
    assert all(p.requires_grad for p in model.module().parameters())


def test_no_gradient_is_computed_below_the_lowest_trained_block(trained, dataset, policy, context):
    network = with_head(trained.module(), head(trained.module()))
    choice = layer_choice(dataset, policy, trained, context, trainable="last", trainable_blocks=1)
    description = freeze_layers(network, *choice)
    assert description.startswith("the head and the last blocks (bn2): ")
    seen = []
    network.bn2.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    logits = network(torch.zeros(2, 3, 32, 32))
    assert logits.requires_grad
    assert not seen[0].requires_grad


def test_surgical_takes_the_blocks_whose_gradient_is_longest(trained, dataset, policy, context):
    network = with_head(trained.module(), head(trained.module()))
    choice = layer_choice(
        dataset, policy, trained, context, trainable="surgical", trainable_blocks=2
    )
    norms = relative_gradients(network, *choice[1:])
    assert [*norms, "classifier"] == [name for name, _ in blocks(network)]
    assert all(p.grad is None for p in network.parameters())
    freeze_layers(network, *choice)
    trainable = {
        name
        for name, module in blocks(network)
        if any(p.requires_grad for p in module.parameters())
    }
    assert trainable == {*sorted(norms, key=norms.get)[-2:], "classifier"}


def test_surgical_with_several_processes_is_refused(trained, dataset, policy, context, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    choice = layer_choice(dataset, policy, trained, context, trainable="surgical")
    with pytest.raises(RecipeError, match=r"chooses its blocks in one process.*use trainable=last"):
        freeze_layers(trained.module(), *choice)


def test_a_killed_training_of_adapters_goes_on_to_the_same_weights(
    headless, dataset, policy, context, tmp_path
):
    settings = FineTune(trainable="lora", epochs=2, batch_size=30, learning_rate=2e-3)
    whole = fine_tune(headless, dataset, policy, settings, context=context)

    tmp_path.joinpath("work").mkdir()
    here = replace(context, workspace=tmp_path / "work")
    stopped = replace(here, progress=Recorder(at_task="epoch 2"))
    with pytest.raises(KeyboardInterrupt):
        fine_tune(headless, dataset, policy, settings, context=stopped)
    again = fine_tune(headless, dataset, policy, settings, context=here)
    assert again.digest == whole.digest
