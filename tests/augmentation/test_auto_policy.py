"""The test of each augmentation on the data, and the policy that follows."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from acclimate.augmentation.auto_policy import auto_policy
from acclimate.augmentation.data_kind import DataKind
from acclimate.augmentation.decision import flip_evidence, operation_evidence
from acclimate.augmentation.label_probe import ProbeHits, augmented_copy
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
PHOTOGRAPHS = DataKind(color=True, photographs=True, characters=False, exchanged={})
DRAWINGS = DataKind(color=True, photographs=False, characters=False, exchanged={})
SCANS = DataKind(color=False, photographs=False, characters=True, exchanged={})


def hits_of(images=256, lost=0, gained=0, right=230, differing="learnt"):
    """Hits of probes that agree except on some images."""
    plain = np.arange(images) < right
    other = plain.copy()
    other[:lost] = False
    other[images - gained :] = True
    hits = {"copies": plain, "learnt": plain, "plain_learnt": plain, differing: other}
    return ProbeHits(plain, **hits)


def flags_of(share, images=256):
    return np.arange(images) < share * images


def by_name(policy):
    return {line.operation: line for line in policy.evidence}


def write_arrows(folder, per_class=40):
    """Arrows to the left and to the right: flipped, each becomes the other."""
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
    """Large and small discs at random places, whose label no flip changes."""
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
def tested(imagenet, dataset, context):
    """All operations tested on few and tiny digits."""
    return auto_policy(imagenet, dataset, FEW, context=context)


@pytest.fixture(scope="module")
def large(imagenet, tmp_path_factory, context):
    """Some operations tested on more and larger digits."""
    folder = tmp_path_factory.mktemp("more") / "digits"
    write_digits(folder, per_class=25)
    settings = Augment(operations=("invert", "erase", "color", "shear_x"), crop_area=1, color=0)
    model = resized(imagenet, 64)
    data = clean(read(folder), context=context)
    return auto_policy(model, data, settings, context=context)


def test_flips_of_digits_are_refused_since_flipped_digits_do_not_occur(tested):
    assert tested.horizontal_flip is False
    assert tested.vertical_flip is False
    for name, copies in (("horizontal_flip", "mirrored"), ("vertical_flip", "upside-down")):
        line = by_name(tested)[name]
        assert line.told > 0.8
        assert f"can be distinguished from their {copies} copies" in line.reason


def test_there_is_evidence_for_every_operation(tested):
    assert set(by_name(tested)) == {
        "horizontal_flip", "vertical_flip", "crop", "jitter", *OPERATIONS,
    } - {"identity"}  # fmt: skip
    for line in tested.evidence:
        assert line.images == FEW.max_images
        assert line.low <= line.cost <= line.high
        assert line.reason


def test_what_hides_the_digit_is_refused_and_what_only_looks_unusual_is_kept(large):
    """An inverted digit is still a digit, although a probe that never saw one fails on it."""
    lines = by_name(large)
    assert not lines["erase"].kept
    assert lines["invert"].kept
    assert lines["invert"].copies < lines["invert"].plain - 0.1
    assert large.operations == ("invert", "color", "shear_x")
    assert large.strengths["invert"] == lines["invert"].strength >= 0.5


def test_operations_that_cost_nothing_are_sampled_less_often(large):
    """The scans are grey, so saturation changes no pixel."""
    assert large.weights["color"] == 0.25
    assert large.weights["invert"] == 1.0


def test_the_same_seed_gives_the_same_policy(tested, imagenet, dataset, context):
    assert auto_policy(imagenet, dataset, FEW, context=context) == tested


def test_a_policy_keeps_its_evidence_on_disk(tested, tmp_path):
    tested.save(tmp_path / "policy.json")
    back = Policy.load(tmp_path / "policy.json")
    assert back == tested
    assert back.digest == tested.digest


def test_the_flip_that_turns_one_arrow_into_the_other_is_refused(imagenet, tmp_path, context):
    write_arrows(tmp_path / "arrows")
    data = clean(read(tmp_path / "arrows"), context=context)
    settings = Augment(operations_per_image=0, crop_area=1.0, color=0.0)
    policy = auto_policy(imagenet, data, settings, context=context)
    assert policy.horizontal_flip is False


def test_discs_accept_both_flips(imagenet, tmp_path, context):
    write_discs(tmp_path / "discs", per_class=160)
    data = clean(read(tmp_path / "discs"), context=context)
    settings = Augment(operations_per_image=0, crop_area=1.0, color=0.0)
    policy = auto_policy(imagenet, data, settings, context=context)
    assert policy.horizontal_flip is True
    assert policy.vertical_flip is True
    assert {line.operation for line in policy.evidence} == {"horizontal_flip", "vertical_flip"}


def test_explicit_settings_are_neither_tested_nor_changed(imagenet, dataset, context):
    settings = Augment(
        horizontal_flip=True, vertical_flip=False, crop_area=0.4, color=0.1,
        operations=("color", "erase", "identity"), operations_per_image=3,
    )  # fmt: skip
    policy = auto_policy(imagenet, dataset, settings, context=context)
    assert policy.horizontal_flip is True
    assert (policy.crop_area, policy.color, policy.operations_per_image) == (0.4, 0.1, 3)
    assert set(by_name(policy)) == {"color", "erase"}
    assert policy.operations == ("color", "identity")  # no strength of erase keeps the labels valid


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "auto"])
def test_a_named_policy_is_taken_without_a_test(imagenet, dataset, context, name):
    settings = Augment(policy=name)
    policy = auto_policy(imagenet, dataset, settings, context=context)
    assert policy == choose_policy(settings) == POLICIES[name]


def test_too_few_images_give_the_gentle_policy_which_does_not_flip(imagenet, tmp_path, context):
    write_discs(tmp_path / "discs", per_class=12)
    data = clean(read(tmp_path / "discs"), context=context)
    policy = auto_policy(imagenet, data, context=context)
    assert policy == POLICIES["auto"]
    assert policy.horizontal_flip is False


def test_test_images_are_not_read(imagenet, dataset, context):
    """Another test split gives the same policy."""
    keep = dataset.keep.copy()
    keep[dataset.rows("test", domain=None)] = False
    settings = Augment(operations_per_image=0, color=0)
    policies = [
        auto_policy(imagenet, data, settings, context=context)
        for data in (dataset, dataset.with_columns({"keep": keep}))
    ]
    assert policies[0] == policies[1]


def test_data_without_training_images_is_refused(imagenet, dataset):
    with pytest.raises(DataError):
        auto_policy(imagenet, dataset.with_columns({"split": ["test"] * len(dataset)}))


def test_a_cost_within_the_tolerance_is_no_reason_to_refuse():
    line = operation_evidence("rotate", 0.5, hits_of(lost=5, gained=3), 2.0, PHOTOGRAPHS)
    assert line.kept
    assert line.cost == pytest.approx(100 * 2 / 256, abs=0.01)
    assert line.cost < line.expected < 1.5  # a rotation by half usually costs 1.5 points
    assert line.plain == pytest.approx(230 / 256)


def test_a_clear_cost_refuses_even_gentle_operations():
    line = operation_evidence("rotate", 0.5, hits_of(lost=20), 2.0, PHOTOGRAPHS)
    assert not line.kept
    assert line.reason == f"expected to cost {line.expected:.1f} points, more than 2.0"


def test_few_images_lean_on_what_is_usual_and_many_on_the_data():
    """Twice the tolerance on 60 images is noise for a gentle operation, and a fact on 2,000."""
    few = hits_of(images=60, right=54, lost=4)
    many = hits_of(images=2_000, right=1_800, lost=133)
    assert few.plain.mean() == many.plain.mean()
    assert operation_evidence("shear_x", 0.5, few, 3.0, PHOTOGRAPHS).kept
    assert not operation_evidence("shear_x", 0.5, many, 3.0, PHOTOGRAPHS).kept


@pytest.mark.parametrize("name", ["invert", "solarize", "posterize"])
def test_what_turns_colors_into_others_must_help(name):
    neutral, helpful = hits_of(), hits_of(gained=20, differing="plain_learnt")
    line = operation_evidence(name, 1.0, neutral, 3.0, PHOTOGRAPHS)
    assert not line.kept
    assert line.reason == "on color images it must help, which the test does not show"
    line = operation_evidence(name, 1.0, helpful, 3.0, PHOTOGRAPHS)
    assert line.kept
    assert line.reason.startswith("it helps: by ")
    assert operation_evidence(name, 1.0, neutral, 3.0, SCANS).kept
    lower = operation_evidence(name, 0.5, neutral, 3.0, PHOTOGRAPHS)
    assert lower.kept is (name != "invert")


@pytest.mark.parametrize(
    ("share", "lost", "images", "kind", "kept"),
    [
        (0.5, 2, 256, PHOTOGRAPHS, True),
        (0.74, 2, 256, PHOTOGRAPHS, True),  # light from one side
        (0.95, 0, 256, PHOTOGRAPHS, False),  # the evidence is against it
        (0.5, 40, 256, PHOTOGRAPHS, False),
        (0.55, 2, 40, PHOTOGRAPHS, True),  # too few images to change what is usual
        (0.95, 0, 256, SCANS, False),  # digits, whose flips cost no accuracy
        (0.5, 2, 40, DRAWINGS, False),  # too few images to change what is usual
        (0.5, 0, 400, DRAWINGS, True),  # the evidence is for it
    ],
)
def test_flips_are_kept_or_refused_by_what_is_usual_and_by_the_test(
    share, lost, images, kind, kept
):
    hits = hits_of(images, lost=lost, right=images - 10, differing="copies")
    line = flip_evidence("horizontal_flip", hits, flags_of(share, images), 3.0, kind)
    assert line.kept is kept
    assert line.told == pytest.approx(share, abs=0.02)


def test_photographs_are_turned_upside_down_only_if_the_test_speaks_for_it():
    hits = hits_of(150, right=140)
    few = flip_evidence("vertical_flip", hits, flags_of(0.5, 150), 3.0, PHOTOGRAPHS)
    assert not few.kept
    assert few.reason.startswith("most images have an up and a down, and 50 %")
    many = hits_of(400, right=380)
    assert flip_evidence("vertical_flip", many, flags_of(0.5, 400), 3.0, PHOTOGRAPHS).kept


def test_a_flip_that_exchanges_two_classes_is_refused_whatever_the_test_says():
    kind = DataKind(
        color=True, photographs=True, characters=False,
        exchanged={"horizontal_flip": ("left", "right")},
    )  # fmt: skip
    line = flip_evidence("horizontal_flip", hits_of(400), flags_of(0.5, 400), 3.0, kind)
    assert not line.kept
    assert line.reason == "it exchanges the classes 'left' and 'right'"


def test_a_crop_may_cut_off_what_its_strength_says(imagenet):
    across = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (256, 256, 3))
    image = Image.fromarray(across)
    widths = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        copy = augmented_copy(image, imagenet.contract, "crop", 0.5, rng).astype(int)
        widths.append(float(copy[..., 0].max() - copy[..., 0].min()) / 255)
    assert 0.55 < min(widths) < 0.8
    assert max(widths) > 0.9


def test_the_global_generator_is_not_used(tested, imagenet, dataset, context):
    np.random.seed(7)  # noqa: NPY002
    other = Context(seed=0, device="cpu", cache=context.cache)
    settings = Augment(operations=("noise",), crop_area=1, color=0)
    first = auto_policy(imagenet, dataset, settings, context=other)
    np.random.seed(8)  # noqa: NPY002
    assert auto_policy(imagenet, dataset, settings, context=other) == first
