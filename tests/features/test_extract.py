"""One pass of the frozen backbone: each image once, whoever asks."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from torch import nn

from acclimate import cache as caches
from acclimate.context import Context
from acclimate.errors import ModelFileError, OutputError
from acclimate.features.extract import extract, load_backbone
from acclimate.features.store import FeatureStore
from acclimate.models.classifier import Card, Classifier
from acclimate.models.pretrained import wrap
from acclimate.models.structure import backbone, with_head
from kit import Recorder


@pytest.fixture(scope="module")
def model():
    """A small network with a backbone of 256 features. Never changed."""
    torch.manual_seed(0)
    small = wrap(timm.create_model("test_efficientnet", num_classes=4))
    return replace(small, contract=replace(small.contract, image_size=32))


@pytest.fixture(scope="module")
def store_copy(tmp_path_factory, model, dataset):
    """A cache in which the graph of the backbone and the features of val stand. Read only."""
    cache = tmp_path_factory.mktemp("features")
    context = Context(device="cpu", cache=cache)
    load_backbone(model, context)
    extract(model, dataset, dataset.rows("val"), context)
    return cache


@pytest.fixture
def own(tmp_path, store_copy):
    """The graph of the backbone alone, so that no test exports it again."""
    (graph,) = store_copy.glob("features/*/backbone.onnx")
    place = tmp_path / "cache" / "features" / graph.parent.name
    place.mkdir(parents=True)
    (place / "backbone.onnx").symlink_to(graph)
    return tmp_path / "cache"


def rows_kept(cache):
    (names,) = cache.glob("features/*/digests.bin")
    (rows,) = cache.glob("features/*/rows.f32")
    return names.stat().st_size // 16, rows.stat().st_size // 4


def test_features_are_what_the_backbone_gives_in_the_order_of_the_rows(model, dataset, store_copy):
    rows = dataset.rows("val")[::-3]
    found = extract(model, dataset, rows, Context(device="cpu", cache=store_copy))
    pixels = np.stack([model.contract.read(dataset.path(row)) for row in rows])
    with torch.inference_mode():
        expected = backbone(model.network)(torch.from_numpy(model.contract.normalize(pixels)))
    assert (found.dtype, found.shape) == (np.float32, tuple(expected.shape))
    assert np.allclose(found, expected.numpy(), atol=1e-3)
    assert np.ptp(found, axis=0).max() > 1e-3


def test_the_middle_follows_the_features_and_is_the_mean_over_places_of_two_blocks(
    model, dataset, store_copy
):
    rows = dataset.rows("val")[:7]
    context = Context(device="cpu", cache=store_copy)
    both, last = (extract(model, dataset, rows, context, intermediate=m) for m in (True, False))
    assert np.array_equal(both[:, :256], last)
    pixels = np.stack([model.contract.read(dataset.path(row)) for row in rows])
    seen = []
    body = backbone(model.network)
    for part in (body.blocks[3][0], body.conv_head):
        part.register_forward_hook(lambda _m, _i, out: seen.append(out.mean((2, 3)).numpy()))
    with torch.inference_mode():
        body(torch.from_numpy(model.contract.normalize(pixels)))
    assert np.allclose(both[:, 256:], np.hstack(seen), atol=1e-3)


def test_each_image_is_computed_once(model, dataset, own):
    recorder = Recorder()
    context = Context(device="cpu", cache=own, progress=recorder)
    val, test = dataset.rows("val"), dataset.rows("test")
    first = extract(model, dataset, val, context)
    width = extract(model, dataset, val, context, intermediate=True).shape[1]
    assert rows_kept(own) == (len(val), len(val) * width)
    assert np.array_equal(extract(model, dataset, val[::-1], context), first[::-1])
    assert rows_kept(own) == (len(val), len(val) * width)
    extract(model, dataset, np.concatenate([test, val, test]), context)
    both = len(val) + len(test)
    assert rows_kept(own) == (both, both * width)
    assert [task.total for task in recorder.tasks] == [len(val), len(test)]
    assert sum(task.done for task in recorder.tasks) == both


def test_an_image_under_two_names_is_computed_once(model, dataset, own):
    digests = dataset.table["digest"].to_pylist()
    val = dataset.rows("val")
    digests[val[1]] = digests[val[0]]
    found = extract(
        model,
        dataset.with_columns({"digest": digests}),
        val[:3],
        Context(device="cpu", cache=own),
    )
    assert rows_kept(own)[0] == 2
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_what_was_computed_is_read_without_the_images(model, dataset, store_copy, tmp_path):
    context, rows = Context(device="cpu", cache=store_copy), dataset.rows("val")
    elsewhere = replace(dataset, root=tmp_path / "gone")
    assert np.array_equal(
        extract(model, elsewhere, rows, context), extract(model, dataset, rows, context)
    )


def test_another_head_shares_the_features_of_one_backbone(model, dataset, store_copy):
    folders = sorted(store_copy.glob("features/*"))
    recorder = Recorder()
    other = replace(model, network=with_head(model.network, nn.Linear(256, 9)))
    here = Context(device="cpu", cache=store_copy, progress=recorder)
    extract(other, dataset, dataset.rows("val"), here)
    assert recorder.tasks == []
    assert sorted(store_copy.glob("features/*")) == folders


@pytest.mark.parametrize("what", ["contract", "weights"])
def test_another_contract_or_other_weights_share_nothing(model, dataset, own, what):
    before = extract(model, dataset, dataset.rows("val"), Context(device="cpu", cache=own))
    if what == "contract":
        other = replace(model, contract=replace(model.contract, mean=(0.1, 0.1, 0.1)))
    else:
        changed = with_head(model.network, nn.Linear(256, 4))
        with torch.no_grad():
            changed.conv_stem.weight += 0.1
        other = replace(model, network=changed)
    after = extract(other, dataset, dataset.rows("val"), Context(device="cpu", cache=own))
    assert not np.allclose(before, after)
    assert len(list(own.glob("features/*"))) == 2


def test_no_rows_give_no_features(model, dataset, store_copy):
    none = np.asarray([], np.int64)
    found = extract(model, dataset, none, Context(device="cpu", cache=store_copy))
    assert found.shape == (0, 256)


def test_a_network_without_a_head_to_leave_off_is_refused(model, dataset, context):
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    headless = Classifier("module:mine", network, tuple("abcde"), model.contract, Card("me", "MIT"))
    with pytest.raises(ModelFileError, match="has no fully connected layer to replace"):
        extract(headless, dataset, dataset.rows("val"), context)


def test_pixels_that_are_no_file_get_the_same_features_and_are_not_kept(model, dataset, own):
    context = Context(device="cpu", cache=own)
    rows = dataset.rows("val")[:5]
    kept = sorted(own.rglob("*"))
    infer = load_backbone(model, context)
    found = infer(np.stack([model.contract.read(dataset.path(row)) for row in rows]))
    rows_before = [path for path in own.rglob("rows.f32") if path.stat().st_size]
    assert rows_before == []
    assert {p.name for p in own.rglob("*")} - {p.name for p in kept} <= {"lock"}
    assert np.allclose(found, extract(model, dataset, rows, context), atol=1e-4)


def test_few_images_are_not_worth_an_export_and_have_the_same_features(
    model, dataset, tmp_path, monkeypatch
):
    rows = dataset.rows("val")
    few = extract(model, dataset, rows, Context(device="cpu", cache=tmp_path / "few"))
    assert not list(tmp_path.glob("few/features/*/backbone.onnx"))
    monkeypatch.setattr("acclimate.features.extract._EXPORT_FROM_PIXELS", 0)
    many = extract(model, dataset, rows, Context(device="cpu", cache=tmp_path / "many"))
    assert list(tmp_path.glob("many/features/*/backbone.onnx"))
    np.testing.assert_allclose(few, many, atol=1e-4)


def test_without_a_place_for_a_cache_the_features_are_the_same(
    model, dataset, store_copy, tmp_path, monkeypatch
):
    (tmp_path / "file").touch()
    monkeypatch.setattr(caches.tempfile, "gettempdir", lambda: str(tmp_path / "file"))
    context = Context(device="cpu", cache=tmp_path / "file" / "cache")
    rows = dataset.rows("val")[::-3]
    kept = extract(model, dataset, rows, Context(device="cpu", cache=store_copy))
    assert np.allclose(extract(model, dataset, rows, context), kept, atol=1e-3)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_disk_that_becomes_full_keeps_the_rows_of_before_and_says_so(
    model, dataset, own, store_copy, monkeypatch
):
    rows, write = dataset.rows("val"), FeatureStore.add
    extract(model, dataset, rows[:3], Context(device="cpu", cache=own))

    def full(store, digests, found):
        raise OutputError("cannot write here (no space left on device).", where=store.folder)

    monkeypatch.setattr(FeatureStore, "add", full)
    recorder = Recorder()
    context = Context(device="cpu", cache=own, progress=recorder)
    found = extract(model, dataset, rows, context)
    kept = extract(model, dataset, rows, Context(device="cpu", cache=store_copy))
    assert np.allclose(found, kept, atol=1e-3)
    (line,) = [line for line in recorder.lines if "not kept" in line]
    assert line.endswith("cannot write here (no space left on device).")
    monkeypatch.setattr(FeatureStore, "add", write)
    assert rows_kept(own)[0] == 3
