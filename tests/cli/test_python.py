"""A command and its Python function give the same result for the same input."""

import pytest

import acclimate as package

TRAINING = {"epochs": 1, "batch_size": 16}


@pytest.fixture
def given(workshop):
    """A model and its data, by their paths."""
    return workshop.step("probe") / "model", workshop.step("clean") / "dataset.parquet"


def digest(acclimate, *args, **settings):
    """What a command made, as its digest."""
    flags = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    done = acclimate(*args, *flags, "--json")
    assert done.code == 0, done.err
    return done.json["digest"]


def test_clean(acclimate, workshop):
    made = package.clean(workshop.photos, val=0.2)
    assert digest(acclimate, "clean", workshop.photos, "-o", "p.parquet", val=0.2) == made.digest


def test_probe(acclimate, given):
    assert digest(acclimate, "probe", *given, "-o", "p") == package.probe(*given).digest


def test_augment(acclimate, given):
    made = package.augment(*given, operations_per_image=0)
    assert digest(acclimate, "augment", *given, "-o", "p", operations_per_image=0) == made.digest


def test_fine_tune_tests_the_augmentations_without_a_policy(acclimate, given):
    made = package.fine_tune(*given, **TRAINING)
    assert made.card.steps[-1].settings["policy"] == package.augment(*given).as_record()
    assert digest(acclimate, "fine-tune", *given, "-o", "m", **TRAINING) == made.digest


def test_evaluate(acclimate, workshop, given):
    model, _ = given
    made = package.evaluate(model, workshop.photos / "test", latency=False)
    assert made.split == "test"
    assert len(made.table) == 24
    told = digest(acclimate, "evaluate", model, workshop.photos / "test", latency="false")
    assert told == made.digest
