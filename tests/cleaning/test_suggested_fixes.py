"""Flags become a fix list: the most suspicious labels first."""

import pytest
from PIL import Image

from acclimate.cleaning.suggested_fixes import suggest_fixes
from acclimate.data.sources.read import read


@pytest.fixture
def photos(tmp_path):
    for number, name in enumerate(f"{c}/{i}.png" for c in ("rose", "daisy") for i in range(5)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(tmp_path / name)
    return tmp_path


def test_flags_become_suggestions_the_worst_labels_first(photos):
    dataset = read(photos)
    flags = [[] for _ in range(10)]
    flags[0], flags[1] = ["label_error"], ["blurred", "outlier"]
    flags[2], flags[3] = ["label_error"], ["blurred"]
    flags[4] = ["fix_keep", "blurred"]
    dataset = dataset.with_columns(
        {
            "flags": flags,
            "label_error": [0.91, None, 0.99, *[0.1] * 7],
            "suggested_label": ["rose", None, "rose", *[None] * 7],
            "outlier": [0.0, 0.7, *[0.0] * 8],
        }
    )
    found = suggest_fixes(dataset)
    assert [(fix.path, fix.action, fix.suggested, fix.score) for fix in found] == [
        ("daisy/2.png", "relabel", "rose", pytest.approx(0.99)),
        ("daisy/0.png", "relabel", "rose", pytest.approx(0.91)),
        ("daisy/1.png", "drop", None, pytest.approx(0.7)),
        ("daisy/3.png", "keep", None, None),
    ]
