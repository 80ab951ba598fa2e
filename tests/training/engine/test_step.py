"""One update: what is skipped, and what happens when memory is too small."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from acclimate.augmentation.policy import choose_policy
from acclimate.augmentation.settings import Augment
from acclimate.context import Context
from acclimate.errors import DataError, RecipeError
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.runtime import Normalizer
from acclimate.progress import SilentProgress
from acclimate.training.batches.train_batches import ImageBatches
from acclimate.training.batches.training_images import TrainingImages
from acclimate.training.engine.distributed import launched
from acclimate.training.engine.loop import train
from acclimate.training.engine.out_of_memory import halved, is_out_of_memory, pieces
from acclimate.training.engine.step import Step
from acclimate.training.optim.losses import view_divergence
from acclimate.training.plan import make_plan
from acclimate.training.record import record
from kit import CONTRACT, Recorder, TensorBatches, cross_entropy, mlp

SETTINGS = FineTune(epochs=1, batch_size=30, learning_rate=1e-2)
"""180 images: six batches an epoch."""
PIXELS = 3 * 32 * 32


class Small(nn.Module):
    """A network whose memory holds so many images at once."""

    def __init__(self, holds=None, error=torch.OutOfMemoryError, inputs=64, dropout=0.0):
        super().__init__()
        self.inner = mlp(inputs, dropout=dropout)
        self.holds, self.error, self.tried = holds, error, []

    def forward(self, images):
        if self.training:
            self.tried.append(len(images))
            if self.holds is not None and len(images) > self.holds:
                raise self.error("DefaultCPUAllocator: can't allocate memory")
        return self.inner(images)


@pytest.fixture
def run(dataset, context):
    def go(
        network, settings=SETTINGS, objective=cross_entropy, progress=None, policy=None, **plans
    ):
        plan = replace(make_plan(settings, 180, context), **plans)
        trained = train(
            network,
            TrainingImages(dataset, policy, CONTRACT) if policy else TensorBatches(plan.batch_size),
            objective,
            plan,
            context=replace(context, progress=progress or SilentProgress()),
            keep_start=False,
        )
        return trained, record("fine_tune", {}, trained, plan)

    return go


def apart(a, b):
    a, b = a.network.state_dict(), b.network.state_dict()
    return max(float((a[n].float() - b[n].float()).abs().max()) for n in a)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_a_batch_too_large_for_memory_is_done_in_pieces_with_the_same_result(run, error):
    recorder = Recorder()
    small = Small(holds=8, error=error)
    # SGD shows a gradient's size, which AdamW hides.
    settings = SETTINGS.model_copy(update={"optimizer": "sgd"})
    pieced, step = run(small, settings, progress=recorder)
    whole, _ = run(Small(), settings)
    assert small.tried[:3] == [30, 15, 6]  # 7 fit: five pieces of 6
    assert max(small.tried[3:]) == 6  # what was learnt once is kept
    assert sum(small.tried[2:]) == 180
    assert apart(pieced, whole) < 1e-4
    told = [line for line in recorder.lines if "memory" in line]
    assert told == ["out of memory: switching to micro-batches of 7 with gradient accumulation"]
    assert "Out of memory: gradient accumulation with micro-batches of 7 images." in step.notes
    assert pieced.curve[1].train_loss == pytest.approx(whole.curve[1].train_loss, abs=1e-4)


def test_where_not_even_one_image_fits_it_says_so_and_ends(run):
    small = Small(holds=0)
    with pytest.raises(RecipeError) as caught:
        run(small)
    assert small.tried == [30, 15, 6, 3, 1]
    assert str(caught.value) == (
        "batch_size: out of memory even with one image per forward pass. Use a smaller "
        "model, a smaller image_size, or a device with more memory."
    )


def test_a_retried_step_leaves_no_trace_in_batch_norm(run):
    class Late(Small):
        """Memory runs out after batch norm has counted the images."""

        def forward(self, images):
            logits = self.inner(images)
            if self.training and not self.tried:
                self.tried.append(len(images))
                raise torch.OutOfMemoryError("out of memory")
            return logits

    settings = SETTINGS.model_copy(update={"batch_norm": "train", "batch_size": 180})
    trained, _ = run(Late(), settings)
    counts = [t for n, t in trained.network.state_dict().items() if "batches" in n]
    assert {int(t) for t in counts} == {2}  # two pieces, and not the pass that failed


ALTERED = choose_policy(Augment(crop_area=1.0, operations_per_image=2, strength=0.7))
COMPARED = replace(ALTERED, consistency=12.0)


def test_views_are_compared_with_the_same_result_in_pieces(run):
    settings = SETTINGS.model_copy(update={"optimizer": "sgd"})
    split, whole = Small(inputs=PIXELS), Small(inputs=PIXELS)
    pieced, _ = run(split, settings, policy=COMPARED, accumulation_steps=3)
    together, _ = run(whole, settings, policy=COMPARED)
    assert whole.tried == [90] * 6
    assert split.tried == [30] * 18
    assert apart(pieced, together) < 1e-4
    assert pieced.curve[1].train_loss == pytest.approx(together.curve[1].train_loss, rel=1e-4)


def test_the_loss_is_that_of_the_plain_view_and_twelve_times_the_view_divergence(dataset):
    network = Small(inputs=PIXELS).train()
    source = ImageBatches(TrainingImages(dataset, COMPARED, CONTRACT), 30, seed=2)
    unaltered = replace(ALTERED, operations_per_image=0, color=0.0)
    plain = ImageBatches(TrainingImages(dataset, unaltered, CONTRACT), 30, seed=2)
    batch, lone = next(source.train_batches(1)), next(plain.train_batches(1))
    assert batch.images.shape == (30, 3, 32, 32, 3)
    assert np.array_equal(batch.images[:, 0], lone.images)
    to_input, was = source.to_input(torch.device("cpu")), copy.deepcopy(network.state_dict())
    views = torch.from_numpy(batch.images).transpose(0, 1).reshape(90, 32, 32, 3)
    logits = network(to_input(views)).view(3, 30, 10)
    wanted = functional.cross_entropy(logits[0], torch.from_numpy(batch.targets))
    wanted = wanted + 12 * view_divergence(logits).mean()
    network.load_state_dict(was)
    rates = replace(make_plan(SETTINGS, 180, Context(device="cpu")), learning_rate=1e-9)
    optimizer = torch.optim.SGD([{"params": network.parameters(), "lr": 1e-9, "peak": 1e-9}])
    fabric = launched(rates)
    optimizer = fabric.setup_optimizers(optimizer)
    step = Step(fabric, network, optimizer, cross_entropy, to_input, rates, lambda text: None)
    assert step.take(batch, 1.0, 0).loss / 30 == pytest.approx(float(wanted.detach()), rel=1e-5)


def test_what_agrees_on_views_is_learnt_by_comparing_them(run, dataset):
    """On altered val images, which nothing was learnt from."""
    settings = FineTune(epochs=12, batch_size=30, learning_rate=5e-3)
    rows = dataset.rows("val")
    views = TrainingImages(dataset, COMPARED, CONTRACT)
    images = torch.stack([torch.from_numpy(views.augmented(int(row), int(row))) for row in rows])
    to_input = Normalizer(CONTRACT, torch.device("cpu"))
    differ, right = [], []
    for policy in (ALTERED, COMPARED):
        trained, _ = run(Small(inputs=PIXELS), settings, policy=policy)
        with torch.no_grad():
            logits = trained.network(to_input(images.transpose(0, 1).flatten(0, 1)))
        differ.append(float(view_divergence(logits.view(3, len(rows), 10)).mean()))
        right.append(trained.val_accuracy)
    assert min(right) > 0.5
    assert differ[1] < 0.7 * differ[0]


def test_other_errors_are_not_taken_for_memory():
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert is_out_of_memory(RuntimeError("[enforce fail] not enough memory: you tried to"))
    assert is_out_of_memory(MemoryError())


def test_pieces_hold_every_image_once():
    assert [range(10)[p] for p in pieces(10, 3)] == [range(3), range(3, 6), range(6, 10)]
    assert [range(10)[p] for p in pieces(10, 1)] == [range(10)]
    assert [range(2)[p] for p in pieces(2, 5)] == [range(1), range(1, 2)]
    assert [halved(0, 30), halved(15, 30), halved(64, 9), halved(3, 9, 2)] == [15, 7, 4, 2]
    with pytest.raises(RecipeError, match="even with two images per forward pass"):
        halved(2, 9, 2)


def failing(at, what="loss"):
    """An objective that is no number at these steps."""
    steps = []

    def objective(logits, loss_inputs):
        losses = cross_entropy(logits, loss_inputs)
        steps.append(len(steps))
        if steps[-1] not in at:
            return losses
        if what == "loss":
            return losses * math.nan
        # The loss is finite, its derivative is not.
        return losses + 0 * (logits - logits.detach()).abs().sum(1).sqrt()

    return objective


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_step_that_is_no_number_changes_nothing_and_is_told(run, what):
    settings = SETTINGS.model_copy(update={"batch_norm": "train", "batch_size": 180})
    recorder = Recorder()
    network = Small(dropout=0.5)
    trained, step = run(network, settings, failing({0}, what), progress=recorder)
    assert apart_from_start(trained) == 0.0
    name = "loss is nan" if what == "loss" else "the gradient norm is nan"
    assert f"step 0 skipped: {name}" in recorder.lines
    assert step.figures["skipped_steps"] == 1
    assert "Loss or gradient was not finite: 1 step skipped." in step.notes
    assert step.curve[1]["train_loss"] is None
    assert trained.curve[1].val_loss == trained.curve[0].val_loss


def apart_from_start(trained):
    start, end = Small().inner.state_dict(), trained.network.inner.state_dict()
    return max(float((start[n].float() - end[n].float()).abs().max()) for n in start)


def test_after_a_skipped_step_the_training_goes_on(run):
    settings = SETTINGS.model_copy(update={"epochs": 3})
    trained, step = run(Small(), settings, failing({1, 7, 8}))
    assert step.figures["skipped_steps"] == 3
    assert trained.curve[-1].train_loss < trained.curve[1].train_loss
    assert math.isfinite(trained.curve[-1].val_loss)


def test_three_in_a_row_end_it_with_what_to_change(run):
    objective = failing(range(2, 99))
    recorder = Recorder()
    with pytest.raises(RecipeError) as caught:
        run(Small(), objective=objective, progress=recorder)
    assert str(caught.value) == (
        "learning_rate: loss is nan at step 4: the training diverges. Lower learning_rate, "
        "which is 0.01."
    )
    assert [line for line in recorder.lines if "skipped" in line] == [
        "step 2 skipped: loss is nan",
        "step 3 skipped: loss is nan",
    ]


def test_too_many_in_an_epoch_end_it_too(run):
    settings = SETTINGS.model_copy(update={"batch_size": 10})
    with pytest.raises(RecipeError, match="loss is nan at step 6: the training diverges"):
        run(Small(), settings, failing({0, 2, 4, 6}))


def test_with_a_loss_scaler_the_precision_is_named(context):
    from acclimate.training.engine.divergence import diverged

    plan = replace(make_plan(SETTINGS, 100, context), precision="16-mixed")
    said = str(diverged("loss", math.inf, "step 3", plan))
    assert said.endswith(
        "Lower learning_rate, which is 0.01. Or set precision to bf16-mixed or 32-true: float16 "
        "overflows above 65,504."
    )


def test_pixels_that_are_no_numbers_are_told_from_a_rate_that_is_too_high(context):
    from acclimate.training.batches.user_loader import LoaderBatches

    images, labels = torch.rand(40, 3, 8, 8), torch.arange(40) % 4
    images[[3, 17, 31], 0, 0, 0] = math.nan
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(images, labels), batch_size=10
    )
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    source = LoaderBatches(network, loader, None, 0)
    recorder = Recorder()
    plan = make_plan(FineTune(epochs=2, batch_size=10, learning_rate=1e-2), 40, context)
    with pytest.raises(DataError) as caught:
        train(network, source, cross_entropy, plan, context=replace(context, progress=recorder))
    assert "step 0 skipped: 1 image (3) holds non-finite pixels" in recorder.lines
    assert str(caught.value) == (
        "images: 1 image (17) holds non-finite pixels, at step 5; 2 steps of this epoch "
        "skipped. Check where they come from: a standard deviation of 0, or a damaged file."
    )
