import json

import pytest
from pydantic import ValidationError

from acclimate.errors import RecipeError
from acclimate.fine_tuning.settings import FineTune
from acclimate.recipe import SECTIONS, Recipe
from acclimate.setting_help import describe
from acclimate.settings import (
    Auto,
    Fraction,
    OpenFraction,
    Points,
    Settings,
    from_keywords,
    json_schema,
)


class Dish(Settings):
    """What is cooked."""

    salt: Fraction = 0.5
    """Spoons."""
    heat: OpenFraction | Auto = "auto"
    """How hot."""
    tip: Points = 0.0
    """Of the bill."""
    guest: str | None = None
    """Who eats."""


RENAMED = [(name, *pair) for name, kind in SECTIONS.items() for pair in kind.RENAMED.items()]


@pytest.mark.parametrize(("section", "old", "new"), RENAMED)
def test_the_old_name_of_a_setting_is_answered_with_the_new_one(section, old, new):
    assert new in SECTIONS[section].model_fields
    assert old not in SECTIONS[section].model_fields
    with pytest.raises(RecipeError) as caught:
        Recipe.load(assignments=[f"{section}.{old}=1"])
    name = f"{section}.{old}"
    assert str(caught.value) == (
        f"--set {name}: {name} is not a setting. It is now called {new!r}."
    )


def test_settings_that_were_renamed_for_all_training_are_known_to_each_stage():
    assert ("fine_tune", "trained", "trainable") in RENAMED
    assert ("distill", "hard_labels", "hard_label_weight") in RENAMED
    for section in ("fine_tune", "distill", "prune"):
        assert (section, "accumulate", "accumulation_steps") in RENAMED


def test_settings_do_not_change():
    dish = Dish()
    with pytest.raises(ValidationError, match="frozen"):
        dish.salt = 0.1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pepper", 1),
        ("salt", 1.1),
        ("salt", -0.1),
        ("salt", float("nan")),
        ("salt", "much"),
        ("heat", 1.0),
        ("heat", float("inf")),
        ("heat", "automatic"),
        ("tip", 101),
        ("guest", 5),
    ],
)
def test_settings_refuse_what_they_do_not_know(name, value):
    with pytest.raises(ValidationError):
        Dish(**{name: value})


def test_bounds_belong_to_their_range_as_their_names_say():
    assert Dish(salt=0, heat=0, tip=0) == Dish(salt=0.0, heat=0.0, tip=0.0)
    assert Dish(salt=1, tip=100).salt == 1


def test_settings_describe_themselves_in_order():
    assert describe(Dish) == [
        ("salt", "number from 0 to 1", "0.5", "Spoons."),
        ("heat", "auto, number from 0 to below 1", "auto", "How hot."),
        ("tip", "number from 0 to 100", "0.0", "Of the bill."),
        ("guest", "text, null", "null", "Who eats."),
    ]


def test_every_section_of_a_recipe_is_covered_here():
    assert len(SECTIONS) == len(Recipe.model_fields) - 2  # name and seed are no sections
    assert len(SECTIONS) == 16


@pytest.mark.parametrize("section", SECTIONS.values(), ids=SECTIONS.keys())
def test_every_setting_says_what_it_means_in_one_line(section):
    rows = describe(section)
    assert rows
    for name, values, _, meaning in rows:
        assert values, name
        assert meaning, name
        assert "\n" not in meaning, name
        assert meaning.endswith("."), name


@pytest.mark.parametrize("section", SECTIONS.values(), ids=SECTIONS.keys())
def test_every_section_has_a_json_schema_that_refuses_unknown_keys(section):
    schema = json.loads(json.dumps(json_schema(section)))
    assert schema["additionalProperties"] is False
    assert list(schema["properties"]) == [row.name for row in describe(section)]
    for name, told in schema["properties"].items():
        assert told["description"], name


@pytest.mark.parametrize("section", SECTIONS.values(), ids=SECTIONS.keys())
def test_every_section_comes_back_from_json(section):
    default = section()
    assert section(**json.loads(default.model_dump_json())) == default


@pytest.mark.parametrize(
    ("word", "setting"),
    [
        ("bs", "batch_size"),
        ("num_epochs", "epochs"),
        ("img_size", "image_size"),
        ("wd", "weight_decay"),
        ("n-epochs", "epochs"),
    ],
)
def test_the_words_of_other_libraries_are_answered_with_the_setting(word, setting):
    with pytest.raises(RecipeError) as caught:
        from_keywords(FineTune, {word: 3}, beside=("image_size",))
    assert str(caught.value) == (f"FineTune has no setting {word!r}. Did you mean {setting!r}?")
