"""Whatever people call an image is read as the file it came from."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

from acclimate.data.images.contract import InputContract
from acclimate.data.images.given import images_of, pixels_of
from acclimate.errors import AcclimateError, DataError, UnreadableImage, WrongType

CONTRACT = InputContract(16, (0.5,) * 3, (0.5,) * 3, "bilinear", 0.9)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A PNG whose four quarters differ."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("given") / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


def opened(path):
    """A Pillow image that leaves no file open."""
    return Image.open(io.BytesIO(path.read_bytes()))


class Listed(Dataset):
    """A torch data set of pairs, which never raises an IndexError."""

    def __init__(self, path):
        self.path = path

    def __len__(self):
        return 2

    def __getitem__(self, number):
        return opened(self.path), number % 2


FORMS = {
    "str": lambda path: str(path),
    "path": lambda path: path,
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "file that was written": lambda path: _written(path),
    "pillow": lambda path: opened(path),
    "array": lambda path: np.asarray(opened(path)),
    "tensor": lambda path: torch.from_numpy(np.array(opened(path))).permute(2, 0, 1),
    "row": lambda path: {"image": opened(path), "label": 3},
    "row of bytes": lambda path: {"image": {"bytes": path.read_bytes(), "path": None}},
    "list": lambda path: [str(path)],
    "tuple of arrays": lambda path: (np.asarray(opened(path)),),
    "generator": lambda path: (one for one in [path]),
    "set": lambda path: {path},
    "batch": lambda path: np.asarray(opened(path))[None],
    "batch of tensors": lambda path: [FORMS["tensor"](path)[None]],
    "series": lambda path: pd.Series([str(path)], index=[7]),
    "table": lambda path: pd.DataFrame({"label": ["a"], "path": [str(path)]}),
    "array of text": lambda path: np.array([str(path)]),
    "arrow": lambda path: pa.array([str(path)]),
    "mapping of columns": lambda path: {"path": [str(path)], "label": ["a"]},
    "pairs": lambda path: [(path, "a")],
}


def _written(path):
    stream = io.BytesIO()
    stream.write(path.read_bytes())
    return stream


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_pixels_of_the_file(form, photo):
    (image,) = images_of(FORMS[form](photo))
    np.testing.assert_array_equal(pixels_of(image, CONTRACT), CONTRACT.read(photo))


def test_a_torch_data_set_gives_its_images_without_labels(photo):
    images = list(images_of(Listed(photo)))
    assert len(images) == 2
    batches = TensorDataset(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), torch.arange(3))
    assert len(list(images_of(batches))) == 3


def test_our_data_set_gives_the_images_that_are_kept(dataset):
    assert list(images_of(dataset)) == [dataset.path(int(r)) for r in dataset.rows(domain=None)]


def test_grey_arrays_of_8_and_16_bits_are_images():
    grey = np.full((9, 7), 128, np.uint8)
    for array in (grey, grey[..., None], grey.astype(np.uint16) * 257):
        (image,) = images_of(array)
        assert np.all(pixels_of(image, CONTRACT) == 128)
    assert len(list(images_of(np.zeros((4, 9, 7, 1), np.uint8)))) == 4


def test_a_generator_is_not_read_ahead(photo):
    taken = []
    images = images_of(taken.append(n) or photo for n in range(3))
    next(images)
    assert taken == [0]


def test_a_pillow_image_is_upright_and_unchanged(photo):
    image = opened(photo)
    exif = image.getexif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "JPEG", exif=exif, quality=100)
    turned = Image.open(stream)
    (given,) = images_of(turned)
    np.testing.assert_array_equal(
        pixels_of(given, CONTRACT), pixels_of(stream.getvalue(), CONTRACT)
    )
    assert turned.size == (30, 20)
    assert turned.getexif()[0x0112] == 6


def test_one_image_may_be_in_a_list_twice(photo):
    image = opened(photo)
    assert [one is image for one in images_of([image, image])] == [True, True]


def test_a_model_of_old_decoding_reads_bytes_as_it_reads_files(tmp_path):
    path = tmp_path / "large.jpg"
    pixels = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    old = replace(CONTRACT, decoding=1)
    np.testing.assert_array_equal(pixels_of(path.read_bytes(), old), old.read(path))


WRONG = {
    "number": (3, WrongType, "images: is an int, not an image. Give a path, bytes,"),
    "none": (None, WrongType, "images: is None, not an image."),
    "number in a list": (["x.png", 3], WrongType, "images[1]: is an int, not an image."),
    "floats": (
        np.zeros((3, 8, 8), np.float32),
        DataError,
        "images: array is float32 (3, 8, 8), not uint8. Give samples from 0 to 255, neither "
        "scaled nor normalized: the model does both.",
    ),
    "half floats": (torch.zeros(3, 8, 8, dtype=torch.bfloat16), DataError, "bfloat16 (3, 8, 8)"),
    "channels first": (np.zeros((3, 8, 8), np.uint8), DataError, "uint8 (3, 8, 8), not an image."),
    "no pixels": (np.zeros((0, 8, 3), np.uint8), DataError, "uint8 (0, 8, 3), not an image."),
    "text file": (io.StringIO("x"), WrongType, "does not give bytes. Open it as 'rb'."),
    "row without image": ({"label": 3}, WrongType, "images: has no image among 'label'."),
    "table without paths": (
        pd.DataFrame({"a": [1], 2: [1]}),
        WrongType,
        "images: is a table with the columns 'a', '2'. Give the column with the images: "
        "table['column'].",
    ),
    "missing file": ("nowhere.png", DataError, "nowhere.png: no such file or folder."),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_image_is_refused_in_a_sentence(kind):
    given, error, said = WRONG[kind]
    with pytest.raises(error) as caught:
        list(images_of(given))
    assert said in str(caught.value)
    assert isinstance(caught.value, AcclimateError)
    assert isinstance(caught.value, TypeError) == (error is WrongType)


@pytest.mark.parametrize(
    "image",
    [b"", b"no image", Path("nowhere.png"), Image.new("F", (4, 4))],
    ids=["empty", "no image", "nowhere", "floats"],
)
def test_an_unreadable_image_says_so(image):
    with pytest.raises(UnreadableImage):
        pixels_of(image, CONTRACT)
