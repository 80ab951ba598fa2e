"""The sections on the data: the worst images of each finding, in limited number."""

import base64
import io
import shutil

import numpy as np
import pytest
from PIL import Image

from acclimate.data.dataset import Dataset
from acclimate.reporting import data_page as page_module
from acclimate.reporting.data_page import data_page, data_report


@pytest.fixture
def flagged(dataset):
    """The digits with all kinds of findings."""
    home = dataset.rows().tolist()
    size = len(dataset)
    flags = [[] for _ in range(size)]
    columns = {n: [None] * size for n in ("label_error", "outlier", "sharpness", "cluster")}
    suggested = [None] * size
    for number, row in enumerate(home[:40]):
        flags[row].append("label_error")
        columns["label_error"][row] = 0.9 + number / 1000
        suggested[row] = "7"
    for number, row in enumerate(home[40:60]):
        flags[row].append("blurred")
        columns["sharpness"][row] = 0.4 - number / 100
    flags[home[70]] += ["outlier", "fix_keep"]
    columns["outlier"][home[70]] = 0.8
    train = dataset.rows("train").tolist()  # sorted by class
    for number, rows in enumerate((train[:3], [home[0], home[-1]], train[3:11])):
        for row in rows:
            columns["cluster"][row] = number
    return dataset.with_columns({**columns, "flags": flags, "suggested_label": suggested})


def test_the_most_suspicious_labels_come_first_with_their_suggestion(flagged):
    labels = data_page(flagged).labels
    assert labels.number == 40
    assert len(labels.thumbnails) == page_module._MAX_LABELS
    home = flagged.rows()
    assert [shot.path for shot in labels.thumbnails[:2]] == [
        flagged.paths[home[39]],
        flagged.paths[home[38]],
    ]
    assert labels.thumbnails[0].caption.startswith("may be 7 · 0.94")


def test_pairs_of_classes_are_counted(flagged):
    pairs = data_page(flagged).pairs
    assert sum(n for _, _, n in pairs) == 40
    assert {better for _, better, _ in pairs} == {"7"}
    assert [n for _, _, n in pairs] == sorted((n for _, _, n in pairs), reverse=True)


def test_each_finding_shows_its_worst_images_and_their_number(flagged):
    kinds = {kind.name: kind for kind in data_page(flagged).kinds}
    assert set(kinds) == {"blurred", "outlier"}
    blurred = kinds["blurred"]
    assert blurred.number == 20
    assert len(blurred.thumbnails) == page_module._MAX_THUMBNAILS
    assert blurred.thumbnails[0].path == flagged.paths[flagged.rows()[59]]
    assert blurred.thumbnails[0].caption == "sharpness 0.21"


def test_all_findings_and_fixes_are_counted(flagged):
    assert data_page(flagged).counts == [
        ("label error", 40, 0),
        ("blurred", 20, 0),
        ("fix keep", 1, 0),
        ("outlier", 1, 0),
    ]


def test_leaks_and_conflicting_labels_come_first_and_dropped_images_are_counted(flagged):
    flags, keep = flagged.table["flags"].to_pylist(), flagged.keep.copy()
    home = flagged.rows().tolist()
    for row, flag in ((80, "near_label_conflict"), (81, "label_conflict"), (82, "leak")):
        flags[home[row]].append(flag)
    keep[home[82]] = False
    page = data_page(flagged.with_columns({"flags": flags, "keep": keep}))
    assert page.counts[:4] == [
        ("leak", 1, 1),
        ("label conflict", 1, 0),
        ("near label conflict", 1, 0),
        ("label error", 40, 0),
    ]
    first = [kind.name for kind in page.leaks]
    assert first == ["leak", "label conflict", "near label conflict"]
    assert [kind.name for kind in page.kinds] == ["blurred", "outlier"]


@pytest.mark.parametrize("flag", ["odd_aspect", "odd_size", "grey"])
def test_odd_and_grey_images_are_shown_worst_first(dataset, flag):
    home, size = dataset.rows().tolist(), len(dataset)
    width, color, flags = [100] * size, [0.5] * size, [[] for _ in range(size)]
    for number, row in enumerate(home[:5]):
        flags[row] = [flag]
        width[row], color[row] = 1000 + 100 * number, 0.009 - number / 1000
    columns = {"width": width, "height": [100] * size, "color": color, "flags": flags}
    (kind,) = data_page(dataset.with_columns(columns)).kinds
    assert [shot.path for shot in kind.thumbnails] == [dataset.paths[row] for row in home[4::-1]]
    captions = {"odd_aspect": "aspect 14.00", "odd_size": "size off median by 3.74"}
    assert kind.thumbnails[0].caption == captions.get(flag, "color 0.00")


def test_clusters_that_cross_splits_come_before_larger_ones(flagged):
    clusters = data_page(flagged).clusters
    paths = [{shot.path for shot in thumbnails} for thumbnails in clusters]
    home = flagged.rows()
    assert paths[0] == {flagged.paths[home[0]], flagged.paths[home[-1]]}
    assert [len(found) for found in paths] == [2, page_module._MAX_CLUSTER_SIZE, 3]


def test_exact_copies_are_shown_beside_their_original(dataset):
    copies = [None] * len(dataset)
    copies[5] = dataset.paths[2]
    (thumbnails,) = data_page(dataset.with_columns({"duplicate_of": copies})).clusters
    assert [shot.path for shot in thumbnails] == [dataset.paths[2], dataset.paths[5]]


def test_images_are_small_and_embedded(flagged):
    page = data_page(flagged)
    thumbnails = [*page.labels.thumbnails, *(s for kind in page.kinds for s in kind.thumbnails)]
    thumbnails += [shot for cluster in page.clusters for shot in cluster]
    for shot in thumbnails:
        head, body = shot.image.split(",")
        assert head == "data:image/jpeg;base64"
        content = base64.b64decode(body)
        assert len(content) < 10_000
        assert max(Image.open(io.BytesIO(content)).size) <= 96


def test_a_missing_file_is_skipped(flagged, digits, tmp_path):
    shutil.copytree(digits, tmp_path / "digits")
    moved = Dataset(flagged.table, flagged.classes, tmp_path / "digits")
    worst = flagged.paths[flagged.rows()[39]]
    (tmp_path / "digits" / worst).unlink()
    labels = data_page(moved).labels
    assert worst not in {shot.path for shot in labels.thumbnails}
    assert len(labels.thumbnails) == page_module._MAX_LABELS


def test_clean_data_has_nothing_to_show_but_its_balance_and_sizes(dataset):
    page = data_page(dataset)
    assert (page.labels.thumbnails, page.pairs, page.kinds, page.clusters) == ([], [], [], [])
    assert page.counts == []
    assert page.balance.startswith("<svg ")
    assert page.sizes.startswith("<svg ")


def test_sizes_of_any_shape_can_be_drawn(dataset):
    rng = np.random.default_rng(0)
    sizes = {
        "width": rng.integers(1, 20_000, len(dataset)),
        "height": rng.integers(1, 20_000, len(dataset)),
    }
    assert data_page(dataset.with_columns(sizes)).sizes.startswith("<svg ")
    unknown = {name: [None] * len(dataset) for name in sizes}
    assert data_page(dataset.with_columns(unknown)).sizes == ""


def test_the_page_alone_is_self_contained_and_names_the_folder(flagged):
    html = data_report(flagged)
    assert html.startswith("<!doctype html>")
    assert f"<h1>{flagged.root.name}</h1>" in html
    assert "<script" not in html
    assert html.count("<img ") == html.count('src="data:image/jpeg;base64,')
