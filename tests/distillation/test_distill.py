"""A student is trained on the outputs of teachers for the same augmented views."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import timm
import torch

from acclimate.augmentation.policy import choose_policy
from acclimate.augmentation.settings import Augment
from acclimate.compression.prune import prune
from acclimate.compression.quantize import quantize
from acclimate.compression.settings import Prune, Quantize
from acclimate.data.dataset import SPLITS
from acclimate.data.images.batches import ordered_batches
from acclimate.data.images.contract import InputContract
from acclimate.distillation.distill import distill, student
from acclimate.distillation.methods import DISTILLATIONS
from acclimate.distillation.objective import distillation_objective
from acclimate.distillation.settings import Distill
from acclimate.distillation.teachers import Teachers
from acclimate.errors import DataError, ModelFileError
from acclimate.fine_tuning.fine_tune import fine_tune
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.classifier import Classifier
from acclimate.models.onnx.export import read_metadata, to_onnx
from acclimate.models.pretrained import wrap
from acclimate.models.runtime import Normalizer, run_onnx, run_torch
from acclimate.training.engine.step import LossInputs
from acclimate.training.optim.losses import cross_entropy, soft_targets
from kit import Recorder

HALF = (0.5, 0.5, 0.5)
CONTRACT = InputContract(32, HALF, HALF, "bilinear", 1.0)
IMAGENET = InputContract(32, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear", 1.0)


def small(architecture, contract, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return wrap(timm.create_model(architecture, num_classes=10), contract)


@pytest.fixture(scope="module")
def teacher(dataset, policy, context):
    """A small network trained on the digits, with its own normalization. Never changed."""
    blank = replace(small("test_efficientnet", IMAGENET), classes=dataset.classes)
    settings = FineTune(epochs=6, batch_size=18, learning_rate=1e-2)
    return fine_tune(blank, dataset, policy, settings, context=context)


@pytest.fixture(scope="module")
def student_folder(tmp_path_factory):
    """The folder of a network with another architecture and normalization."""
    folder = tmp_path_factory.mktemp("students") / "pupil"
    small("test_mambaout", CONTRACT).save(folder)
    return str(folder)


def logits(model, dataset, split="val"):
    run = run_torch(model, "cpu")
    batches = ordered_batches(dataset, dataset.rows(split), model.contract)
    return torch.from_numpy(np.concatenate([run(batch.images) for batch in batches]))


@pytest.mark.slow
def test_distillation_raises_the_agreement_with_the_teacher(
    teacher, student_folder, dataset, policy, context
):
    recorder = Recorder()
    before = student(teacher, dataset, student_folder, context)
    settings = Distill(student=student_folder, epochs=4, batch_size=18, learning_rate=2e-3)
    weights = teacher.digest
    after = distill(teacher, dataset, policy, settings, context=replace(context, progress=recorder))
    wanted = logits(teacher, dataset)
    apart = [float(soft_targets(logits(m, dataset), wanted, 2.0).mean()) for m in (before, after)]
    agree = [
        float((logits(m, dataset).argmax(1) == wanted.argmax(1)).float().mean())
        for m in (before, after)
    ]
    assert apart[1] < 0.8 * apart[0]
    assert agree[1] >= agree[0]
    assert teacher.digest == weights
    assert after.architecture == "timm:test_mambaout"
    assert after.contract.mean == HALF
    assert after.classes == teacher.classes
    step = after.card.steps[-1]
    assert step.stage == "distill"
    assert step.notes[0] == f"Teacher: test_efficientnet, {teacher.digest}."
    assert step.settings["student"] == student_folder
    assert any("(101,766 parameters), student test_mambaout" in line for line in recorder.lines)


def test_the_named_student_is_trained(teacher, dataset, context):
    # Larger than the teacher: a strange wish, but a clear one.
    start = student(teacher, dataset, "efficientnet-lite0", context)
    assert start.architecture == "timm:tf_efficientnet_lite0"
    assert start.contract.image_size == teacher.contract.image_size
    assert start.classes == teacher.classes


def test_auto_starts_a_student_of_the_same_kind_from_its_teacher(start, dataset, context):
    found = student(start, dataset, "auto", context)
    assert found.digest == start.digest
    assert found.graph is None


def test_auto_does_not_grow_a_teacher_that_is_smaller_than_every_packaged_network(
    teacher, dataset, context
):
    assert student(teacher, dataset, "auto", context).parameters == teacher.parameters


def inputs_of(dataset, contract, count=8):
    rows = dataset.rows("val")[:count]
    pixels = torch.from_numpy(np.stack([contract.read(dataset.path(row)) for row in rows]))
    inputs = Normalizer(contract, torch.device("cpu"))(pixels)
    return inputs, torch.from_numpy(dataset.labels[rows])


def teacher_logits(model, dataset, count=8):
    with torch.inference_mode():
        return model.module()(inputs_of(dataset, model.contract, count)[0])


def objective_for(teacher, contract, hard_label_weight, temperature=2.0):
    settings = Distill(method="soft", temperature=temperature, hard_label_weight=hard_label_weight)
    frozen = Teachers([teacher], teacher.classes, contract, device="cpu")
    objective = distillation_objective(frozen, settings)
    return lambda logits, inputs, targets: objective(logits, LossInputs(inputs, targets, None))


@pytest.mark.parametrize("contract", [CONTRACT, IMAGENET], ids=["other", "same"])
def test_the_teacher_gets_its_own_normalization(teacher, dataset, contract):
    inputs, targets = inputs_of(dataset, contract)
    own = torch.randn(8, 10, generator=torch.Generator().manual_seed(0))
    losses = objective_for(teacher, contract, 0.0)(own, inputs, targets)
    wanted = soft_targets(own, teacher_logits(teacher, dataset), 2.0)
    assert losses.shape == (8,)
    assert torch.allclose(losses, wanted, rtol=1e-3, atol=1e-3)


def test_a_teacher_of_another_input_size_is_run_at_its_own(teacher, dataset):
    larger = replace(CONTRACT, image_size=48)
    inputs, targets = inputs_of(dataset, larger)
    own = teacher_logits(teacher, dataset)
    apart = objective_for(teacher, larger, 0.0)(own, inputs, targets)
    strangers = objective_for(teacher, larger, 0.0)(own.roll(1, 0), inputs, targets)
    # Shrunk from 48 px the pictures differ a little from those that were read at 32 px.
    assert float(apart.mean()) < 0.1 * float(strangers.mean())


def test_hard_label_weight_mixes_both_losses(teacher, dataset):
    inputs, targets = inputs_of(dataset, CONTRACT)
    own = torch.randn(8, 10, generator=torch.Generator().manual_seed(0))
    soft, mixed, hard = (
        objective_for(teacher, CONTRACT, weight)(own, inputs, targets) for weight in (0.0, 0.3, 1.0)
    )
    assert torch.allclose(hard, cross_entropy(own, targets, 0.0))
    assert torch.allclose(mixed, 0.7 * soft + 0.3 * hard, atol=1e-5)


def test_only_the_student_gets_gradients(teacher, dataset):
    inputs, targets = inputs_of(dataset, CONTRACT)
    own = torch.zeros(8, 10, requires_grad=True)
    objective_for(teacher, CONTRACT, 0.3)(own, inputs, targets).sum().backward()
    assert own.grad.abs().sum() > 0
    network = teacher.module()
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    assert not network.training


def test_a_teacher_that_lacks_classes_of_the_data_is_refused(teacher, dataset, context):
    stranger = replace(teacher, classes=(*"012345678", "ten"))
    with pytest.raises(DataError) as caught:
        distill(stranger, dataset, settings=Distill(epochs=1), context=context)
    assert str(caught.value) == (
        "test_efficientnet: data has classes the model does not know: '9'. "
        "Known: 0, 1, 2, 3, 4, 5, 6, 7, 8, ten. Fine-tune the model on this data first, or leave "
        "these classes out with --set data.leave_out_classes=[...]."
    )


def test_a_teacher_may_have_more_classes_than_the_data(teacher, dataset, policy, context):
    wide = small("test_efficientnet", IMAGENET).module()
    wide.reset_classifier(12)
    state = teacher.module().state_dict()
    with torch.no_grad():
        layer = wide.get_classifier()
        layer.weight[2:] = state["classifier.weight"]
        layer.bias[2:] = state["classifier.bias"]
    wide.load_state_dict({k: v for k, v in state.items() if "classifier" not in k}, strict=False)
    knows_more = replace(teacher, network=wide.eval(), classes=("#", "%", *teacher.classes))
    settings = Distill(epochs=1, batch_size=60, learning_rate=1e-4)
    trained = distill(knows_more, dataset, policy, settings, context=context)
    assert trained.classes == knows_more.classes
    assert trained.card.steps[-1].figures["start_val_accuracy"] > 0.6


def test_an_unknown_student_is_refused_with_the_nearest_names(teacher, dataset, context):
    with pytest.raises(ModelFileError) as caught:
        distill(teacher, dataset, settings=Distill(student="efficientnet-lite9"), context=context)
    assert "no model or model folder 'efficientnet-lite9'" in str(caught.value)
    assert "efficientnet-lite" in str(caught.value).split("Did you mean")[1]


def test_a_student_that_is_a_pruned_folder_stays_pruned(teacher, dataset, context, tmp_path):
    # Of the teacher's own architecture: its weights would undo the pruning.
    narrow = prune(teacher, dataset, settings=Prune(epochs=1, max_accuracy_drop=100),
                   context=context)  # fmt: skip
    assert narrow.parameters < teacher.parameters
    narrow.save(tmp_path / "narrow")
    start = student(teacher, dataset, str(tmp_path / "narrow"), context)
    assert start.digest == narrow.digest


def test_a_student_that_is_a_float_graph_is_refused(teacher, dataset, context, tmp_path):
    graph = to_onnx(teacher)
    (tmp_path / "float.onnx").write_bytes(graph)
    with pytest.raises(ModelFileError, match="cannot be trained") as caught:
        student(teacher, dataset, str(tmp_path / "float.onnx"), context)
    assert "Give a model folder with weights, or a quantized model." in str(caught.value)


@pytest.fixture(scope="module")
def rough(teacher, dataset, context):
    """The teacher in 8 bits, with half of each activation's range cut off. Never changed."""
    settings = Quantize(max_accuracy_drop=100, percentile=0.2, calibration_images=32)
    return quantize(teacher, dataset, None, settings, context=context)


def test_a_quantized_student_recovers_accuracy(rough, teacher, dataset, policy, context, tmp_path):
    rough.save(tmp_path / "rough")
    settings = Distill(student=str(tmp_path / "rough"), epochs=3, batch_size=18,
                       hard_label_weight=0.0, learning_rate=3e-3)  # fmt: skip
    after = distill(teacher, dataset, policy, settings, context=context)
    assert (after.precision, after.network) == ("int8", None)
    # The graph is what it was but for its numbers, and says itself what the network said.
    nodes = [[n.op_type for n in onnx.load_from_string(m.graph).graph.node] for m in (rough, after)]
    assert nodes[0] == nodes[1]
    assert read_metadata(after.graph) == (rough.contract, rough.classes)
    images = np.stack([CONTRACT.read(dataset.path(row)) for row in dataset.rows("val")])
    wanted = logits(teacher, dataset).argmax(1).numpy()
    agree = [(run_onnx(m, "cpu")(images).argmax(1) == wanted).mean() for m in (rough, after)]
    assert agree[0] < 0.7
    assert agree[1] > agree[0] + 0.15
    step = after.card.steps[-1]
    assert "The int8 graph and the trained network predict the same class for " in step.notes[-1]
    after.save(tmp_path / "after")
    assert Classifier.load(tmp_path / "after").digest == after.digest != rough.digest


def test_a_quantized_student_of_other_classes_is_refused(rough, teacher, dataset, context):
    turned = replace(rough, classes=rough.classes[::-1])
    with pytest.raises(ModelFileError, match="quantized and has other classes"):
        distill(teacher, dataset, settings=Distill(epochs=1), context=context, start=turned)


def test_a_quantized_student_has_no_features_for_hints(rough, teacher, dataset, context):
    settings = Distill(method="hints", epochs=1)
    with pytest.raises(ModelFileError, match="a quantized student has no features for"):
        distill(teacher, dataset, settings=settings, context=context, start=rough)


def test_several_teachers_are_named_in_the_card(
    teacher, student_folder, dataset, context, tmp_path
):
    teacher.save(tmp_path / "second")
    (tmp_path / "third.onnx").write_bytes(to_onnx(teacher))
    more = (str(tmp_path / "second"), str(tmp_path / "third.onnx"))
    settings = Distill(
        student=student_folder, teachers=more, epochs=1, batch_size=60, learning_rate=1e-3
    )
    trained = distill(teacher, dataset, settings=settings, context=context)
    notes = trained.card.steps[-1].notes[:3]
    assert notes[0] == notes[1] == f"Teacher: test_efficientnet, {teacher.digest}."
    assert notes[2].startswith("Teacher: third, ")


def test_the_student_may_be_given_and_a_teacher_may_be_a_function(dataset, context):
    start = small("test_mambaout", CONTRACT)
    still = choose_policy(Augment(policy="none"))
    settings = Distill(epochs=2, batch_size=18, learning_rate=2e-3, hard_label_weight=0.0)
    sure = torch.eye(10)[3] * 8
    trained = distill(
        lambda images: sure.expand(len(images), 10), dataset, still, settings,
        context=context, start=start,
    )  # fmt: skip
    assert trained.architecture == "timm:test_mambaout"
    first, last = trained.card.steps[-1].curve[1], trained.card.steps[-1].curve[-1]
    assert last["train_loss"] < 0.5 * first["train_loss"]


@pytest.fixture
def blank(dataset):
    """A student that knows nothing, so that no start is good enough to come back to."""
    return replace(small("test_mambaout", CONTRACT), classes=dataset.classes)


def test_an_onnx_teacher_gives_the_same_training(teacher, blank, dataset, policy, context):
    settings = Distill(epochs=3, batch_size=18, learning_rate=3e-3)
    graph_only = replace(teacher, network=None, graph=to_onnx(teacher))
    trained = [
        distill(one, dataset, policy, settings, context=context, start=blank)
        for one in (teacher, graph_only)
    ]
    curves = [[line["train_loss"] for line in one.card.steps[-1].curve[1:]] for one in trained]
    assert curves[0] == pytest.approx(curves[1], rel=0.02)
    assert trained[0].card.steps[-1].figures["best_epoch"] > 0


@pytest.mark.parametrize("method", DISTILLATIONS)
def test_every_method_brings_the_student_nearer_to_its_teacher(
    method, teacher, blank, dataset, policy, context
):
    settings = Distill(
        method=method, epochs=4, batch_size=18, learning_rate=3e-3, hard_label_weight=0.0
    )
    after = distill(teacher, dataset, policy, settings, context=context, start=blank)
    wanted = logits(teacher, dataset).argmax(1)
    agree = [float((logits(m, dataset).argmax(1) == wanted).float().mean()) for m in (blank, after)]
    assert agree[1] > agree[0] + 0.1
    # Nothing of the teaching stays in the student.
    assert set(after.module().state_dict()) == set(blank.module().state_dict())
    assert not any(m._forward_pre_hooks for m in after.module().modules())


@pytest.mark.parametrize("method", ["soft", "hints"])
def test_with_consistency_training_teachers_get_the_plain_view(
    method, teacher, blank, dataset, context
):
    policy = choose_policy(Augment(crop_area=1.0, operations_per_image=2, consistency=3.0))
    settings = Distill(
        method=method, epochs=4, batch_size=18, learning_rate=3e-3, hard_label_weight=0.0
    )
    after = distill(teacher, dataset, policy, settings, context=context, start=blank)
    wanted = logits(teacher, dataset).argmax(1)
    agree = [float((logits(m, dataset).argmax(1) == wanted).float().mean()) for m in (blank, after)]
    assert agree[1] > agree[0] + 0.1


def test_hints_resume_after_a_kill_with_the_same_weights(
    teacher, blank, dataset, policy, context, tmp_path
):
    settings = Distill(method="hints", epochs=3, batch_size=18, learning_rate=3e-3)
    given = teacher, dataset, policy, settings
    whole = distill(*given, context=context, start=blank)
    here = replace(context, workspace=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        distill(*given, context=replace(here, progress=Recorder(at_line="epoch 2/")), start=blank)
    resumed = distill(*given, context=here, start=blank)
    assert resumed.digest == whole.digest != blank.digest


def half_unlabelled(dataset):
    splits = [SPLITS[s] if s >= 0 else None for s in dataset.splits]
    labels = [dataset.classes[label] if label >= 0 else None for label in dataset.labels]
    for row in dataset.rows("train")[::2]:
        splits[row], labels[row] = "unlabelled", None
    return dataset.with_columns({"split": splits, "label": labels})


@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_unlabelled_images_are_used_only_if_requested(mixup, blank, dataset, context):
    partly, shown = half_unlabelled(dataset), []

    def teacher(images):
        shown.append(len(images))
        return torch.zeros(len(images), 10)

    policy = choose_policy(Augment(policy="none", erasing=0.1, mixup=mixup))
    for unlabelled, split in ((False, ("train",)), (True, ("train", "unlabelled"))):
        shown.clear()
        settings = Distill(epochs=1, batch_size=16, unlabelled=unlabelled)
        trained = distill(teacher, partly, policy, settings, context=context, start=blank)
        assert sum(shown) == sum(len(partly.rows(name)) for name in split)
        assert trained.card.steps[-1].curve[1]["train_loss"] > 0


def test_distillation_without_a_teacher_is_refused(dataset, context):
    with pytest.raises(ModelFileError, match="distillation needs at least one teacher"):
        distill([], dataset, context=context)


def test_unlabelled_images_have_no_label_loss(teacher, dataset):
    inputs, targets = inputs_of(dataset, CONTRACT)
    own = torch.randn(8, 10, generator=torch.Generator().manual_seed(0))
    unknown = objective_for(teacher, CONTRACT, 0.3)(own, inputs, torch.full_like(targets, -1))
    soft = objective_for(teacher, CONTRACT, 0.0)(own, inputs, targets)
    assert torch.allclose(unknown, 0.7 * soft, atol=1e-6)


def test_unlabelled_without_unlabelled_images_is_refused(teacher, blank, dataset, context):
    with pytest.raises(DataError, match="the data has no unlabelled images"):
        distill(teacher, dataset, settings=Distill(unlabelled=True), context=context, start=blank)
