"""A run searches for a compressed model, unless its recipe names stages."""

import pytest

from acclimate.errors import RecipeError
from acclimate.pipeline.steps import chosen
from acclimate.recipe import Recipe


def recipe(**sections):
    assignments = [f"{name}={value}" for name, value in sections.items()]
    return Recipe.load(assignments=["data.path=photos", *assignments])


def names(recipe):
    return {step.name for step in chosen(recipe, None)}


def test_stages_that_are_named_take_the_place_of_the_search():
    searched, fixed = names(recipe()), names(recipe(**{"quantize.percentile": 0.001}))
    assert searched - fixed == {"compress"}
    assert fixed - searched == {"quantize"}
    both = recipe(**{"distill.epochs": 2, "prune": "{}", "quantize": "null"})
    assert names(both) - searched == {"distill", "prune", "export"}


def test_the_recipe_that_is_written_is_read_back(tmp_path):
    for one in (recipe(), recipe(**{"prune.ratio": 0.2}), recipe(compress="null")):
        (tmp_path / "r.yaml").write_text(one.to_yaml())
        read = Recipe.load(tmp_path / "r.yaml")
        for name in ("compress", "distill", "prune", "quantize"):
            assert getattr(read, name) == getattr(one, name)


def test_the_search_beside_one_of_its_stages_is_refused():
    message = "compress and prune are both set, but compress searches over distill, prune, quantize"
    with pytest.raises(RecipeError, match=message):
        recipe(**{"compress.target": "size", "prune.ratio": 0.2})


def test_a_command_of_one_stage_reads_the_recipe_of_any_run(tmp_path):
    (tmp_path / "r.yaml").write_text(recipe().to_yaml())
    given = ["ratio=0.2"]
    found = Recipe.load(tmp_path / "r.yaml", assignments=given, section="prune")
    assert found.section("prune").ratio == 0.2
    (tmp_path / "r.yaml").write_text(found.to_yaml())
    found = Recipe.load(tmp_path / "r.yaml", assignments=["target=size"], section="compress")
    assert found.section("compress").target == "size"


def test_a_time_limit_is_shared_by_the_trainings_that_run():
    limited = recipe().limited(max_minutes=11)
    assert limited.fine_tune.max_minutes == pytest.approx(5)
    assert limited.compress.max_minutes == pytest.approx(6)
    assert limited.distill is None
    assert recipe(prune="{}").limited(epochs=2).compress is None
