"""`acclimate.run` takes a folder with keywords, a mapping, a recipe or its file."""

from pathlib import Path

import pytest

import acclimate
from acclimate.api import run as module
from acclimate.errors import RecipeError


@pytest.fixture
def recipes(monkeypatch):
    """The recipes and contexts that are run."""
    found = []
    monkeypatch.setattr(
        module, "_run", lambda recipe, out, **facts: found.append((recipe, out, facts))
    )
    return found


def test_every_form_is_the_same_recipe(recipes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "data: {path: photos}\nfine_tune: {epochs: 3}\ndistill: null\nmodel: {name: timm:vit}\n"
    (tmp_path / "recipe.yaml").write_text(text)
    place = Path("photos").absolute()
    fine_tune = {"epochs": 3}
    acclimate.run("photos", model="timm:vit", fine_tune=fine_tune, distill=None)
    acclimate.run(Path("photos"), model={"name": "timm:vit"}, fine_tune=fine_tune, distill=None)
    acclimate.run(
        {"data": {"path": place}, "fine_tune": fine_tune, "distill": None}, model="timm:vit"
    )
    acclimate.run(acclimate.Recipe.load("recipe.yaml"), "out")
    acclimate.run("recipe.yaml")
    first = recipes[0][0]
    assert first.fine_tune.epochs == 3
    assert first.distill is None
    assert first.data.path == place
    for recipe, _, _ in recipes:
        assert recipe.model_dump(exclude={"data"}) == first.model_dump(exclude={"data"})
        assert recipe.data.path.absolute() == place
    assert [out for _, out, _ in recipes] == [Path(n) for n in ("runs",) * 3 + ("out", "runs")]


def test_a_file_is_changed_by_keywords_and_the_rest_of_a_section_stays(recipes, tmp_path):
    (tmp_path / "r.yaml").write_text("data: {path: photos}\nfine_tune: {epochs: 3, lora_rank: 4}\n")
    acclimate.run(
        str(tmp_path / "r.yaml"), name="leaf", fine_tune={"epochs": 5}, weights="w.pt",
        allow_outside=True, device="cpu",
    )  # fmt: skip
    recipe, _, facts = recipes[0]
    assert (recipe.fine_tune.epochs, recipe.fine_tune.lora_rank, recipe.name) == (5, 4, "leaf")
    assert recipe.model.weights == Path("w.pt")
    assert recipe.data.allow_outside
    assert recipe.data.path == tmp_path / "photos"
    assert facts["context"].device == "cpu"


def test_all_trainings_are_limited(recipes):
    acclimate.run("photos", epochs=2, fine_tune={"lr": 0.5})
    assert recipes[0][0].fine_tune.learning_rate == 0.5
    assert (recipes[0][0].fine_tune.epochs, recipes[0][0].compress.epochs) == (2, 2)


def test_wrong_sections_and_settings_are_named(recipes):
    for wrong in ({"finetune": {}}, {"fine_tune": {"epoch": 3}}, {"fine_tune": 3}):
        with pytest.raises(RecipeError, match=next(iter(wrong))):
            acclimate.run("photos", **wrong)
    assert recipes == []
