"""A model may be named by name, folder, file or registered version, wherever one is named."""

from dataclasses import replace

import pytest

from acclimate.context import Context
from acclimate.distillation.distill import distill
from acclimate.distillation.settings import Distill
from acclimate.models.onnx.export import to_onnx
from acclimate.registry.resolve import as_classifier, is_pretrained_name, resized_classifier
from acclimate.registry.settings import Register
from acclimate.registry.versions import Registry


@pytest.fixture(scope="module")
def leaf(blank, tmp_path_factory):
    """A small classifier as a value, a folder, an ONNX file, and a registered version."""
    folder = tmp_path_factory.mktemp("leaf")
    blank.save(folder / "leaf.model")
    exported = replace(blank, graph=to_onnx(blank))
    exported.save(folder / "exported.model")
    settings = Register(store=folder / "store", key=folder / "key.pem")
    Registry(settings).publish("leaf", blank)
    places = {
        "value": blank,
        "folder": folder / "leaf.model",
        "file": folder / "exported.model" / "model.onnx",
        "version": "models:leaf/1",
    }
    return blank, places, settings


@pytest.mark.parametrize("form", ["value", "folder", "file", "version"])
def test_every_form_gives_the_same_model(leaf, form):
    blank, places, registry = leaf
    found = as_classifier(places[form], registry=registry)
    assert found.classes == blank.classes
    assert found.contract == blank.contract
    if form != "file":
        assert found.digest == blank.digest


def test_a_module_needs_a_contract(blank):
    found = as_classifier(blank.module(), contract=blank.contract)
    assert found.contract == blank.contract


def test_a_model_is_resized_in_every_form(leaf):
    _, places, registry = leaf
    for form in ("value", "folder", "version"):
        found = resized_classifier(places[form], None, 48, registry=registry)
        assert found.contract.image_size == 48


def test_names_of_pretrained_weights_are_told_from_models_that_exist(leaf, tmp_path):
    _, places, _ = leaf
    for form in ("folder", "file", "version"):
        assert not is_pretrained_name(str(places[form]))
    for name in ("efficientnet-lite0", "timm:resnet18", str(tmp_path / "nothing.model")):
        assert is_pretrained_name(name)


def test_a_registered_version_may_teach_and_be_the_student(leaf, dataset, policy):
    blank, _, registry = leaf
    context = Context(device="cpu", registry=registry)
    settings = Distill(
        student="models:leaf/1", teachers=("models:leaf@latest",), epochs=1, batch_size=60,
        class_statistics=False,
    )  # fmt: skip
    student = distill([], dataset, policy, settings, context=context)
    assert student.classes == dataset.classes
    assert student.card.steps[-1].notes[0].startswith(f"Teacher: {blank.name}, {blank.digest}")
