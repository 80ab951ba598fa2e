"""The policy: what it samples for each image, and its file."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from acclimate.augmentation.operations import OPERATIONS
from acclimate.augmentation.policy import POLICIES, Policy, choose_policy
from acclimate.augmentation.settings import Augment
from acclimate.data.images.contract import InputContract
from acclimate.errors import DataError, RecipeError
from acclimate.settings import from_keywords

CONTRACT = InputContract(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", 0.875)
NOTHING = Policy(
    crop_area=1.0,
    horizontal_flip=False,
    color=0.0,
    operations=(),
    operations_per_image=0,
    strength=0.0,
)

fractions = st.floats(0, 1, allow_nan=False)
policies = st.builds(
    Policy,
    crop_area=st.floats(0, 1, exclude_min=True),
    horizontal_flip=st.booleans(),
    color=fractions,
    operations=st.lists(st.sampled_from(sorted(OPERATIONS)), max_size=4).map(tuple),
    operations_per_image=st.integers(0, 3),
    strength=fractions,
    vertical_flip=st.booleans(),
    strengths=st.dictionaries(st.sampled_from(sorted(OPERATIONS)), st.floats(0, 10), max_size=2),
    weights=st.dictionaries(st.sampled_from(sorted(OPERATIONS)), st.floats(0.1, 5), max_size=2),
    vary=st.booleans(),
    chains=st.integers(0, 3),
    erasing=fractions,
    consistency=st.floats(0, 20),
)


def changed(**fields):
    return replace(NOTHING, **fields)


def rng_of(seed=0):
    return np.random.default_rng(seed)


def picture(width=60, height=40, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def test_the_settings_become_the_policy():
    asked = Augment(
        crop_area=0.7,
        horizontal_flip=False,
        color=0.2,
        operations=("rotate",),
        operations_per_image=2,
        strength=0.4,
    )
    assert choose_policy(asked) == Policy(0.7, False, 0.2, ("rotate",), 2, 0.4)


def test_without_data_the_policy_is_gentle_and_does_not_flip():
    gentle = choose_policy()
    assert gentle == POLICIES["auto"]
    assert (gentle.horizontal_flip, gentle.vertical_flip) == (False, False)
    assert gentle.strength <= 0.3
    assert not {"invert", "erase", "noise", "blur"} & set(gentle.operations)


@pytest.mark.parametrize("name", POLICIES)
def test_explicit_settings_override_the_named_policy(name):
    asked = Augment(policy=name, crop_area=0.9, strength=0.2, operations=("rotate",), mixup=0.3)
    found = choose_policy(asked)
    assert (found.crop_area, found.strength, found.operations) == (0.9, 0.2, ("rotate",))
    assert (found.strengths, found.vary, found.mixup) == ({}, False, 0.3)
    assert found.horizontal_flip == POLICIES[name].horizontal_flip


@pytest.mark.parametrize("name", ["none", "basic"])
def test_explicit_operations_are_used_if_the_named_policy_has_none(name):
    by_hand = choose_policy(Augment(policy=name, operations=("rotate",)))
    assert by_hand.operations == ("rotate",)
    assert (by_hand.operations_per_image, by_hand.strength) == (
        1,
        POLICIES["auto"].strength,
    )
    strong = choose_policy(Augment(policy=name, operations=("rotate",), strength=0.9))
    assert strong.strength == 0.9
    off = choose_policy(Augment(policy=name, operations=("rotate",), operations_per_image=0))
    assert not off.operations_per_image


def test_none_gives_the_same_image_as_evaluation():
    view = POLICIES["none"].apply(picture(), CONTRACT, rng_of())
    assert np.array_equal(view, CONTRACT.fit(picture()))


def test_trivialaugment_rotates_further_than_randaugment_and_varies():
    """Up to 135 degrees, any strength."""
    wide = replace(POLICIES["trivialaugment"], operations=("rotate",), crop_area=1.0)
    wide = replace(wide, horizontal_flip=False)
    bar = np.zeros((64, 64, 3), np.uint8)
    bar[30:34, 4:34] = 255  # from the left to the middle
    ends = []
    for seed in range(60):
        view = wide.apply(Image.fromarray(bar), replace(CONTRACT, crop=1.0), rng_of(seed))
        y, x = np.argwhere(view[..., 0] > 200).mean(0) - 16
        ends.append(np.degrees(np.arctan2(y, -x)))
    assert max(map(abs, ends)) > 90
    assert sum(abs(end) < 40 for end in ends) > 15


def test_augmix_stays_near_the_image_it_blends_into():
    augmix = replace(POLICIES["augmix"], crop_area=1.0, horizontal_flip=False)
    one_after_another = replace(augmix, chains=0, operations_per_image=3)
    straight = CONTRACT.fit(picture()).astype(int)

    def distance(policy):
        views = [policy.apply(picture(), CONTRACT, rng_of(seed)) for seed in range(30)]
        assert all(view.dtype == np.uint8 for view in views)
        return np.mean([np.abs(view - straight).mean() for view in views])

    assert 0 < distance(augmix) < 0.8 * distance(one_after_another)


def test_consistency_views_are_the_plain_one_and_two_different_altered_ones():
    augmix = POLICIES["augmix"]
    differ = 0
    for seed in range(30):
        plain, *altered = augmix.partial_view(picture(), CONTRACT, rng_of(seed)).finish()
        unaltered = replace(augmix, operations_per_image=0)
        assert np.array_equal(plain, unaltered.apply(picture(), CONTRACT, rng_of(seed)))
        assert np.array_equal(altered[0], augmix.apply(picture(), CONTRACT, rng_of(seed)))
        differ += not np.array_equal(altered[0], altered[1])
    assert differ > 25


def test_augmix_uses_consistency_unless_images_are_mixed_or_not_altered():
    assert choose_policy(Augment(policy="augmix")).consistency == 12
    assert choose_policy(Augment(policy="augmix", consistency=0)).consistency == 0
    assert choose_policy(Augment(policy="augmix", mixup=0.2)).consistency == 0
    assert choose_policy(Augment(policy="augmix", operations_per_image=0)).consistency == 0
    others = set(POLICIES) - {"augmix"}
    assert {choose_policy(Augment(policy=name)).consistency for name in others} == {0}
    assert choose_policy(Augment(policy="randaugment", consistency=3)).compares
    # Of a file, where auto found nothing that may be altered.
    assert not changed(consistency=3).compares


@pytest.mark.parametrize("mixing", ["mixup", "cutmix"])
def test_consistency_is_refused_together_with_mixing(mixing):
    message = (
        "consistency compares views of one image, and mixup and cutmix mix several: set one "
        "or the other"
    )
    with pytest.raises(RecipeError) as caught:
        from_keywords(Augment, {mixing: 0.2, "consistency": 12})
    assert str(caught.value) == f"{message}, got 12."
    with pytest.raises(DataError) as caught:
        changed(consistency=12, **{mixing: 0.2})
    assert str(caught.value) == f"{message}."


def test_consistency_is_refused_if_no_view_is_altered():
    with pytest.raises(RecipeError) as caught:
        choose_policy(Augment(policy="none", consistency=12))
    assert str(caught.value) == (
        "augment.consistency: consistency needs altered views, and this policy only crops and "
        "flips. Set operations or color as well, or leave consistency out."
    )


def test_operations_are_sampled_by_their_weights():
    policy = changed(
        operations=("invert", "identity"), operations_per_image=1, strength=1.0,
        weights={"invert": 3.0},
    )  # fmt: skip
    straight = CONTRACT.fit(picture())
    views = [policy.apply(picture(), CONTRACT, rng_of(seed)) for seed in range(200)]
    assert 130 < sum(np.array_equal(view, 255 - straight) for view in views) < 170


def test_the_strength_of_an_operation_overrides_the_common_one():
    policy = changed(
        operations=("invert",), operations_per_image=1, strength=0.0, strengths={"invert": 1.0}
    )
    assert np.array_equal(
        policy.apply(picture(), CONTRACT, rng_of()), 255 - CONTRACT.fit(picture())
    )


def test_vertical_flips_and_erasing_have_the_set_frequency():
    straight = CONTRACT.fit(picture())
    turned = [changed(vertical_flip=True).apply(picture(), CONTRACT, rng_of(s)) for s in range(100)]
    assert 30 < sum(np.array_equal(view, straight[::-1]) for view in turned) < 70
    erased = [changed(erasing=0.3).apply(picture(), CONTRACT, rng_of(s)) for s in range(200)]
    assert 35 < sum(not np.array_equal(view, straight) for view in erased) < 85


def test_a_policy_without_augmentation_gives_the_same_image_as_evaluation(tmp_path):
    for width, height in [(60, 40), (31, 200), (32, 32), (9, 11)]:
        image = picture(width, height)
        image.save(tmp_path / "image.png")
        seen = NOTHING.apply(image, CONTRACT, rng_of())
        assert np.array_equal(seen, CONTRACT.read(tmp_path / "image.png"))


def test_images_are_flipped_only_if_set():
    straight = CONTRACT.fit(picture())
    for seed in range(20):
        assert np.array_equal(NOTHING.apply(picture(), CONTRACT, rng_of(seed)), straight)


def test_half_of_the_images_are_flipped_if_set():
    straight = CONTRACT.fit(picture())
    views = [
        changed(horizontal_flip=True).apply(picture(), CONTRACT, rng_of(s)) for s in range(200)
    ]
    mirrored = [np.array_equal(view, straight[:, ::-1]) for view in views]
    assert all(m or np.array_equal(v, straight) for m, v in zip(mirrored, views, strict=True))
    assert 70 < sum(mirrored) < 130


@settings(deadline=None, max_examples=40)
@given(
    policy=policies,
    width=st.integers(1, 120),
    height=st.integers(1, 120),
    seed=st.integers(0, 2**32),
)
def test_every_view_has_the_network_size_and_repeats_with_its_seed(policy, width, height, seed):
    image = picture(width, height)
    first, again = (policy.apply(image, CONTRACT, rng_of(seed)) for _ in range(2))
    assert first.shape == (32, 32, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)


def test_another_seed_gives_another_view():
    policy = choose_policy()
    views = {policy.apply(picture(), CONTRACT, rng_of(seed)).tobytes() for seed in range(20)}
    assert len(views) > 15


def test_the_image_itself_is_not_changed():
    image = picture()
    choose_policy().apply(image, CONTRACT, rng_of())
    assert np.array_equal(np.asarray(image), np.asarray(picture()))


@pytest.mark.parametrize("area", [0.3, 0.8])
def test_a_crop_shows_at_least_the_set_area(area):
    side = 256
    across = np.broadcast_to(np.arange(side, dtype=np.uint8), (side, side))
    image = Image.fromarray(np.stack([across, across.T, across], axis=2))
    shown, ratios = [], []
    for seed in range(60):
        view = changed(crop_area=area).apply(image, CONTRACT, rng_of(seed)).astype(int)
        step_x = np.diff(view[..., 0], axis=1).mean()  # levels a pixel: the width that is shown
        step_y = np.diff(view[..., 1], axis=0).mean()
        shown.append(step_x * step_y * (32 / side) ** 2)
        ratios.append(step_x / step_y)
    # Where a crop is wider than the image it is cut, so a little less may be seen.
    assert area * 0.85 < min(shown) < area * 1.3
    assert 0.8 < max(shown) < 1.05
    assert 0.7 < min(ratios) < 0.95
    assert 1.05 < max(ratios) < 1.4


def test_colors_change_only_if_set():
    views = {changed(color=0.5).apply(picture(), CONTRACT, rng_of(s)).tobytes() for s in range(5)}
    assert len(views) == 5


def test_the_set_number_of_operations_is_sampled():
    twice = changed(operations=("invert",), operations_per_image=2, strength=1.0)
    once = changed(operations=("invert",), operations_per_image=1, strength=1.0)
    never = changed(operations=("invert",), operations_per_image=0, strength=1.0)
    straight = CONTRACT.fit(picture())
    assert np.array_equal(never.apply(picture(), CONTRACT, rng_of()), straight)
    assert np.array_equal(once.apply(picture(), CONTRACT, rng_of()), 255 - straight)
    assert np.array_equal(twice.apply(picture(), CONTRACT, rng_of()), straight)


@settings(
    deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(policy=policies)
def test_a_saved_policy_comes_back_equal(policy, tmp_path):
    path = tmp_path / "policy.json"
    policy.save(path)
    back = Policy.load(path)
    assert back == policy
    assert back.digest == policy.digest


@pytest.mark.parametrize(
    "fields",
    [
        {"crop_area": 0.9},
        {"horizontal_flip": True},
        {"color": 0.1},
        {"operations": ("rotate",)},
        {"operations_per_image": 1},
        {"strength": 0.1},
        {"vertical_flip": True},
        {"strengths": {"rotate": 0.5}},
        {"weights": {"rotate": 0.5}},
        {"vary": True},
        {"chains": 3},
        {"erasing": 0.1},
        {"mixup": 0.2},
        {"cutmix": 1.0},
        {"consistency": 12.0},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_every_field_counts_in_the_digest(fields):
    assert changed(**fields).digest != NOTHING.digest


def test_an_unknown_operation_is_answered_with_the_nearest_name():
    with pytest.raises(DataError) as caught:
        changed(operations=("posterise",))
    assert str(caught.value) == "no augmentation 'posterise'. Did you mean 'posterize'?"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "file is not valid JSON (Expecting property name enclosed in double quotes"),
        ("[1, 2]", "not a valid policy file."),
        ("{}", "not a valid policy file."),
        ('{"format": 1, "operations": []}', "file is not a policy ("),
        (
            '{"format": 99, "operations": []}',
            "policy was written by a newer acclimate. Upgrade acclimate.",
        ),
    ],
)
def test_a_file_that_is_not_a_policy_is_refused(tmp_path, content, message):
    path = tmp_path / "policy.json"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        Policy.load(path)
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("crop_area", "half"),
        ("crop_area", 5.0),
        ("crop_area", 0.0),
        ("strength", -1.0),
        ("color", None),
        ("operations_per_image", 1.5),
        ("operations", ["rotat"]),
        ("strengths", {"rotat": 0.5}),
        ("strengths", {"rotate": -1}),
        ("weights", {"rotate": 0}),
        ("chains", 10**9),
        ("mixup", "much"),
        ("evidence", [{"operation": "crop"}]),
        ("unheard_of", 1),
    ],
)
def test_a_policy_file_with_an_impossible_value_is_refused(tmp_path, field, value):
    path = tmp_path / "policy.json"
    NOTHING.save(path)
    record = {**json.loads(path.read_text()), field: value}
    path.write_text(json.dumps(record))
    with pytest.raises(DataError):
        Policy.load(path)
