"""What a search tries, and what it leaves alone."""

import pytest

from acclimate.context import Context
from acclimate.errors import RecipeError
from acclimate.fine_tuning.settings import FineTune
from acclimate.hyperparameter_search.fine_tune_space import ON_FEATURES, space
from acclimate.hyperparameter_search.settings import Search
from acclimate.hyperparameter_search.space import Between, OneOf
from acclimate.recipe import Recipe
from acclimate.training.plan import make_plan


def spaced(settings, search=None, *, mixup=0.0, head=None):
    plan = make_plan(settings, 320, Context(device="cpu"))
    return space(search or Search(), settings, plan, mixup=mixup, head=head)


def test_by_default_all_is_tried_around_what_fine_tuning_takes():
    found = spaced(FineTune())
    assert list(found.ranges) == list(found.default)
    assert found.default["learning_rate"] == 5e-4
    assert found.ranges["learning_rate"] == Between(5e-5, 5e-3, log=True)
    assert found.ranges["trainable"] == OneOf(("all", "last", "lora"))
    assert found.fixed == {}
    assert all(kind.holds(found.default[name]) for name, kind in found.ranges.items())


def test_the_range_of_the_rate_goes_by_the_optimizer():
    assert spaced(FineTune(optimizer="sgd")).ranges["learning_rate"] == Between(1e-3, 1e-1, True)


def test_what_is_given_stays_as_it_is_and_auto_is_not_given():
    found = spaced(FineTune(label_smoothing=0.1, learning_rate="auto", trainable="last"))
    assert found.fixed == {"label_smoothing": 0.1, "trainable": "last"}
    assert "learning_rate" in found.ranges
    assert {"label_smoothing", "trainable"}.isdisjoint(found.ranges)


def test_a_printed_recipe_leaves_what_is_auto_in_it_to_the_search(tmp_path):
    (tmp_path / "recipe.yaml").write_text(Recipe().to_yaml())
    settings = Recipe.load(tmp_path / "recipe.yaml").fine_tune
    assert set(spaced(settings).ranges) == {"learning_rate", "weight_decay", "head", "mixup"}


def test_a_head_that_is_kept_is_not_tried():
    assert "head" not in spaced(FineTune(), head="linear").ranges


def test_a_range_may_be_narrowed_or_left_out():
    search = Search(learning_rate=(1e-4, 1e-3), dropout=None, head=(), trainable=("all",))
    found = spaced(FineTune(), search)
    assert found.ranges["learning_rate"] == Between(1e-4, 1e-3, log=True)
    assert {"dropout", "head", "trainable"}.isdisjoint(found.ranges)


def test_one_choice_that_is_not_the_default_is_tried():
    assert spaced(FineTune(), Search(trainable=("lora",))).ranges["trainable"] == OneOf(("lora",))


def test_a_range_from_zero_goes_by_differences():
    found = spaced(FineTune(), Search(weight_decay=(0, 0.1)))
    assert found.ranges["weight_decay"] == Between(0, 0.1, log=False)


def test_what_features_can_say_is_a_part_of_it():
    part = spaced(FineTune(dropout=0.1)).part(ON_FEATURES)
    assert set(part.ranges) == set(part.default) == {"head", "label_smoothing"}


def test_the_ends_of_a_range_stand_in_their_order():
    with pytest.raises(RecipeError) as caught:
        Recipe.load(assignments=["search.dropout=[0.3, 0.2]"])
    assert str(caught.value) == (
        "--set search.dropout: search.dropout must have its lower end first. Got [0.3, 0.2]."
    )
