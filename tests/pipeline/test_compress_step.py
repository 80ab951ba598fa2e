"""A run that searches for a compressed model, in place of fixed stages."""

import pytest

from acclimate.pipeline.steps import chosen
from acclimate.recipe import Recipe


def recipe(**sections):
    assignments = [f"{name}={value}" for name, value in sections.items()]
    return Recipe.load(assignments=["data.path=photos", *assignments])


def test_the_search_takes_the_place_of_the_fixed_stages():
    fixed = {step.name for step in chosen(recipe(), None)}
    searched = {step.name for step in chosen(recipe(**{"compress.target": "size"}), None)}
    assert fixed - searched == {"distill", "prune", "quantize"}
    assert searched - fixed == {"compress"}


def test_a_time_limit_is_shared_by_the_trainings_that_run():
    limited = recipe(**{"compress.target": "size"}).limited(max_minutes=11)
    assert limited.fine_tune.max_minutes == pytest.approx(5)
    assert limited.compress.max_minutes == pytest.approx(6)
    assert limited.distill.max_minutes is None
    assert recipe().limited(epochs=2).compress is None
