"""What the data says of each augmentation, and what a policy is made of."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from acclimate.augmentation.auto_policy import evidence_of, flip_evidence, safe_policy
from acclimate.augmentation.label_probe import Answers, copy_of
from acclimate.augmentation.operations import OPERATIONS
from acclimate.augmentation.policy import POLICIES, Policy, choose_policy
from acclimate.augmentation.settings import Augment
from acclimate.cleaning.clean import clean
from acclimate.context import Context
from acclimate.data.sample_data import write_digits
from acclimate.data.sources.read import read
from acclimate.errors import DataError
from acclimate.models.pretrained import resized

FEW = Augment(max_images=100)


def answers(images=256, lost=0, gained=0, right=230, judged="learnt"):
    """Of probes that agree but for some images."""
    plain = np.arange(images) < right
    other = plain.copy()
    other[:lost] = False
    other[images - gained :] = True
    hits = {"copies": plain, "learnt": plain, judged: other}
    return Answers(plain, **hits)


def told(share, images=256):
    return np.arange(images) < share * images


def by_name(policy):
    return {line.operation: line for line in policy.evidence}


def write_arrows(folder, per_class=40):
    """Arrows to the left and to the right: mirrored, each is the other."""
    rng = np.random.default_rng(0)
    for name, turn in (("left", 180), ("right", 0)):
        (folder / name).mkdir(parents=True)
        for index in range(per_class):
            ground = tuple(rng.integers(150, 256, 3).tolist())
            ink = tuple(rng.integers(0, 100, 3).tolist())
            image = Image.new("RGB", (48, 48), ground)
            pen = ImageDraw.Draw(image)
            pen.line((8, 24, 34, 24), fill=ink, width=int(rng.integers(3, 8)))
            pen.polygon([(42, 24), (30, 14), (30, 34)], fill=ink)
            angle = turn + rng.uniform(-15, 15)
            image.rotate(angle, fillcolor=ground).save(folder / name / f"{index}.png")


def write_discs(folder, per_class=40):
    """Large and small discs anywhere: what they are does not depend on how one looks at them."""
    rng = np.random.default_rng(1)
    for name, sizes in (("small", (5, 8)), ("large", (13, 18))):
        (folder / name).mkdir(parents=True)
        for index in range(per_class):
            image = Image.new("RGB", (48, 48), tuple(rng.integers(150, 256, 3).tolist()))
            r, x, y = rng.integers(*sizes), rng.integers(20, 28), rng.integers(20, 28)
            box = (int(x - r), int(y - r), int(x + r), int(y + r))
            ImageDraw.Draw(image).ellipse(box, fill=tuple(rng.integers(0, 100, 3).tolist()))
            image.save(folder / name / f"{index}.png")


@pytest.fixture(scope="module")
def judged(imagenet, dataset, context):
    """What few and tiny digits say of everything."""
    return safe_policy(imagenet, dataset, FEW, context=context)


@pytest.fixture(scope="module")
def large(imagenet, tmp_path_factory, context):
    """What more and larger digits say of some operations."""
    folder = tmp_path_factory.mktemp("more") / "digits"
    write_digits(folder, per_class=60)
    settings = Augment(operations=("invert", "erase", "color", "shear_x"), crop_area=1, color=0)
    model = resized(imagenet, 64)
    data = clean(read(folder), context=context)
    return safe_policy(model, data, settings, context=context)


def test_flips_of_digits_are_refused_since_mirrored_digits_do_not_occur(judged):
    assert judged.horizontal_flip is False
    assert judged.vertical_flip is False
    for name in ("horizontal_flip", "vertical_flip"):
        line = by_name(judged)[name]
        assert line.told > 0.8
        assert "can be told from their copies" in line.reason


def test_there_is_evidence_for_every_operation(judged):
    assert set(by_name(judged)) == {
        "horizontal_flip", "vertical_flip", "crop", "jitter", *OPERATIONS,
    } - {"identity"}  # fmt: skip
    for line in judged.evidence:
        assert line.images == FEW.max_images
        assert line.low <= line.cost <= line.high
        assert line.reason


def test_what_hides_the_digit_is_left_out_and_what_only_looks_strange_is_kept(large):
    """An inverted digit is a digit, though a probe that never saw one is at a loss."""
    lines = by_name(large)
    assert not lines["erase"].kept
    assert lines["invert"].kept
    assert lines["invert"].copies < lines["invert"].plain - 0.1
    assert large.operations == ("invert", "color", "shear_x")
    assert large.strengths["invert"] == lines["invert"].strength == 1.0


def test_what_teaches_nothing_is_drawn_less_often(large):
    """Scans are grey: saturation changes no pixel of them."""
    assert large.weights["color"] == 0.25
    assert large.weights["invert"] == 1.0


def test_the_same_seed_gives_the_same_policy(judged, imagenet, dataset, context):
    assert safe_policy(imagenet, dataset, FEW, context=context) == judged


def test_a_policy_keeps_its_evidence_on_disk(judged, tmp_path):
    judged.save(tmp_path / "policy.json")
    back = Policy.load(tmp_path / "policy.json")
    assert back == judged
    assert back.digest == judged.digest


def test_arrows_refuse_the_mirror_that_makes_one_the_other(imagenet, tmp_path, context):
    write_arrows(tmp_path / "arrows")
    data = clean(read(tmp_path / "arrows"), context=context)
    settings = Augment(operations_per_image=0, crop_area=1.0, color=0.0)
    policy = safe_policy(imagenet, data, settings, context=context)
    assert policy.horizontal_flip is False


def test_discs_accept_both_flips(imagenet, tmp_path, context):
    write_discs(tmp_path / "discs", per_class=160)
    data = clean(read(tmp_path / "discs"), context=context)
    settings = Augment(operations_per_image=0, crop_area=1.0, color=0.0)
    policy = safe_policy(imagenet, data, settings, context=context)
    assert policy.horizontal_flip is True
    assert policy.vertical_flip is True
    assert {line.operation for line in policy.evidence} == {"horizontal_flip", "vertical_flip"}


def test_what_is_set_by_hand_is_not_asked_and_not_changed(imagenet, dataset, context):
    settings = Augment(
        horizontal_flip=True, vertical_flip=False, crop_area=0.4, color=0.1,
        operations=("color", "erase", "identity"), operations_per_image=3,
    )  # fmt: skip
    policy = safe_policy(imagenet, dataset, settings, context=context)
    assert policy.horizontal_flip is True
    assert (policy.crop_area, policy.color, policy.operations_per_image) == (0.4, 0.1, 3)
    assert set(by_name(policy)) == {"color", "erase"}
    assert policy.operations == ("color", "identity")  # erase has no strength that is safe


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "auto"])
def test_a_named_policy_asks_nothing(imagenet, dataset, context, name):
    settings = Augment(policy=name)
    policy = safe_policy(imagenet, dataset, settings, context=context)
    assert policy == choose_policy(settings) == POLICIES[name]


def test_too_few_images_give_the_gentle_policy_which_mirrors_nothing(imagenet, tmp_path, context):
    write_discs(tmp_path / "discs", per_class=12)
    data = clean(read(tmp_path / "discs"), context=context)
    policy = safe_policy(imagenet, data, context=context)
    assert policy == POLICIES["auto"]
    assert policy.horizontal_flip is False


def test_test_images_are_not_looked_at(imagenet, dataset, context):
    """Another test split gives the very same policy."""
    keep = dataset.keep.copy()
    keep[dataset.rows("test", domain=None)] = False
    settings = Augment(operations_per_image=0, color=0)
    policies = [
        safe_policy(imagenet, data, settings, context=context)
        for data in (dataset, dataset.with_columns({"keep": keep}))
    ]
    assert policies[0] == policies[1]


def test_data_that_cannot_be_learnt_from_is_refused(imagenet, dataset):
    with pytest.raises(DataError):
        safe_policy(imagenet, dataset.with_columns({"split": ["test"] * len(dataset)}))


def test_a_cost_within_the_tolerance_is_no_reason_to_refuse():
    line = evidence_of("rotate", 0.5, answers(lost=5, gained=3), 2.0)
    assert line.kept
    assert line.cost == pytest.approx(100 * 2 / 256, abs=0.01)
    assert line.plain == pytest.approx(230 / 256)


def test_a_cost_beyond_chance_refuses_even_what_is_gentle():
    line = evidence_of("rotate", 0.5, answers(lost=20), 2.0)
    assert not line.kept
    assert line.reason == "costs more than 2 points"


@pytest.mark.parametrize(("name", "kept"), [("rotate", True), ("crop", True), ("noise", False)])
def test_where_images_cannot_say_only_the_gentle_is_kept_and_only_at_the_last(name, kept):
    unsettled = answers(images=60, right=50, lost=5, gained=3)
    assert evidence_of(name, 0.25, unsettled, 2.0).kept is kept
    assert not evidence_of(name, 1.0, unsettled, 2.0, last=False).kept


@pytest.mark.parametrize(
    ("share", "lost", "images", "kept"),
    [
        (0.5, 2, 256, True),
        (0.74, 2, 256, True),  # light from one side
        (0.95, 0, 256, False),  # digits, which the probe does not see
        (0.5, 40, 256, False),  # arrows, which it does
        (0.5, 3, 40, False),  # too few to say
    ],
)
def test_a_flip_must_neither_be_told_nor_cost(share, lost, images, kept):
    found = answers(images, lost=lost, right=images - 10, judged="copies")
    line = flip_evidence("horizontal_flip", found, told(share, images), 2.0)
    assert line.kept is kept
    assert line.told == pytest.approx(share, abs=0.02)


def test_a_crop_may_cut_off_what_its_strength_says(imagenet):
    across = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (256, 256, 3))
    image = Image.fromarray(across)
    widths = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        copy = copy_of(image, imagenet.contract, "crop", 0.5, rng).astype(int)
        widths.append(float(copy[..., 0].max() - copy[..., 0].min()) / 255)
    assert 0.55 < min(widths) < 0.8
    assert max(widths) > 0.9


def test_nothing_is_drawn_from_the_global_generator(judged, imagenet, dataset, context):
    np.random.seed(7)  # noqa: NPY002
    other = Context(seed=0, device="cpu", cache=context.cache)
    settings = Augment(operations=("noise",), crop_area=1, color=0)
    first = safe_policy(imagenet, dataset, settings, context=other)
    np.random.seed(8)  # noqa: NPY002
    assert safe_policy(imagenet, dataset, settings, context=other) == first
