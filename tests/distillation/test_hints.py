"""The projection is a module of the student during training only."""

import copy

import timm
import torch

from acclimate.distillation.hints import HintProjection, without_projection

INPUTS = torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model("test_efficientnet", num_classes=4).eval()


def test_the_projection_is_linear_in_the_features_of_the_head():
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


def test_its_initial_weights_depend_on_the_seed_and_leave_the_global_generator_alone():
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


def test_without_projection_the_trained_weights_remain():
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
