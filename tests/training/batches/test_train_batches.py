"""Batches that are altered on the device, beside those that the decoding threads alter."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from acclimate.augmentation.policy import POLICIES, choose_policy
from acclimate.augmentation.settings import Augment
from acclimate.training.batches.train_batches import ImageBatches
from acclimate.training.batches.training_images import TrainingImages
from kit import CONTRACT

CPU = torch.device("cpu")
SEEN = {
    "auto": {},
    "none": {"policy": "none"},
    "randaugment": {"policy": "randaugment", "erasing": 0.3, "color": 0.3},
    "trivialaugment": {"policy": "trivialaugment"},
    "augmix": {"policy": "augmix"},
    "mixup": {"mixup": 0.4},
    "cutmix": {"cutmix": 1.0},
}


def batches(dataset, policy, on, **options):
    data = TrainingImages(dataset, policy, CONTRACT, **options)
    return list(ImageBatches(data, 50, seed=4, on=on).train_batches(2, 1))


@pytest.mark.parametrize("name", SEEN)
def test_a_device_sees_the_images_that_the_threads_would_have_made(dataset, name):
    policy = choose_policy(Augment.model_validate(SEEN[name]))
    threads, device = (batches(dataset, policy, on) for on in (None, CPU))
    assert len(threads) == len(device) == 3
    for one, other in zip(threads, device, strict=True):
        assert isinstance(one.images, np.ndarray)
        assert isinstance(other.images, torch.Tensor)
        assert other.images.dtype == torch.uint8
        assert one.images.shape == other.images.shape
        assert np.array_equal(one.targets, other.targets)
        assert np.array_equal(one.rows, other.rows)
        assert (one.global_size, one.weight, one.consistency) == (
            other.global_size, other.weight, other.consistency
        )  # fmt: skip
        apart = np.abs(one.images.astype(int) - other.images.numpy())
        assert apart.mean() < 0.1
        assert (apart > 3).mean() < 0.005


def test_growing_images_grow_on_a_device_too(dataset):
    sizes = [
        batch.images.shape[1:]
        for batch in batches(dataset, choose_policy(), CPU, sizes=(32, 64, 64))
    ]
    assert sizes == [(64, 64, 3)] * 3


def test_a_device_repeats_an_epoch_and_makes_another_of_the_next(dataset):
    source = ImageBatches(
        TrainingImages(dataset, POLICIES["randaugment"], CONTRACT), 50, seed=4, on=CPU
    )
    first, again, later = (
        torch.cat([s.images for s in source.train_batches(e)]) for e in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, later)


def test_processes_share_a_batch_that_is_mixed_on_a_device(dataset, monkeypatch):
    policy = replace(POLICIES["basic"], mixup=0.4)
    (whole, *_) = batches(dataset, policy, CPU)
    parts = []
    for rank in range(2):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", str(rank))
        parts.append(batches(dataset, policy, CPU)[0])
    assert [len(part.images) for part in parts] == [25, 25]
    for rank, part in enumerate(parts):
        assert torch.equal(part.images, whole.images[rank::2])
        assert np.array_equal(part.targets, whole.targets[rank::2])
