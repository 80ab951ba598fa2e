"""Small images first, the network's own size last."""

from dataclasses import replace

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st

from acclimate.errors import RecipeError
from acclimate.fine_tuning.fine_tune import fine_tune
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.classifier import Classifier
from acclimate.models.pretrained import resized, wrap
from acclimate.training.batches.progressive_resizing import check_sizes, growing_sizes
from acclimate.training.batches.train_batches import ImageBatches
from acclimate.training.batches.training_images import TrainingImages


def test_sizes_grow_over_two_thirds_of_the_epochs():
    assert growing_sizes(64, 128, 6) == (64, 64, 96, 96, 128, 128)
    assert growing_sizes(32, 96, 9) == (32, 32, 32, 64, 64, 64, 96, 96, 96)
    assert growing_sizes(64, 224, 1) == (224,)


@given(st.integers(32, 200), st.integers(1, 200), st.integers(1, 40))
def test_sizes_never_fall_and_end_at_full_size(start, more, epochs):
    sizes = growing_sizes(start, start + more, epochs)
    assert len(sizes) == epochs
    assert list(sizes) == sorted(sizes)
    assert sizes[-1] == start + more
    assert sizes[0] == start or epochs == 1
    assert sizes.count(start + more) >= epochs / 3


def test_a_start_that_is_not_smaller_is_refused(blank, dataset, policy, context):
    with pytest.raises(RecipeError, match="start_size 32 is not smaller than the model's"):
        fine_tune(blank, dataset, policy, FineTune(start_size=32), context=context)


def test_training_images_have_the_epochs_size_and_val_its_own(blank, dataset, policy, context):
    contract = replace(blank.contract, image_size=64)
    data = TrainingImages(dataset, policy, contract, context, sizes=(32, 64))
    shapes = [
        {batch.images.shape[1:3] for batch in ImageBatches(data, 60, 0).train_batches(epoch)}
        for epoch in (1, 2)
    ]
    assert shapes == [{(32, 32)}, {(64, 64)}]
    assert data.eval_pictures.read(0).shape == (64, 64, 3)
    # The same crop, drawn smaller.
    plain = TrainingImages(dataset, policy, contract, context)
    assert (data.augmented(3, 5, 2) == plain.augmented(3, 5)).all()


def test_a_network_learns_with_growing_images(imagenet, dataset, policy, context):
    larger = resized(imagenet, 64)
    options = {"epochs": 3, "batch_size": 30, "trainable": "last", "learning_rate": 1e-3}
    model = fine_tune(larger, dataset, policy, FineTune(start_size=32, **options), context=context)
    step = model.card.steps[-1]
    assert model.contract.image_size == 64
    assert step.settings["start_size"] == 32
    assert step.figures["val_accuracy"] > 0.8


def test_a_network_of_one_size_is_refused():
    network = timm.create_model("vit_tiny_patch16_224", depth=1).eval()
    with pytest.raises(RecipeError, match="mine cannot be run on images of 160 px"):
        check_sizes(network, (160, 224), "mine")


def test_a_transformer_at_another_size_keeps_its_resampled_positions(dataset, tmp_path):
    given = replace(wrap(timm.create_model("test_vit", num_classes=10)), classes=dataset.classes)
    size = given.contract.image_size
    grown = resized(given, 2 * size)
    assert given.module().pos_embed.shape[1] < grown.module().pos_embed.shape[1]
    assert grown.module()(torch.zeros(1, 3, 2 * size, 2 * size)).shape == (1, 10)
    grown.save(tmp_path / "grown")
    back = Classifier.load(tmp_path / "grown")
    assert back.digest == grown.digest
    assert torch.equal(back.module().pos_embed, grown.module().pos_embed)
