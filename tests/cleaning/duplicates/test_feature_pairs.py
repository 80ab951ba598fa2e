import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from acclimate.cleaning.clean import clean
from acclimate.cleaning.duplicates.connected_components import component_labels
from acclimate.cleaning.duplicates.feature_pairs import feature_threshold, similar_pairs
from acclimate.cleaning.settings import Clean
from acclimate.data.sources.read import read


def unit(rows):
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def photos(tmp_path):
    """Squares of two photos, and one of them again, mirrored."""
    (tmp_path / "a").mkdir()
    squares = [
        Image.fromarray(photo[top : top + 210, left : left + 210])
        for photo in load_sample_images().images
        for top in (0, 210)
        for left in (0, 210, 420)
    ]
    for i, square in enumerate(squares):
        square.save(tmp_path / "a" / f"{i:02}.png")
    squares[2].transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "a" / "again.png")
    return tmp_path


def test_what_only_a_network_sees_alike_is_found_on_request(photos, context):
    no_turns = {"mirrored": False, "rotated": False}
    plain = clean(read(photos), Clean(**no_turns), context=context)
    assert plain.table["cluster"].null_count == len(plain)
    asked = clean(read(photos), Clean(features=True, **no_turns), context=context)
    row = asked.table.slice(asked.paths.index("a/again.png"), 1).to_pylist()[0]
    assert row["duplicate_of"] == "a/02.png"
    assert row["flags"] == ["near_duplicate"]
    assert 0.9 <= row["near_duplicate"] < 1


def all_pairs(features, least):
    """What comparing all pairs finds."""
    directions = unit(features)
    cosines = np.triu(directions @ directions.T, 1)
    return {tuple(pair): cosines[tuple(pair)] for pair in np.argwhere(cosines >= least).tolist()}


def found_pairs(features, least, seed=0):
    pairs, cosines = similar_pairs(features, least, seed)
    return {tuple(p): c for p, c in zip(pairs.tolist(), cosines.tolist(), strict=True)}


def copies(originals, times, away, seed=1):
    """Each row so many times, as far from it as a part of its length."""
    rng = np.random.default_rng(seed)
    many = np.repeat(unit(originals), times, axis=0)
    moved = unit(rng.normal(size=many.shape))
    return many + np.asarray(away, np.float32).reshape(-1, 1) * moved


def images(count, dimension=400, seed=0):
    """Features of ten classes with most of their variance in few directions, as photos' have."""
    rng = np.random.default_rng(seed)
    deviations = (np.arange(dimension) + 5.0) ** -0.6
    centres = 0.1 + 0.5 * deviations * rng.normal(size=(10, dimension))
    return centres[np.arange(count) % 10] + deviations * rng.normal(size=(count, dimension))


def test_what_is_found_is_what_comparing_all_pairs_finds():
    away = np.random.default_rng(2).uniform(0, 0.7, 3000)  # cosines of 0.75 to 1
    features = np.concatenate([images(3000), copies(images(3000)[:1500], 2, away)])
    features *= np.random.default_rng(3).uniform(1, 9, (len(features), 1))
    true, found = all_pairs(features, 0.9), found_pairs(features, 0.9)
    assert len(true) > 2000
    assert found.keys() <= true.keys()
    assert len(found) >= 0.995 * len(true)
    assert max(abs(found[pair] - true[pair]) for pair in found) < 1e-5


@pytest.mark.parametrize(("times", "less"), [(50, 1e-5), (300, 0.01)])
def test_many_copies_are_one_cluster_and_each_has_its_likeliest_or_nearly_so(times, less):
    some = copies(images(3), times, 0.2)
    features = np.concatenate([some, images(1000)[500:]])
    found = found_pairs(features, 0.9)
    names = component_labels(np.array(list(found)), len(features))
    assert names[: 3 * times].tolist() == np.repeat([0, times, 2 * times], times).tolist()
    true = all_pairs(features, 0.9)
    for row in range(0, 3 * times, 17):
        likeliest = max(true[pair] for pair in true if row in pair)
        told = max(found[pair] for pair in found if row in pair)
        assert likeliest - less <= told <= likeliest + 1e-5


def test_of_very_many_pairs_only_some_are_kept():
    assert len(found_pairs(copies(images(1), 50, 0.2), 0.9)) == 50 * 49 / 2
    assert 500 <= len(found_pairs(copies(images(1), 500, 0.2), 0.9)) < 500 * 64


def test_images_that_are_alike_only_through_others_are_one_cluster():
    turns = np.linspace(0, np.pi, 600)
    features = np.zeros((600, 200))
    features[:, 0], features[:, 1] = np.cos(turns), np.sin(turns)
    found = found_pairs(features, 0.9)
    assert len(found) < len(all_pairs(features, 0.9)) / 4
    assert set(component_labels(np.array(list(found)), 600)) == {0}


@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_few_images_are_enough(count):
    features = unit(np.eye(24)[:count])
    assert similar_pairs(features, 0.5, 0)[0].shape == (0, 2)
    assert feature_threshold(features, 0.9, seed=0) == 0.9


@pytest.mark.parametrize("count", [2, 5, 700])
def test_equal_features_are_alike_and_empty_ones_are_not(count):
    features = np.concatenate([np.zeros((3, 200)), np.tile(images(1, 200), (count, 1))])
    found = found_pairs(features.astype(np.float32), 0.99)
    assert set(component_labels(np.array(list(found)), count + 3)) == {0, 1, 2, 3}
    assert list(found.values()) == pytest.approx([1] * len(found))


def test_the_same_seed_finds_the_same():
    features = np.concatenate([images(1500), copies(images(1500), 1, 0.45)])
    first, again = (similar_pairs(features, 0.9, 7) for _ in range(2))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])


class Watched:
    """Features that remember how many of them were asked for at a time."""

    def __init__(self, features):
        self.features, self.most = features, 0

    def __len__(self):
        return len(self.features)

    def __getitem__(self, places):
        self.most = max(self.most, len(places))
        return self.features[places]


def test_features_are_never_all_in_memory():
    watched = Watched(np.concatenate([images(3000), copies(images(1), 3000, 0.2)]))
    feature_threshold(watched, 0.9, seed=0)
    assert len(similar_pairs(watched, 0.9, 0)[0]) >= 2999
    assert watched.most <= 2048


def test_more_is_asked_where_all_images_are_alike():
    features = unit(1 + 0.1 * np.random.default_rng(0).normal(size=(50, 24)))
    assert 0.99 < feature_threshold(features, 0.9, seed=0) < 1
