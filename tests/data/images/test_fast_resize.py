"""Cut and resized as Pillow does it, to the last value but one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from acclimate.data.images.fast_resize import ResizableArray, flip_horizontal

FILTERS = [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS]


def smooth(height, width, seed=0):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8))
    return np.array(small.resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("resample", FILTERS)
@pytest.mark.parametrize("box", [(0, 0, 90, 70), (10, 5, 60, 55), (30, 20, 41, 33)])
@pytest.mark.parametrize("size", [(32, 32), (48, 20)])
def test_a_part_is_what_pillow_makes_of_it(resample, box, size):
    pixels = smooth(70, 90)
    found = ResizableArray(pixels).resize(size, resample, box=box)
    wanted = np.asarray(Image.fromarray(pixels).crop(box).resize(size, resample), int)
    assert found.dtype == np.uint8
    assert found.shape == (size[1], size[0], 3)
    assert np.abs(found - wanted).max() <= 1


def test_edges_inside_a_pixel_are_rounded():
    picture = ResizableArray(smooth(70, 90))
    near = picture.resize((32, 32), Image.Resampling.BICUBIC, box=(9.6, 5.4, 60.4, 54.7))
    whole = picture.resize((32, 32), Image.Resampling.BICUBIC, box=(10, 5, 60, 55))
    assert np.array_equal(near, whole)


def test_a_part_that_has_the_size_already_is_left_as_it_is():
    pixels = smooth(70, 90)
    found = ResizableArray(pixels).resize((40, 30), Image.Resampling.BICUBIC, box=(2, 3, 42, 33))
    assert np.array_equal(found, pixels[3:33, 2:42])


def test_width_comes_before_height_as_pillow_has_it():
    assert ResizableArray(smooth(70, 90)).size == Image.fromarray(smooth(70, 90)).size == (90, 70)


@settings(max_examples=100, deadline=None)
@given(
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    edges=st.tuples(*[st.floats(0, 1)] * 4),
    resample=st.sampled_from(FILTERS),
)
def test_every_box_inside_gives_pixels_of_the_asked_size(height, width, edges, resample):
    left, right = sorted(edge * width for edge in edges[:2])
    top, bottom = sorted(edge * height for edge in edges[2:])
    pixels = np.full((height, width, 3), 77, np.uint8)
    pixels.flags.writeable = False
    found = ResizableArray(pixels).resize((9, 8), resample, box=(left, top, right, bottom))
    assert found.shape == (8, 9, 3)
    assert (found == 77).all()


@pytest.mark.parametrize("resample", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC])
def test_pixels_come_in_the_order_in_which_batches_are_laid_out(resample):
    whole = ResizableArray(np.zeros((50, 60, 3), np.uint8))
    found = whole.resize((32, 32), resample, box=(3, 4, 50, 47))
    assert found.flags.c_contiguous  # else copying it takes longer than the resizing


def test_what_is_resized_is_not_changed():
    pixels = smooth(40, 50)
    before = pixels.copy()
    ResizableArray(pixels).resize((20, 20), Image.Resampling.BILINEAR, box=(0, 0, 40, 40))
    assert np.array_equal(pixels, before)


def test_a_mirror_image_has_its_columns_in_the_other_order():
    pixels = smooth(40, 51)
    found = flip_horizontal(pixels)
    assert np.array_equal(found, pixels[:, ::-1])
    assert found.flags.c_contiguous
    assert np.array_equal(flip_horizontal(found), pixels)
