"""Images that a classifier was made with are recognised, also as copies."""

import io
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from acclimate.cleaning.clean import clean
from acclimate.cleaning.settings import Clean
from acclimate.data.sources.read import read
from acclimate.errors import ModelFileError
from acclimate.models.used_images import TRAIN, UNUSED, VAL, UsedImages, describe

ALL_TEST = Clean(val=0.0, test=1.0, drop=())


@pytest.fixture(scope="module")
def used(dataset):
    return UsedImages.of(dataset)


def copied(dataset, rows, folder, save):
    """A data set of copies of some images, each under its row number."""
    for row in rows.tolist():
        place = folder / dataset.classes[dataset.labels[row]] / f"{row}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(dataset.path(row)) as image:
            place.write_bytes(save(image.convert("RGB")))
    return clean(read(folder), ALL_TEST)


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def test_train_and_val_images_are_known_and_test_images_are_not(used, dataset):
    for split, role in {"train": TRAIN, "val": VAL, "test": UNUSED}.items():
        rows = dataset.rows(split)
        assert set(used.roles_of(dataset, rows).tolist()) == {role}
    assert len(used) == len(dataset.rows("train")) + len(dataset.rows("val"))


@pytest.mark.parametrize(
    "save",
    [
        lambda image: encoded(image, "BMP"),
        lambda image: encoded(image, "JPEG", quality=90),
        lambda image: encoded(image, "WEBP", quality=80),
        lambda image: encoded(image.resize((image.width * 2, image.height * 2)), "PNG"),
    ],
    ids=["lossless", "jpeg", "webp", "resized"],
)
def test_copies_in_another_form_are_known(used, dataset, tmp_path, save):
    train, test = dataset.rows("train")[::4], dataset.rows("test")[::4]
    again = copied(dataset, np.concatenate([train, test]), tmp_path, save)
    rows = again.rows("test")
    numbers = [int(path.split("/")[-1].split(".")[0]) for path in again.paths]
    known = {
        numbers[row] for row, role in zip(rows, used.roles_of(again, rows), strict=True) if role
    }
    assert len(known & set(train.tolist())) >= 0.95 * len(train)
    assert not known & set(test.tolist())


def test_without_hashes_only_equal_pixels_are_known(used, dataset, tmp_path):
    rows = dataset.rows("train")[:20]
    again = copied(dataset, rows, tmp_path, lambda image: encoded(image, "JPEG", quality=90))
    assert not used.roles_of(again, again.rows("test"), by_hash=False).any()
    assert used.roles_of(again, again.rows("test")).any()


def test_flat_images_are_copies_of_each_other_by_their_pixels_only(tmp_path, dataset):
    for name, grey in {"a": 10, "b": 200}.items():
        place = tmp_path / "train" / name / "flat.png"
        place.parent.mkdir(parents=True)
        Image.new("RGB", (20, 20), (grey,) * 3).save(place)
    flat = clean(read(tmp_path), Clean(val=0.0, test=0.0))
    own = UsedImages.of(flat)
    one = own.roles_of(flat, flat.rows("train"))
    assert one.tolist() == [TRAIN, TRAIN]
    first = replace(own, **{name: getattr(own, name)[:1] for name in own.__dataclass_fields__})
    assert first.roles_of(flat, flat.rows("train")).tolist() == [TRAIN, UNUSED]


def test_an_image_that_was_trained_on_once_counts_as_trained_on(used):
    other = replace(used, roles=np.where(used.roles == VAL, TRAIN, VAL).astype(np.uint8))
    both = used.merged(other)
    assert len(both) == len(used)
    assert (both.roles == TRAIN).all()


def test_a_file_holds_all_and_a_damaged_one_is_refused(used):
    content = used.as_bytes()
    assert UsedImages.from_bytes(content).digest == used.digest
    with pytest.raises(ModelFileError, match="used images cannot be read"):
        UsedImages.from_bytes(content[:-1])
    parts = safetensors.numpy.load(content)
    with pytest.raises(ModelFileError, match="wrong shapes or types"):
        UsedImages.from_bytes(safetensors.numpy.save({**parts, "roles": parts["roles"][1:]}))


@given(roles=arrays.arrays(np.uint8, st.integers(1, 40), elements=st.sampled_from([0, 1, 2])))
def test_the_words_give_every_count(roles):
    if not roles.any():
        return
    text = describe(roles)
    assert text.startswith(f"of {len(roles)} image")
    for role, what in ((TRAIN, "trained on"), (VAL, "chose the epochs")):
        assert (what in text) == bool((roles == role).any())
