"""The section on augmentation: what was kept, what was left out and why, with pictures."""

import base64
import io
import re
from dataclasses import replace

import pytest
from PIL import Image

from acclimate.augmentation.evidence import Evidence
from acclimate.augmentation.policy import POLICIES
from acclimate.reporting.augmentation import augmentation_section


def seen(operation, *, kept, reason):
    return Evidence(
        operation=operation, strength=0.5, images=300, plain=0.912, copies=0.5, learnt=0.875,
        cost=3.7, low=1.25, high=6.5, kept=kept, reason=reason,
    )  # fmt: skip


POLICY = replace(
    POLICIES["auto"],
    evidence=(
        seen("rotate", kept=True, reason="the labels can be read"),
        seen("horizontal_flip", kept=False, reason="96 % <told>"),
    ),
)


@pytest.fixture(scope="module")
def page(dataset, imagenet):
    return augmentation_section(POLICY, dataset, imagenet.contract)


def test_every_operation_stands_in_the_table_with_its_figures_and_reason(page):
    rows = re.findall(r"<tr>(.*?)</tr>", page)
    assert len(rows) == 3
    for cell in ("rotate", "0.5", "300", "0.912", "0.500", "0.875", "+3.7", "[+1.2, +6.5]"):
        assert cell in rows[1]
    assert "kept: the labels can be read" in rows[1]
    assert "left out: 96 % &lt;told&gt;" in rows[2]


def test_pictures_are_inside_and_show_what_was_left_out(page):
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    captions = re.findall(r'alt="([^"]+)"', page)
    assert captions.count("as it is") == 2
    assert captions.count("as trained on") == 12
    assert captions[-1] == "left out: horizontal_flip at 0.5"
    assert "http" not in page
    for picture in pictures:
        with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
            assert max(image.size) <= 96


def test_what_is_done_is_said_in_words(page, dataset, imagenet):
    assert "crops of at least 60 % of the area, no flips, colors wandering by 27 %" in page
    other = replace(POLICIES["none"], horizontal_flip=True, mixup=0.2)
    told = augmentation_section(other, dataset, imagenet.contract)
    assert "half of the images mirrored, MixUp 0.2. Never val and test." in told
    assert "<table>" not in told


def test_the_same_policy_gives_the_same_page(page, dataset, imagenet):
    assert augmentation_section(POLICY, dataset, imagenet.contract) == page


def test_images_that_are_gone_are_no_failure(dataset, imagenet, tmp_path):
    gone = replace(dataset, root=tmp_path)
    section = augmentation_section(POLICY, gone, imagenet.contract)
    assert "<img" not in section
    assert "rotate" in section
