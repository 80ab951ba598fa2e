"""A command and its Python function give the same result for the same input."""

import shutil

import pytest

import acclimate as package
from kit import tiny_classifier

TRAINING = {"epochs": 1, "batch_size": 16}


@pytest.fixture(scope="module")
def photos(digits, tmp_path_factory):
    """`<split>/<class>/*.png` of two digits. Read only."""
    folder = tmp_path_factory.mktemp("python") / "photos"
    for split in ("train", "val", "test"):
        for digit in "17":
            shutil.copytree(digits / split / digit, folder / split / digit)
    return folder


@pytest.fixture(scope="module")
def given(photos):
    """The paths of a model and of its data."""
    data, model = photos.parent / "photos.parquet", photos.parent / "model"
    package.clean(photos).save(data)
    package.probe(tiny_classifier(("a", "b")), data).save(model)
    return model, data


def digest(acclimate, *args, **settings):
    """What a command made, as its digest."""
    flags = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    done = acclimate(*args, *flags, "--json")
    assert done.code == 0, done.err
    return done.json["digest"]


def test_clean(acclimate, photos):
    made = package.clean(photos / "train", val=0.2)
    told = digest(acclimate, "clean", photos / "train", "-o", "p.parquet", val=0.2)
    assert told == made.digest


def test_probe(acclimate, given):
    assert digest(acclimate, "probe", *given, "-o", "p") == package.probe(*given).digest


def test_augment(acclimate, given):
    made = package.augment(*given, operations_per_image=0)
    assert digest(acclimate, "augment", *given, "-o", "p", operations_per_image=0) == made.digest


def test_fine_tune_tests_the_augmentations_without_a_policy(acclimate, given):
    made = package.fine_tune(*given, **TRAINING)
    assert made.card.steps[-1].settings["policy"] == package.augment(*given).as_record()
    assert digest(acclimate, "fine-tune", *given, "-o", "m", **TRAINING) == made.digest


def test_evaluate(acclimate, given, photos):
    model, _ = given
    made = package.evaluate(model, photos / "test", latency=False)
    assert made.split == "test"
    assert digest(acclimate, "evaluate", model, photos / "test", latency="false") == made.digest
