"""`acclimate.load` gives back whatever was saved, by its content."""

import pytest

import acclimate
from acclimate.errors import DataError
from acclimate.models.onnx.export import to_onnx
from kit import tiny_classifier


def test_everything_that_is_saved_is_loaded(dataset, evaluations, tmp_path):
    model, policy = tiny_classifier(dataset.classes), acclimate.augment(policy="basic")
    comparison = acclimate.compare(*evaluations)
    for number, made in enumerate((model, dataset, evaluations[0], comparison, policy)):
        # The name says nothing: only data sets need their suffix.
        place = str(tmp_path / f"{number}{'.parquet' if made is dataset else ''}")
        made.save(place)
        found = acclimate.load(place)
        assert type(found) is type(made)
        if made is not comparison:
            assert found.digest == made.digest


def test_a_model_is_found_in_the_folder_of_its_run(dataset, tmp_path):
    tiny_classifier(dataset.classes).save(tmp_path / "runs" / "leaf" / "model")
    assert acclimate.load(tmp_path / "runs" / "leaf").classes == dataset.classes


def test_graphs_and_recipes_are_loaded(dataset, tmp_path):
    (tmp_path / "model.onnx").write_bytes(to_onnx(tiny_classifier(dataset.classes)))
    assert acclimate.load(tmp_path / "model.onnx").classes == dataset.classes
    (tmp_path / "recipe.yaml").write_text("seed: 3")
    assert acclimate.load(str(tmp_path / "recipe.yaml")).seed == 3


@pytest.mark.parametrize(
    ("name", "said"), [("gone", "no such file or folder."), ("empty", "nothing that acclimate")]
)
def test_what_is_not_ours_is_refused(name, said, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=said):
        acclimate.load(tmp_path / name)
