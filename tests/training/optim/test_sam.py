"""Where the gradient is taken when flat minima are looked for."""

import pytest
import torch

from acclimate.training.optim.sam import perturb, restore


def weights(*gradients):
    made = []
    for index, gradient in enumerate(gradients):
        p = torch.nn.Parameter(torch.full((3,), float(index + 1)))
        p.grad = None if gradient is None else torch.tensor(gradient)
        made.append(p)
    return made


def moves(made, before):
    was = {id(p): w for p, w in before}
    return [p.detach() - was[id(p)] for p in made if id(p) in was]


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_sam_goes_up_the_gradient_as_far_as_the_radius(scale):
    made = weights([3.0 * scale, 0.0, 0.0], [0.0, 4.0 * scale, 0.0])
    first, second = moves(made, perturb(made, 0.05, adaptive=False))
    assert first.tolist() == pytest.approx([0.03, 0, 0], abs=1e-6)
    assert second.tolist() == pytest.approx([0, 0.04, 0], abs=1e-6)


def test_asam_measures_in_parts_of_each_weight():
    made = weights([1.0, 1.0, 1.0], [1.0, 1.0, 1.0])
    first, second = moves(made, perturb(made, 0.5, adaptive=True))
    sizes = torch.tensor([1.01] * 3 + [2.01] * 3)
    moved = torch.cat([first, second])
    assert float((moved / sizes).norm()) == pytest.approx(0.5, abs=1e-5)
    assert float(second[0] / first[0]) == pytest.approx((2.01 / 1.01) ** 2, rel=1e-4)


def test_every_weight_comes_back_to_the_bit():
    made = weights([0.1, 0.7, 0.3], None, [1e-3, 5.0, 2.0])
    was = [p.detach().clone() for p in made]
    before = perturb(made, 0.05, adaptive=False)
    assert not torch.equal(made[0], was[0])
    assert torch.equal(made[1], was[1])
    restore(before)
    assert all(torch.equal(p, w) for p, w in zip(made, was, strict=True))


@pytest.mark.parametrize("gradient", [[0.0, 0.0, 0.0], [float("inf"), 0.0, 0.0]])
def test_without_a_direction_nothing_moves(gradient):
    made = weights(gradient)
    perturb(made, 0.05, adaptive=False)
    assert made[0].tolist() == [1.0, 1.0, 1.0]
