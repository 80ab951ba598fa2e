"""The range of 16-bit images goes from the data set into the model's contract, and stays there."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from acclimate.cleaning.clean import clean
from acclimate.data.sources.read import read
from acclimate.features.probe import probe
from acclimate.fine_tuning.head_init import with_fitted_head
from acclimate.models.classifier import Classifier
from kit import tiny_classifier


@pytest.fixture
def scans(tmp_path):
    """Two classes of 12-bit samples in 16-bit files."""
    rng = np.random.default_rng(0)
    for label in (0, 1):
        for number in range(10):
            samples = rng.integers(2048 * label, 2048 * (label + 1), (40, 40), dtype=np.uint16)
            samples[0, 0] = 4095
            path = tmp_path / "scans" / "ab"[label] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(samples).save(path)
    return clean(read(tmp_path / "scans"))


def test_a_probe_learns_the_range_of_its_data_and_keeps_it_on_disk(scans, context, tmp_path):
    model = probe(tiny_classifier("xy"), scans, context=context)
    assert model.contract.bits == 12
    pixels = model.contract.read(scans.path(0))
    assert pixels.max() > 100
    assert replace(model.contract, bits=16).read(scans.path(0)).max() < 17
    model.save(tmp_path / "model")
    assert Classifier.load(tmp_path / "model").contract.bits == 12


def test_a_classifier_of_these_classes_takes_the_range_when_it_is_trained_on(scans, context):
    start = tiny_classifier(scans.classes)
    assert start.contract.bits == 16
    assert with_fitted_head(start, scans, "auto", context).contract.bits == 12
    eight = replace(scans, bits=None)
    assert with_fitted_head(start, eight, "auto", context) is start
