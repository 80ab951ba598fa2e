"""Numbered, signed versions: what is published is found again, whole, under its number."""

import json
import shutil
from datetime import UTC, datetime, timedelta

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st

from acclimate.errors import ModelFileError, NotTrusted, OutputError
from acclimate.models.classifier import Classifier
from acclimate.models.pretrained import wrap
from acclimate.registry.reference import split_reference
from acclimate.registry.settings import Register
from acclimate.registry.versions import Registry


def network(seed):
    torch.manual_seed(seed)
    return wrap(timm.create_model("test_efficientnet", pretrained=False, num_classes=3))


@pytest.fixture(scope="module")
def models():
    """Four small classifiers that differ in their weights."""
    return [network(seed) for seed in range(4)]


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A store with nothing in it: making its tables takes seconds, so it is made once."""
    folder = tmp_path_factory.mktemp("empty")
    Registry(Register(store=folder / "store"))
    return folder / "store"


@pytest.fixture
def registry(empty, tmp_path):
    shutil.copytree(empty, tmp_path / "store")
    return Registry(Register(store=tmp_path / "store", key=tmp_path / "key.pem"))


@pytest.fixture
def leaf(registry, models):
    """A store with three versions of a model named leaf."""
    for model in models[:3]:
        registry.publish("leaf", model)
    return registry


def numbers(versions):
    return [version.number for version in versions]


def test_versions_are_numbered_from_1_each_model_on_its_own(registry, models):
    assert registry.publish("leaf", models[0]).number == 1
    assert registry.publish("bark", models[1]).number == 1
    assert registry.publish("leaf", models[2]).number == 2
    assert registry.names() == ["bark", "leaf"]
    assert numbers(registry.versions("leaf")) == [1, 2]


def test_what_is_loaded_is_what_was_published(leaf, models):
    for version, model in zip(leaf.versions("leaf"), models, strict=False):
        assert leaf.load(version).digest == model.digest == version.facts["digest"]


def test_a_version_knows_when_it_was_made_and_where_it_is(registry, models, tmp_path):
    version = registry.publish("leaf", models[0], facts={"accuracy": "0.9"})
    assert abs(datetime.now(UTC) - version.created) < timedelta(minutes=1)
    assert version.folder.parent == tmp_path / "store" / "models" / "leaf"
    assert version.facts["accuracy"] == "0.9"
    assert version.aliases == ()


def test_the_same_model_keeps_its_number(leaf, models):
    assert leaf.publish("leaf", models[1]).number == 2
    assert numbers(leaf.versions("leaf")) == [1, 2, 3]
    again = Classifier.load(leaf.version("leaf", "2").folder)
    assert leaf.publish("leaf", again).number == 2


def test_documents_are_kept_and_signed_beside_the_model(registry, models):
    recipe = {"name": "leaf", "classes": ["é", "<b>"]}
    version = registry.publish("leaf", models[0], documents={"recipe": recipe})
    path = version.folder / "recipe.json"
    assert json.loads(path.read_text()) == recipe
    registry.verify(version)
    path.write_text(path.read_text().replace("leaf", "loaf"))
    with pytest.raises(NotTrusted, match="the signature does not match"):
        registry.verify(version)


def test_a_version_is_found_by_number_alias_or_as_the_latest(leaf):
    leaf.promote("leaf", "2")
    assert leaf.version("leaf", "1").number == 1
    assert leaf.version("leaf", "champion").number == 2
    assert leaf.version("leaf", "champion").aliases == ("champion",)
    assert leaf.version("leaf", "latest").number == 3


def test_nobody_is_champion_before_the_first_promotion(leaf):
    assert leaf.champion("leaf") is None
    with pytest.raises(ModelFileError) as caught:
        leaf.rollback("leaf")
    assert caught.value.message == "leaf has no previous champion."


def test_rolling_back_walks_back_through_the_champions(leaf):
    for reference in ("1", "3", "2", "2", "latest"):
        leaf.promote("leaf", reference)
    assert leaf.champion("leaf") == 3
    assert [leaf.rollback("leaf").number for _ in range(3)] == [2, 3, 1]
    with pytest.raises(ModelFileError):
        leaf.rollback("leaf")
    assert leaf.champion("leaf") == 1


def test_a_promotion_after_a_rollback_goes_on_from_there(leaf):
    leaf.promote("leaf", "1")
    leaf.promote("leaf", "2")
    leaf.rollback("leaf")
    leaf.promote("leaf", "3")
    assert leaf.rollback("leaf").number == 1


def test_models_have_champions_of_their_own(leaf, models):
    leaf.publish("bark", models[3])
    leaf.promote("leaf", "2")
    leaf.promote("bark", "1")
    assert (leaf.champion("leaf"), leaf.champion("bark")) == (2, 1)


def test_the_store_remembers_between_processes(leaf):
    leaf.promote("leaf", "1")
    leaf.promote("leaf", "3")
    again = Registry(Register(store=leaf.store, key=leaf.signer.private))
    assert again.champion("leaf") == 3
    assert again.rollback("leaf").number == 1


def test_a_store_may_be_moved(leaf, models, tmp_path):
    leaf.promote("leaf", "2")
    shutil.move(leaf.store, tmp_path / "moved")
    moved = Registry(Register(store=tmp_path / "moved", key=tmp_path / "key.pem"))
    version = moved.version("leaf", "champion")
    assert moved.load(version).digest == models[1].digest
    assert version.folder.is_relative_to(tmp_path / "moved")


def change(version):
    weights = version.folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


def test_a_changed_version_is_neither_verified_loaded_copied_nor_promoted(leaf, tmp_path):
    version = leaf.version("leaf", "2")
    change(version)
    for use in (
        leaf.verify,
        leaf.load,
        lambda v: leaf.copy(v, tmp_path / "out"),
        lambda v: leaf.promote(v.name, "2"),
    ):
        with pytest.raises(NotTrusted) as caught:
            use(version)
        assert caught.value.where == str(version.folder)
    assert leaf.champion("leaf") is None
    assert not (tmp_path / "out").exists()
    leaf.promote("leaf", "1")


def test_rolling_back_to_a_changed_version_leaves_the_champion(leaf):
    leaf.promote("leaf", "1")
    leaf.promote("leaf", "2")
    change(leaf.version("leaf", "1"))
    with pytest.raises(NotTrusted):
        leaf.rollback("leaf")
    assert leaf.champion("leaf") == 2


def test_the_folder_may_be_exchanged_while_it_is_loaded(leaf, models, monkeypatch):
    """The classifier is made of the bytes that were verified, whatever lies there then."""
    first, second = leaf.version("leaf", "1"), leaf.version("leaf", "2")
    verify = type(leaf.signer).verify

    def exchanged(signer, folder):
        files = verify(signer, folder)
        shutil.rmtree(folder)
        shutil.copytree(second.folder, folder)
        return files

    monkeypatch.setattr(type(leaf.signer), "verify", exchanged)
    assert leaf.load(first).digest == models[0].digest


def test_another_signed_version_in_its_place_is_found_out(leaf):
    first, second = leaf.version("leaf", "1"), leaf.version("leaf", "2")
    shutil.rmtree(first.folder)
    shutil.copytree(second.folder, first.folder)
    with pytest.raises(NotTrusted) as caught:
        leaf.load(first)
    assert caught.value.message == "the folder has a signed model, but another version."


def test_a_version_whose_folder_is_gone_says_so(leaf):
    version = leaf.version("leaf", "1")
    shutil.rmtree(version.folder)
    with pytest.raises(NotTrusted) as caught:
        leaf.verify(version)
    assert str(caught.value) == f"{version.folder}: the folder of the version is missing."


def test_what_was_changed_in_the_store_is_not_called_published(leaf, models):
    change(leaf.version("leaf", "1"))
    with pytest.raises(NotTrusted):
        leaf.publish("leaf", models[0])


def test_a_copy_holds_every_file_and_fits_the_signature(leaf, tmp_path):
    version = leaf.version("leaf", "1")
    leaf.copy(version, tmp_path / "out")
    leaf.signer.verify(tmp_path / "out")
    assert Classifier.load(tmp_path / "out").digest == version.facts["digest"]


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", "a b", "é", "-x", "a" * 65, "a@b"])
def test_a_name_that_could_lead_astray_is_refused(registry, models, name):
    with pytest.raises(ModelFileError) as caught:
        registry.publish(name, models[0])
    assert str(caught.value) == (
        f"{name!r} is not a valid model name. "
        "Use letters, digits, dots, dashes and underscores, 64 at most."
    )
    assert not (registry.store / "models").exists()


def test_a_wrong_name_or_number_is_answered_with_what_there_is(leaf):
    leaf.promote("leaf", "2")
    with pytest.raises(ModelFileError) as caught:
        leaf.versions("laef")
    assert caught.value.message == "no model 'laef' in the store. Did you mean 'leaf'?"
    with pytest.raises(ModelFileError) as caught:
        leaf.version("leaf", "7")
    assert caught.value.message == "leaf has no version '7', only 1, 2, 3, champion, latest."


def test_an_empty_store_says_that_it_is_empty(registry):
    assert registry.names() == []
    with pytest.raises(ModelFileError) as caught:
        registry.versions("leaf")
    assert caught.value.message == "no model 'leaf' in the store. The store is empty."


def test_a_publication_that_was_cut_short_is_taken_up_by_the_next(leaf, models):
    """The folder of a version that is not in the log yet is made again."""
    left = leaf.store / "models" / "leaf" / "4"
    left.mkdir()
    (left / "model.json").write_text("{}")
    assert numbers(leaf.versions("leaf")) == [1, 2, 3]
    version = leaf.publish("leaf", models[3])
    assert version.number == 4
    leaf.verify(version)


def test_a_store_in_the_place_of_a_file_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "store"):
        with pytest.raises(OutputError, match="cannot write here"):
            Registry(Register(store=place))


def test_the_store_holds_no_private_key(leaf):
    files = [path for path in leaf.store.rglob("*") if path.is_file()]
    assert len(files) > 9
    assert not any(b"PRIVATE KEY" in path.read_bytes() for path in files)


@pytest.mark.parametrize(
    ("text", "name", "reference"),
    [
        ("models:leaf@champion", "leaf", "champion"),
        ("models:leaf/3", "leaf", "3"),
        ("models:leaf", "leaf", "latest"),
        ("leaf@latest", "leaf", "latest"),
        ("leaf", "leaf", "latest"),
    ],
)
def test_a_reference_names_a_model_and_a_version(text, name, reference):
    assert split_reference(text) == (name, reference)


@given(
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
    st.from_regex(r"[a-z0-9]{1,9}", fullmatch=True),
    st.sampled_from("@/"),
)
def test_a_reference_is_read_as_it_is_written(name, reference, mark):
    assert split_reference(f"models:{name}{mark}{reference}") == (name, reference)
    assert split_reference(f"{name}{mark}{reference}") == (name, reference)


@pytest.mark.parametrize("name", ["a b", "what?", "50%25", "c#1", "ä&b=c+d"])
def test_a_store_stays_inside_its_folder_whatever_its_name(empty, models, tmp_path, name):
    shutil.copytree(empty, tmp_path / name)
    registry = Registry(Register(store=tmp_path / name, key=tmp_path / "key.pem"))
    registry.publish("leaf", models[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [name, "key.pem", "key.pub.pem"]
    )
    again = Registry(Register(store=tmp_path / name, key=tmp_path / "key.pem"))
    assert again.names() == ["leaf"]
    assert again.load(again.version("leaf", "1")).digest == models[0].digest
