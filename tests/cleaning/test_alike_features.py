import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from acclimate.cleaning.alike_features import alike_by_features, feature_threshold
from acclimate.cleaning.clean import clean
from acclimate.cleaning.settings import Clean
from acclimate.data.sources import read


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
    plain = clean(read(photos), context=context)
    assert plain.table["cluster"].null_count == len(plain)
    asked = clean(read(photos), Clean(features=True), context=context)
    row = asked.table.slice(asked.paths.index("a/again.png"), 1).to_pylist()[0]
    assert row["duplicate_of"] == "a/02.png"
    assert row["flags"] == ["near_duplicate"]
    assert 0.9 <= row["near_duplicate"] < 1


def test_neighbours_are_those_of_comparing_all_pairs():
    rng = np.random.default_rng(0)
    features = unit(np.repeat(rng.normal(size=(700, 24)), 2, axis=0))
    features = unit(features + 0.01 * rng.normal(size=features.shape))
    pairs, cosines = alike_by_features(features, 0.97)
    assert sorted({tuple(p) for p in pairs.tolist()}) == [(2 * i, 2 * i + 1) for i in range(700)]
    truth = (features[pairs[:, 0]] * features[pairs[:, 1]]).sum(1)
    assert cosines == pytest.approx(truth, abs=1e-5)


@pytest.mark.parametrize("count", [1, 2, 20])
def test_few_images_are_enough(count):
    features = unit(np.eye(24)[:count])
    assert alike_by_features(features, 0.5)[0].shape == (0, 2)
    assert feature_threshold(features, 0.9, seed=0) == 0.9


def test_more_is_asked_where_all_images_are_alike():
    features = unit(1 + 0.1 * np.random.default_rng(0).normal(size=(50, 24)))
    assert 0.99 < feature_threshold(features, 0.9, seed=0) < 1
