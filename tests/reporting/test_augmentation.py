"""The section on augmentation: what is used, what is not and why, with images."""

import base64
import io
import re
from dataclasses import replace

import pytest
from PIL import Image

from acclimate.augmentation.evidence import Evidence
from acclimate.augmentation.policy import POLICIES
from acclimate.reporting.augmentation import augmentation_section


def evidence(operation, *, kept, reason):
    return Evidence(
        operation=operation, strength=0.5, images=300, plain=0.912, copies=0.5, learnt=0.875,
        cost=3.7, low=1.25, high=6.5, kept=kept, reason=reason,
    )  # fmt: skip


POLICY = replace(
    POLICIES["auto"],
    evidence=(
        evidence("rotate", kept=True, reason="the labels stay readable"),
        evidence("horizontal_flip", kept=False, reason="96 % <told>"),
    ),
)


@pytest.fixture(scope="module")
def page(dataset, imagenet):
    return augmentation_section(POLICY, dataset, imagenet.contract)


def test_every_operation_is_in_the_table_with_its_figures_and_reason(page):
    rows = re.findall(r"<tr>(.*?)</tr>", page)
    assert len(rows) == 4
    for cell in ("rotate", "0.5", "300", "0.912", "0.500", "0.875", "+3.7", "[+1.2, +6.5]"):
        assert cell in rows[2]
    assert "used: the labels stay readable" in rows[2]
    assert "not used: 96 % &lt;told&gt;" in rows[3]


def test_images_are_embedded_and_show_what_is_not_used(page):
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    captions = re.findall(r'alt="([^"]+)"', page)
    assert captions.count("original") == 2
    assert captions.count("augmented") == 12
    assert captions[-1] == "not used: horizontal_flip 0.5"
    assert "http" not in page
    for picture in pictures:
        with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
            assert max(image.size) <= 96


def test_the_policy_is_summarized_in_words(page, dataset, imagenet):
    assert "crops of at least 60 % of the area, no flips, color jitter of up to 27 %" in page
    other = replace(POLICIES["none"], horizontal_flip=True, mixup=0.2)
    text = augmentation_section(other, dataset, imagenet.contract)
    assert (
        "no random crops, horizontal flips, MixUp 0.2. Val and test images are not augmented."
        in text
    )
    assert "<table>" not in text


def test_the_same_policy_gives_the_same_page(page, dataset, imagenet):
    assert augmentation_section(POLICY, dataset, imagenet.contract) == page


def test_missing_image_files_do_not_fail_the_section(dataset, imagenet, tmp_path):
    gone = replace(dataset, root=tmp_path)
    section = augmentation_section(POLICY, gone, imagenet.contract)
    assert "<img" not in section
    assert "rotate" in section
