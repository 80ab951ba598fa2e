from collections import Counter

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from acclimate.data.sample_data import SIZE, shift, write_digits, write_shifted
from acclimate.data.sources.read import read


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.png")}


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Six of each digit."""
    folder = tmp_path_factory.mktemp("samples") / "digits"
    write_digits(folder, per_class=6)
    return folder


def test_the_digits_are_split_as_told(digits):
    count = Counter(path.relative_to(digits).parts[:2] for path in digits.rglob("*.png"))
    assert set(count) == {(s, str(d)) for s in ("train", "val", "test") for d in range(10)}
    assert {n for (split, _), n in count.items() if split == "train"} == {18}
    assert {n for (split, _), n in count.items() if split == "val"} == {4}
    assert {n for (split, _), n in count.items() if split == "test"} == {8}


def test_no_digit_stands_twice(digits):
    assert len({path.name for path in digits.rglob("*.png")}) == 300


def test_the_images_are_the_scans_enlarged(few):
    bunch = load_digits()
    for path in few.rglob("*.png"):
        with Image.open(path) as image:
            assert image.size == (SIZE, SIZE)
            small = np.asarray(image.resize((8, 8), Image.Resampling.BOX), float) * 16 / 255
        number = int(path.stem)
        assert path.parent.name == str(bunch.target[number])
        assert np.abs(small - bunch.images[number]).mean() < 1


def test_the_same_seed_writes_the_same_bytes_and_another_deals_otherwise(few, tmp_path):
    write_digits(tmp_path / "again", per_class=6)
    write_digits(tmp_path / "other", per_class=6, seed=1)
    assert contents(tmp_path / "again") == contents(few)
    assert set(contents(tmp_path / "other")) != set(contents(few))


def test_writing_again_replaces_what_stood_there(tmp_path):
    folder = tmp_path / "digits"
    write_digits(folder, per_class=8)
    write_digits(folder, per_class=4)
    assert len(contents(folder)) == 40


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_the_samples_are_read_as_ten_classes(few, split):
    dataset = read(few)
    assert dataset.classes == tuple("0123456789")
    assert min(dataset.counts(split).values()) >= 1


def test_a_shifted_copy_has_the_same_names_and_other_pixels(few, tmp_path):
    write_shifted(few / "test", tmp_path / "shifted")
    before, after = contents(few / "test"), contents(tmp_path / "shifted")
    assert before.keys() == after.keys()
    assert all(before[name] != after[name] for name in before)


def test_the_same_seed_shifts_the_same_way(few, tmp_path):
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        write_shifted(few / "test", tmp_path / name, seed=seed)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert contents(tmp_path / "one") != contents(tmp_path / "three")


def test_every_image_is_shifted_in_its_own_way(few, tmp_path):
    content = next((few / "test" / "7").iterdir()).read_bytes()
    for name in ("7/a.png", "7/b.png", "8/a.png"):
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_bytes(content)
    write_shifted(tmp_path / "source", tmp_path / "shifted")
    assert len(set(contents(tmp_path / "shifted").values())) == 3


def test_the_shift_of_an_image_does_not_depend_on_its_neighbours(few, tmp_path):
    alone = tmp_path / "source" / "7"
    alone.mkdir(parents=True)
    path = next((few / "test" / "7").iterdir())
    (alone / path.name).write_bytes(path.read_bytes())
    write_shifted(few / "test", tmp_path / "all")
    write_shifted(tmp_path / "source", tmp_path / "alone")
    assert (
        contents(tmp_path / "alone")[f"7/{path.name}"]
        == contents(tmp_path / "all")[f"7/{path.name}"]
    )


def test_a_shift_keeps_the_shape_and_inverts_half_of_the_images():
    image = Image.new("RGB", (24, 16), (0, 0, 0))
    image.paste((255, 255, 255), (6, 4, 18, 12))
    brighter = 0
    for seed in range(200):
        pixels = shift(image, np.random.default_rng(seed))
        assert (pixels.shape, pixels.dtype) == ((16, 24, 3), np.uint8)
        brighter += pixels[7:9, 11:13].mean() > pixels[:2, :2].mean()
    assert 70 < brighter < 130
