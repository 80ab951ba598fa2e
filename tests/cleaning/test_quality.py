import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from acclimate.cleaning.quality import CHECK, quality
from acclimate.cleaning.settings import Clean
from acclimate.cleaning.unreadable import unreadable
from acclimate.context import Context
from acclimate.data.sources.read import read


def scene(seed, width=160, height=120):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    image = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).copy()
    for _ in range(12):
        x, y = rng.integers(0, width - 20), rng.integers(0, height - 20)
        image[y : y + rng.integers(5, 40), x : x + rng.integers(5, 40)] = rng.integers(0, 256, 3)
    return Image.fromarray(image)


FAULTS = [flag.name for flag in CHECK.flags]


SPOILT = {
    "dark": lambda i: ImageEnhance.Brightness(i).enhance(0.1),
    "bright": lambda i: i.point(lambda level: 235 + level * 0.07),
    "low_contrast": lambda i: Image.new("RGB", i.size, (120, 130, 90)),
    "blurred": lambda i: i.filter(ImageFilter.GaussianBlur(3)),
    "odd_aspect": lambda i: i.resize((400, 80)),
    "odd_size": lambda i: i.resize((1600, 1200)),
    "grey": lambda i: i.convert("L").convert("RGB"),
}


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "a").mkdir()
    for i in range(10):
        scene(i).save(tmp_path / "a" / f"{i}.png")
    return tmp_path


def judged(folder, settings=None):
    settings = settings or Clean()
    dataset = quality(unreadable(read(folder), settings, Context()), settings, Context())
    flags = zip(dataset.paths, dataset.table["flags"].to_pylist(), strict=True)
    return dataset, {path: found for path, found in flags if found}


def test_every_fault_has_an_image_that_shows_it():
    assert set(SPOILT) == set(FAULTS)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_flagged_in_the_one_image_that_has_it(photos, name):
    SPOILT[name](scene(99)).save(photos / "a" / "spoilt.png")
    dataset, flags = judged(photos)
    assert list(flags) == ["a/spoilt.png"]
    assert name in flags["a/spoilt.png"]
    # A dark image has little contrast and hardly any colour; all other faults come alone.
    assert name == "dark" or set(flags["a/spoilt.png"]) <= {name, "grey", "low_contrast"}
    assert dataset.keep.all()


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_leaves_an_image_out_when_the_policy_says_so(photos, name):
    SPOILT[name](scene(99)).save(photos / "a" / "spoilt.png")
    dataset, _ = judged(photos, Clean(drop=(name,)))
    row = dataset.paths.index("a/spoilt.png")
    assert np.flatnonzero(~dataset.keep).tolist() == [row]
    assert dataset.table["reasons"][row].as_py() == [name.replace("_", " ")]


def test_good_images_have_no_flags(photos):
    assert judged(photos)[1] == {}


def test_what_most_images_share_is_the_nature_of_the_data(tmp_path):
    (tmp_path / "a").mkdir()
    for i in range(10):
        image = scene(i).convert("L")
        (SPOILT["blurred"](image) if i else image).save(tmp_path / "a" / f"{i}.png")
    dataset, flags = judged(tmp_path)
    assert flags == {}
    assert dataset.notes == ("clean: 9 of 10 images blurred: typical of this data, not flagged",)


def test_what_a_quarter_of_the_images_share_is_said_once_unless_it_is_to_be_dropped(photos):
    for name in range(7, 10):
        SPOILT["blurred"](scene(name)).save(photos / "a" / f"{name}.png")
    dataset, flags = judged(photos)
    assert flags == {}
    assert dataset.notes == ("clean: 3 of 10 images blurred: typical of this data, not flagged",)
    dataset, flags = judged(photos, Clean(drop=("blurred",)))
    assert set(flags) == {"a/7.png", "a/8.png", "a/9.png"}
    assert dataset.notes == ()


@pytest.mark.parametrize(
    ("name", "loose"),
    [("dark", 0.01), ("bright", 0.99), ("low_contrast", 0.0), ("blurred", 0.0),
     ("odd_aspect", 9.0), ("odd_size", 99.0), ("grey", 0.0)],
)  # fmt: skip
def test_every_threshold_can_be_moved(photos, name, loose):
    SPOILT[name](scene(99)).save(photos / "a" / "spoilt.png")
    assert name not in judged(photos, Clean(**{name: loose}))[1].get("a/spoilt.png", [])


def test_images_that_were_not_looked_at_are_not_judged(photos):
    listed = read(photos)
    assert quality(listed, Clean(), Context()).table.equals(listed.table)
