"""Cross-entropy with label smoothing, and the teacher's soft targets."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acclimate.training.optim.losses import (
    cross_entropy,
    focal,
    generalized_cross_entropy,
    soft_targets,
    symmetric_cross_entropy,
    view_divergence,
)

seeds = st.integers(0, 2**32)
temperatures = st.floats(0.5, 8.0)


def logits(seed, rows=6, classes=4, scale=3.0):
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed)) * scale


def test_cross_entropy_of_nothing_known_is_the_logarithm_of_the_classes():
    losses = cross_entropy(torch.zeros(3, 8), torch.tensor([0, 4, 7]), 0.0)
    assert losses.tolist() == pytest.approx([math.log(8)] * 3)


def test_label_smoothing_punishes_certainty():
    sure = torch.tensor([[20.0, 0.0, 0.0]])
    right = torch.tensor([0])
    assert float(cross_entropy(sure, right, 0.0)) == pytest.approx(0.0, abs=1e-6)
    # A tenth is spread over three classes: two of them lack 20 each.
    assert float(cross_entropy(sure, right, 0.1)) == pytest.approx(20 * 2 * 0.1 / 3, rel=1e-4)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_a_mixed_label_costs_the_mean_of_its_labels(label_smoothing):
    said = logits(0, rows=1)
    mixed = torch.tensor([[0.3, 0.0, 0.7, 0.0]])
    first, second = (
        float(cross_entropy(said, torch.tensor([label]), label_smoothing)) for label in (0, 2)
    )
    found = float(cross_entropy(said, mixed, label_smoothing))
    assert found == pytest.approx(0.3 * first + 0.7 * second, rel=1e-5)


def given_probability(chance):
    """Logits of two classes at which the first has this probability."""
    return torch.tensor([[math.log(chance), math.log(1 - chance)]])


FIRST = torch.tensor([0])


@pytest.mark.parametrize("chance", [0.1, 0.5, 0.9])
def test_focal_is_cross_entropy_times_what_is_missing_squared(chance):
    found = float(focal(given_probability(chance), FIRST, 0.0))
    assert found == pytest.approx(-((1 - chance) ** 2) * math.log(chance), rel=1e-4)


@pytest.mark.parametrize("chance", [0.1, 0.5, 0.9])
def test_generalized_cross_entropy_is_the_papers(chance):
    found = float(generalized_cross_entropy(given_probability(chance), FIRST, 0.0))
    assert found == pytest.approx((1 - chance**0.7) / 0.7, rel=1e-4)


@pytest.mark.parametrize("chance", [0.1, 0.5, 0.9])
def test_symmetric_cross_entropy_is_the_papers(chance):
    found = float(symmetric_cross_entropy(given_probability(chance), FIRST, 0.0))
    assert found == pytest.approx(-0.1 * math.log(chance) + 4 * (1 - chance), rel=1e-4)


@pytest.mark.parametrize("loss", [generalized_cross_entropy, symmetric_cross_entropy])
def test_a_label_that_is_surely_wrong_pulls_less_than_with_cross_entropy(loss):
    def pull(some):
        said = torch.tensor([[-6.0, 6.0]], requires_grad=True)
        some(said, FIRST, 0.0).sum().backward()
        unsure = torch.tensor([[0.0, 0.0]], requires_grad=True)
        some(unsure, FIRST, 0.0).sum().backward()
        return float(said.grad.norm() / unsure.grad.norm())

    assert pull(loss) < 0.2 * pull(cross_entropy)


@settings(deadline=None, max_examples=30)
@given(seed=seeds, temperature=temperatures)
def test_soft_targets_cost_nothing_only_where_the_student_agrees(seed, temperature):
    teacher, student = logits(seed), logits(seed + 1)
    same = soft_targets(teacher, teacher, temperature)
    assert same.abs().max() < 1e-4
    other = soft_targets(student, teacher, temperature)
    assert other.shape == (6,)
    assert (other > -1e-5).all()
    assert other.sum() > same.sum()


@settings(deadline=None, max_examples=30)
@given(seed=seeds, temperature=temperatures, shift=st.floats(-50, 50))
def test_soft_targets_see_probabilities_and_not_logits(seed, temperature, shift):
    teacher, student = logits(seed), logits(seed + 1)
    apart = soft_targets(student, teacher, temperature)
    shifted = soft_targets(student + shift, teacher - shift, temperature)
    assert torch.allclose(apart, shifted, rtol=1e-2, atol=1e-3)


def test_a_step_against_the_gradient_brings_the_student_nearer():
    teacher, student = logits(0), logits(1).requires_grad_()
    apart = soft_targets(student, teacher, 2.0)
    apart.sum().backward()
    with torch.no_grad():
        nearer = soft_targets(student - 0.1 * student.grad, teacher, 2.0)
    assert (nearer <= apart).all()
    assert nearer.sum() < apart.sum()


def test_gradients_keep_their_size_when_the_temperature_rises():
    teacher = logits(0, scale=0.5)
    sizes = []
    for temperature in (4.0, 16.0):
        student = logits(1, scale=0.5).requires_grad_()
        soft_targets(student, teacher, temperature).sum().backward()
        sizes.append(float(student.grad.norm()))
    assert sizes[1] == pytest.approx(sizes[0], rel=0.1)


def test_a_higher_temperature_listens_more_to_the_second_thoughts():
    teacher = torch.tensor([[6.0, 3.0, -3.0]])
    student = torch.tensor([[6.0, -3.0, 3.0]])  # the same first answer, the others exchanged
    cold = float(soft_targets(student, teacher, 1.0))
    warm = float(soft_targets(student, teacher, 4.0))
    assert warm > 5 * cold


shapes = st.tuples(st.integers(2, 4), st.integers(1, 5), st.integers(2, 9))


def answers(seed, shape, scale):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


@settings(deadline=None)
@given(seed=seeds, shape=shapes, scale=st.floats(0.01, 300.0))
def test_views_differ_by_no_less_than_nothing_and_no_more_than_the_logarithm_of_their_number(
    seed, shape, scale
):
    views = answers(seed, shape, scale).requires_grad_()
    found = view_divergence(views)
    assert found.shape == (shape[1],)
    assert bool((found >= 0).all())
    assert bool((found <= math.log(shape[0]) + 1e-5).all())
    found.sum().backward()
    assert bool(views.grad.isfinite().all())


@settings(deadline=None)
@given(seed=seeds, shape=shapes, scale=st.floats(0.01, 300.0), shift=st.floats(-50.0, 50.0))
def test_equal_answers_do_not_differ(seed, shape, scale, shift):
    same = answers(seed, (1, *shape[1:]), scale).repeat(shape[0], 1, 1)
    same[0] += shift  # logits say as much with any number added to all of them
    assert view_divergence(same).max() < 1e-4


@settings(deadline=None)
@given(seed=seeds, shape=shapes, order=st.randoms())
def test_the_order_of_views_does_not_count(seed, shape, order):
    views = answers(seed, shape, 3.0)
    mixed = list(range(shape[0]))
    order.shuffle(mixed)
    assert torch.allclose(view_divergence(views), view_divergence(views[mixed]), atol=1e-5)


def test_sure_answers_that_all_differ_disagree_by_the_logarithm_of_three():
    views = 200 * torch.eye(3)[:, None]
    assert view_divergence(views).tolist() == pytest.approx([math.log(3)])


def test_the_divergence_is_the_entropy_of_the_mean_less_the_mean_of_entropies():
    views = answers(4, (3, 5, 7), 2.0).double()
    shares = views.softmax(2)

    def entropy(p):
        return -(p * p.log()).sum(-1)

    wanted = entropy(shares.mean(0)) - entropy(shares).mean(0)
    assert torch.allclose(view_divergence(views), wanted)
