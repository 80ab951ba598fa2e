"""Kinds of teachers, the order of their classes, and the cache of their outputs."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import timm
import torch

from acclimate.augmentation.policy import choose_policy
from acclimate.augmentation.settings import Augment
from acclimate.distillation.distill import distill
from acclimate.distillation.settings import Distill
from acclimate.distillation.teachers import CachedTeachers, TeacherOutput, Teachers
from acclimate.errors import DataError, ModelFileError
from acclimate.models.onnx.export import to_onnx
from acclimate.models.pretrained import wrap
from acclimate.registry.resolve import as_classifier
from acclimate.training.batches.training_images import TrainingImages
from acclimate.training.engine.step import LossInputs
from kit import CONTRACT

CLASSES = ("ant", "bee", "cat")
INPUTS = torch.linspace(-1, 1, 4 * 3 * 32 * 32).view(4, 3, 32, 32)
LOSS_INPUTS = LossInputs(INPUTS, torch.zeros(4, dtype=torch.int64), np.arange(4))


def network(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = wrap(timm.create_model("test_efficientnet", num_classes=3), CONTRACT)
    with torch.no_grad():
        made.module().get_classifier().weight.mul_(50)
    return replace(made, classes=CLASSES)


@pytest.fixture(scope="module")
def ada():
    return network(0)


@pytest.fixture(scope="module")
def bob():
    return network(1)


def query(*teachers, classes=CLASSES, features=False):
    return Teachers(teachers, classes, CONTRACT, device="cpu", features=features)(LOSS_INPUTS)


def test_several_teachers_give_the_mean_of_their_probabilities(ada, bob):
    alone = [query(one).logits.softmax(1) for one in (ada, bob)]
    assert not torch.allclose(*alone, atol=1e-2)
    assert torch.allclose(query(ada, bob).logits.softmax(1), (alone[0] + alone[1]) / 2, atol=1e-5)


def test_a_single_teacher_gives_its_own_logits(ada):
    with torch.inference_mode():
        assert torch.allclose(query(ada).logits, ada.module()(INPUTS), atol=1e-5)


def test_classes_in_another_order_are_reordered(ada):
    turned = replace(ada, classes=("bee", "cat", "ant"))
    assert torch.equal(query(turned).logits, query(ada).logits[:, [2, 0, 1]])
    assert torch.equal(query(ada, classes=("cat", "ant")).logits, query(ada).logits[:, [2, 0]])


def test_a_teacher_that_lacks_a_class_is_refused(ada):
    with pytest.raises(DataError, match="lacks classes of the student: 'dog'") as caught:
        query(ada, classes=("ant", "dog"))
    assert "Every teacher must have all classes of the first one." in str(caught.value)


def test_an_onnx_file_gives_the_logits_of_its_network(ada, tmp_path):
    place = tmp_path / "ada.onnx"
    place.write_bytes(to_onnx(ada))
    graph = as_classifier(str(place))
    assert graph.network is None
    assert torch.allclose(query(graph).logits, query(ada).logits, rtol=1e-3, atol=1e-2)


def test_a_foreign_onnx_file_keeps_its_class_order_and_normalization(ada, tmp_path):
    # Stripped of all that is ours; its classes stand in another order than the student's.
    graph = onnx.load_from_string(to_onnx(ada))
    del graph.metadata_props[:]
    onnx.save(graph, tmp_path / "theirs.onnx")
    description = "classes: [bee, cat, ant]\nmean: [0.2, 0.3, 0.4]\nstd: [0.6, 0.7, 0.8]\n"
    (tmp_path / "theirs.onnx.yaml").write_text(description)
    logits = query(as_classifier(str(tmp_path / "theirs.onnx"))).logits
    contract = replace(CONTRACT, mean=(0.2, 0.3, 0.4), std=(0.6, 0.7, 0.8))
    same = query(replace(ada, contract=contract, classes=("bee", "cat", "ant"))).logits
    assert torch.allclose(logits, same, rtol=1e-3, atol=1e-2)
    assert not torch.allclose(logits, query(ada).logits, atol=0.1)


def test_a_function_gets_pixels_between_0_and_1():
    shown = []

    def function(images):
        shown.append(images)
        return np.tile(np.float32([1, 2, 3]), (len(images), 1))

    logits = query(function).logits
    assert torch.equal(logits, torch.tensor([[1.0, 2.0, 3.0]] * 4))
    assert torch.allclose(shown[0], (INPUTS + 1) / 2, atol=1e-6)


def test_a_function_with_a_wrong_output_is_refused(ada):
    with pytest.raises(ModelFileError, match=r"returned \(4, 2\) for 4 images of 3 classes"):
        query(lambda images: torch.zeros(len(images), 2))
    with pytest.raises(ModelFileError, match="contain NaN or infinity"):
        query(lambda images: torch.full((len(images), 3), float("nan")))


def test_a_function_that_fails_is_named_with_its_error():
    def forgetful(images):
        """Returns nothing."""

    def broken(images):
        raise KeyError("weights")

    with pytest.raises(ModelFileError) as caught:
        query(forgetful)
    assert "forgetful: the teacher function returned NoneType, not logits." in str(caught.value)
    with pytest.raises(ModelFileError) as caught:
        query(broken)
    assert "broken: the teacher function raised KeyError: 'weights'." in str(caught.value)


def test_out_of_memory_in_a_function_reaches_the_loop():
    def large(images):
        raise MemoryError

    with pytest.raises(MemoryError):  # the loop cuts the batch
        query(large)


def test_features_are_what_the_heads_read(ada, bob):
    output = query(ada, bob, features=True)
    layer = ada.module().get_classifier()
    width = layer.in_features
    assert output.features.shape == (4, 2 * width)
    with torch.inference_mode():
        assert torch.allclose(layer(output.features[:, :width]), ada.module()(INPUTS), atol=1e-4)
    for silent in (lambda images: images, replace(ada, network=None, graph=b"x")):
        with pytest.raises(ModelFileError, match="which the method hints needs"):
            query(silent, features=True)


class Counting:
    """Returns row numbers as logits, and records each query."""

    def __init__(self, width=2):
        self.queries, self.width = [], width

    def __call__(self, loss_inputs):
        self.queries.append(list(loss_inputs.rows))
        rows = torch.from_numpy(loss_inputs.rows).float()[:, None]
        return TeacherOutput(rows.expand(-1, self.width), -rows)


def shown(*rows):
    return LossInputs(INPUTS[: len(rows)], torch.zeros(len(rows)), np.asarray(rows))


def test_teachers_run_once_per_image():
    teachers = Counting()
    cached = CachedTeachers(teachers, 10)
    first = [cached(shown(3, 5)), cached(shown(7, 0))]
    again = cached(shown(0, 3, 7, 5))
    assert teachers.queries == [[3, 5], [7, 0]]
    assert [t.logits[:, 0].tolist() for t in first] == [[3, 5], [7, 0]]
    assert again.logits.tolist() == [[0, 0], [3, 3], [7, 7], [5, 5]]
    assert again.features[:, 0].tolist() == [0, -3, -7, -5]
    assert cached(shown(3, 9)).logits[:, 0].tolist() == [3, 9]


def test_a_cache_beyond_the_memory_limit_is_not_built():
    teachers = Counting(width=2)
    forgetful = CachedTeachers(teachers, 2**26)
    assert [forgetful(shown(3)).logits[0, 0] for _ in range(2)] == [3, 3]
    assert len(teachers.queries) == 2


@pytest.mark.parametrize(("changes", "fixed"), [
    ({"policy": "none"}, True), ({"policy": "none", "horizontal_flip": True}, False),
    ({"policy": "none", "vertical_flip": True}, False), ({"policy": "none", "color": 0.1}, False),
    ({"policy": "none", "crop_area": 0.9}, False), ({"policy": "none", "erasing": 0.1}, False),
    ({"policy": "none", "mixup": 0.2}, False), ({"policy": "randaugment"}, False),
])  # fmt: skip
def test_views_are_the_same_in_every_epoch_only_without_random_augmentation(
    dataset, changes, fixed
):
    assert (
        TrainingImages(dataset, choose_policy(Augment(**changes)), CONTRACT).same_every_epoch
        is fixed
    )


def test_caching_changes_only_the_number_of_teacher_runs(dataset, context, monkeypatch):
    queried = []

    def teacher(images):
        queried.append(len(images))
        return images.mean((2, 3)).repeat(1, 4)[:, :10] * 5

    start = replace(wrap(timm.create_model("test_mambaout", num_classes=10), CONTRACT),
                    classes=dataset.classes)  # fmt: skip
    settings = Distill(epochs=3, batch_size=60, learning_rate=1e-3)
    still = choose_policy(Augment(policy="none"))
    once = distill(teacher, dataset, still, settings, context=context, start=start)
    assert sum(queried) == len(dataset.rows("train"))
    monkeypatch.setattr(TrainingImages, "same_every_epoch", False)
    always = distill(teacher, dataset, still, settings, context=context, start=start)
    assert sum(queried) == 4 * len(dataset.rows("train"))
    curves = [[line["train_loss"] for line in m.card.steps[-1].curve[1:]] for m in (once, always)]
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)
    ours, theirs = (one.module().state_dict() for one in (once, always))
    assert all(torch.allclose(ours[n].float(), theirs[n].float(), atol=1e-5) for n in ours)
