"""Series are noticed by names and looks together, and never by one of them alone."""

from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from acclimate.cleaning.series import find_series, shared_series
from acclimate.data.dataset import HOME, SCHEMA, Dataset
from acclimate.recipe import Recipe

CLASSES = ("ant", "bee", "cat", "dog")


def scene(seed):
    rng = np.random.default_rng([3, seed])
    small = Image.fromarray(rng.integers(0, 256, (5, 5), dtype=np.uint8))
    return np.asarray(small.resize((16, 16), Image.Resampling.BICUBIC), np.int64)


def made(name, *, alike=True, each=60, group=None):
    """60 images of each class, ten of each scene; `name(class, scene, shot)` is a path."""
    rows = []
    for label in CLASSES:
        for i in range(each):
            number, shot = divmod(i, 10)
            look = CLASSES.index(label) * 100 + number if alike else CLASSES.index(label) * 100 + i
            noise = np.random.default_rng([look, i, 8]).integers(-40, 41, (16, 16))
            shown = np.clip(scene(look) + noise, 0, 255).astype(np.uint8)
            rows.append(
                {
                    "path": name(label, number, shot),
                    "label": label,
                    "split": "test" if shot == 0 else "train",
                    "group": group and group(label, number),
                    "thumbnail": shown.tobytes(),
                    "width": 20,
                    "height": 20,
                    "domain": HOME,
                    "keep": True,
                    "reasons": [],
                    "flags": [],
                }
            )
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    return Dataset(table, CLASSES, Path("photos"))


NAMES = {
    "track_frame": lambda c, s, k: f"train/{c}/{s:05}_{k:05}.ppm",
    "burst": lambda c, s, k: f"{c}/img_{CLASSES.index(c)}{s}_444{k}.jpg",
    "clip": lambda c, s, k: f"{c}/clip{CLASSES.index(c)}{s}_frame_{k:04}.jpg",
    "patch": lambda c, s, k: f"{c}/part{s}_x{64 * (k % 3)}_y{64 * (k // 3)}.png",
    "camera": lambda c, s, k: f"{c}/cam1_clip{s}_{k:03}.jpg",
    "word": lambda c, s, k: f"{c}/{'abcdefgh'[s]}lice{k:02}.jpg",
    "folder": lambda c, s, k: f"{c}/clip{s}/{k:04}.jpg",
    "series last": lambda c, s, k: f"{c}/{k:04}_clip{s}.jpg",
}


@pytest.mark.parametrize("kind", NAMES)
def test_images_of_a_series_are_noticed_by_their_names_and_looks(kind):
    dataset = made(NAMES[kind])
    series = find_series(dataset, 0)
    assert series is not None
    keys = series.keys.reshape(4, 6, 10)
    assert (keys == keys[:, :, :1]).all()
    assert len(np.unique(keys)) == (6 if kind == "series last" else 24)
    assert series.example in dataset.paths[0]


@pytest.mark.parametrize("kind", NAMES)
def test_names_alone_prove_nothing(kind):
    assert find_series(made(NAMES[kind], alike=False), 0) is None


def digest(text):
    return blake2b(text.encode(), digest_size=8).hexdigest()


PLAIN = {
    "numbers": lambda c, s, k: f"{c}/{s * 10 + k:04}.jpg",
    "image and number": lambda c, s, k: f"{c}/image_{s * 10 + k:04}.jpg",
    "class and number": lambda c, s, k: f"{c}/{c}.{s * 10 + k}.jpg",
    "code of the class": lambda c, s, k: f"{c}/0{CLASSES.index(c)}_{s * 10 + k:04}.jpg",
    "hash": lambda c, s, k: f"{c}/{digest(f'{c}{s}{k}')}.jpg",
}


@pytest.mark.parametrize("kind", PLAIN)
def test_names_without_a_series_give_none(kind):
    assert find_series(made(PLAIN[kind]), 0) is None


def test_a_name_that_counts_in_one_class_only_is_no_series_of_all():
    def name(label, number, shot):
        scene = f"{number:03}" if label == "ant" else f"05{CLASSES.index(label)}"
        return f"{label}/{scene}_{number * 10 + shot:04}_x.jpg"

    assert find_series(made(name), 0) is None


def test_what_the_splits_share_is_said_with_the_setting_that_keeps_it_together():
    dataset = made(NAMES["track_frame"])
    series = find_series(dataset, 0)
    sentence = shared_series(dataset, series)
    assert sentence == (
        "images seem to come in 24 series of about 10, by their file names and looks, such as "
        "'ant/00000'. train and test share 24 of 24: accuracy will be too high. Give a group "
        r"column, or --set 'data.group_from=([^/]+/[^/\d]*\d+)[^/\d][^/]*\.\w+$'."
    )
    setting = sentence.rpartition("--set '")[2].removesuffix("'.")
    assert Recipe.load(None, assignments=[setting]).data.group_from == series.pattern


def test_a_series_on_one_side_is_no_fault_and_one_that_is_left_out_in_part_still_is():
    dataset = made(NAMES["track_frame"])
    series = find_series(dataset, 0)
    keep = np.ones(len(dataset), bool)
    keep[::10] = False
    assert shared_series(dataset.with_columns({"keep": keep}), series) is None
    keep[0] = True
    told = shared_series(dataset.with_columns({"keep": keep}), series)
    assert "train and test share 1 of 1" in told


def test_groups_that_a_person_gave_are_not_doubted():
    assert find_series(made(NAMES["burst"], group=lambda c, s: f"{c}{s}"), 0) is None


def test_nothing_measured_is_no_series():
    dataset = made(NAMES["burst"])
    assert find_series(dataset.with_columns({"thumbnail": [None] * len(dataset)}), 0) is None
