"""The projection is a part of the student while it learns, and of nothing after."""

import copy

import timm
import torch

from acclimate.distillation.hints import HintProjection, without_projection

INPUTS = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model("test_efficientnet", num_classes=4).eval()


def test_the_guess_is_a_linear_function_of_what_the_head_reads():
    student = network()
    hint = HintProjection(student, 7, seed=1)
    student.train()
    read = []
    student.classifier.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    student(INPUTS)
    weights = student.state_dict()
    wanted = read[0] @ weights["hint_projection.weight"].T + weights["hint_projection.bias"]
    assert hint.projected.shape == (2, 7)
    assert torch.allclose(hint.projected, wanted, atol=1e-5)
    hint.projected.sum().backward()
    assert student.conv_stem.weight.grad.abs().sum() > 0
    assert student.hint_projection.weight.grad.abs().sum() > 0
    student.eval()
    student(INPUTS)
    assert hint.projected is None


def test_its_first_weights_are_the_seeds_and_disturb_no_other_draw():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    made = []
    for seed in (1, 1, 2):
        student = network()
        HintProjection(student, 7, seed=seed)
        made.append(student.hint_projection.weight)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_the_student_is_left_as_it_learnt():
    plain = network()
    student = copy.deepcopy(plain)
    HintProjection(student, 7, seed=1)
    with torch.no_grad():
        student.classifier.weight.add_(1)
    left = without_projection(student, plain)
    assert set(left.state_dict()) == set(plain.state_dict())
    with torch.inference_mode():
        assert torch.equal(left(INPUTS), student.eval()(INPUTS))
        assert not torch.equal(left(INPUTS), plain(INPUTS))
    assert not left.classifier._forward_pre_hooks
