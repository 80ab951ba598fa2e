"""Lists that exist in Python only become the data set of the same folder."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset, TensorDataset
from torchvision.datasets import ImageFolder

import acclimate
from acclimate.errors import DataError, WrongType


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """`photos/<class>/<n>.png`: ten of each of two classes."""
    folder = tmp_path_factory.mktemp("in-memory") / "photos"
    for label, shade in (("dark", 20), ("light", 200)):
        (folder / label).mkdir(parents=True)
        for n in range(10):
            pixels = np.random.default_rng(n + shade).integers(shade, shade + 50, (40, 40, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / label / f"{n}.png")
    return folder


def pairs(photos):
    return [(str(path), path.parent.name) for path in sorted(photos.rglob("*.png"))]


FORMS = {
    "pairs": pairs,
    "paths": lambda photos: [(Path(path), label) for path, label in pairs(photos)],
    "lists": lambda photos: [list(pair) for pair in pairs(photos)],
    "table": lambda photos: pd.DataFrame(pairs(photos), columns=["path", "label"]),
    "other names": lambda photos: pd.DataFrame(pairs(photos), columns=["image", "class"]),
    "paths in a table": lambda photos: pd.DataFrame(
        FORMS["paths"](photos), columns=["path", "label"], index=range(100, 120)
    ),
    "categories": lambda photos: FORMS["table"](photos).astype("category"),
    "image folder": lambda photos: ImageFolder(str(photos)),
    "whole subset": lambda photos: Subset(ImageFolder(str(photos)), range(20)),
    "relative": lambda photos: [(os.path.relpath(path), label) for path, label in pairs(photos)],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_data_set_of_the_folder(form, photos):
    found, folder = acclimate.clean(FORMS[form](photos)), acclimate.clean(photos)
    assert found.digest == folder.digest
    assert found.root == photos


def test_splits_and_groups_are_kept(photos):
    table = pd.DataFrame(pairs(photos), columns=["path", "label"])
    table["split"] = ["train", "val", "test", "train"] * 5
    table["group"] = [f"g{n}" for n in range(20)]
    found = acclimate.clean(table)
    assert found.table["split"].to_pylist() == list(table["split"])
    triples = [(path, label, "test") for path, label in pairs(photos)]
    assert len(acclimate.clean(triples).rows("test")) == 20


def test_images_without_a_label_are_unlabelled(photos):
    paths = [path for path, _ in pairs(photos)]
    found = acclimate.clean([*pairs(photos)[:2], *pairs(photos)[10:12], *paths[5:8]])
    assert len(found.rows("unlabelled")) == 3


def test_a_missing_value_is_named_by_its_row(photos):
    table = pd.DataFrame(pairs(photos), columns=["path", "label"])
    table.loc[3, "label"] = None
    with pytest.raises(DataError, match=r"^data: row 3: label is empty\."):
        acclimate.clean(table)


def test_links_that_lead_out_are_left_out_unless_they_are_allowed(photos, tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    links = []
    for path, label in pairs(photos):
        link = inside / f"{label}-{Path(path).name}"
        link.symlink_to(path)
        links.append((link, label))
    with pytest.raises(DataError, match="allow_outside"):
        acclimate.clean(links)
    assert len(acclimate.clean(links, allow_outside=True).rows()) == 20


def test_a_model_can_be_fitted_on_a_table(photos):
    table = pd.DataFrame(pairs(photos), columns=["path", "label"])
    model = acclimate.probe("efficientnet-lite0", table, image_size=32, device="cpu")
    assert model.classes == ("dark", "light")


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        ([], WrongType, "data: is a list. Give a folder, a list file, a table"),
        (3, WrongType, "data: is an int. Give a folder"),
        (TensorDataset(torch.zeros(3)), WrongType, "data: is a TensorDataset."),
        (pd.DataFrame({"a": [1]}), DataError, "data: list has no column 'path'; it has 'a'."),
        ([("a.png", "x"), 3], WrongType, "data: holds int, not (path, label)."),
    ],
)
def test_what_lists_no_images_is_refused_in_a_sentence(data, error, said):
    with pytest.raises(error) as caught:
        acclimate.clean(data)
    assert str(caught.value).startswith(said)
