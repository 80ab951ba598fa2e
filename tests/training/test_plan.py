"""From settings to numbers, each with its reason."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from acclimate.context import Context
from acclimate.distillation.settings import Distill
from acclimate.errors import ModelFileError, RecipeError
from acclimate.fine_tuning.settings import FineTune
from acclimate.training.optim.optimizers import OPTIMIZERS
from acclimate.training.plan import make_plan

HERE = Context(device="cpu")
AUTO = {
    "epochs", "learning_rate", "batch_size", "patience", "precision", "weight_decay", "schedule",
    "warmup",
}  # fmt: skip
FIXED = FineTune(
    epochs=3, learning_rate=0.01, batch_size=4, patience=2, precision="32-true", weight_decay=0.1,
    schedule="linear", warmup=0.2,
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(images=st.integers(1, 3_000_000))
def test_no_auto_is_left_and_every_number_fits_the_data(images):
    plan = make_plan(FineTune(), images, HERE)
    assert "auto" not in plan.as_record().values()
    assert 1 <= plan.batch_size <= images
    assert 4 <= plan.epochs <= 20
    assert plan.patience >= 5
    assert 0 < plan.learning_rate <= 5e-4
    assert plan.device == "cpu"


def test_what_was_auto_has_a_reason_and_nothing_else_has():
    assert set(make_plan(FineTune(), 100, HERE).reasons) == AUTO
    assert make_plan(FIXED, 100, HERE).reasons == {}
    some = make_plan(FineTune(epochs=3, batch_size=4), 100, HERE)
    assert set(some.reasons) == AUTO - {"epochs", "batch_size"}


def test_reasons_say_the_numbers():
    reasons = make_plan(FineTune(), 1000, HERE).reasons
    assert reasons["batch_size"] == "default for CPU is 32, at most an eighth of 1,000 images"
    assert reasons["epochs"] == (
        "about 400 steps at batch size 32 for 1,000 images, between 4 and 20 epochs"
    )
    assert reasons["learning_rate"] == "0.0005 x sqrt(32/32) = 0.0005"
    few = make_plan(FineTune(), 100, HERE).reasons
    assert few["learning_rate"] == "0.0005 x sqrt(12/32) = 0.00031"
    assert reasons["weight_decay"] == "0.02 (default for AdamW)"
    assert reasons["patience"] == "half of the epochs, at least 5"
    assert reasons["precision"] == "float32 on CPU"


def test_what_was_asked_for_is_kept():
    plan = make_plan(FIXED, 100, HERE)
    assert (plan.epochs, plan.learning_rate, plan.batch_size, plan.patience) == (3, 0.01, 4, 2)
    assert plan.precision == "32-true"


@pytest.mark.parametrize("kind", [FineTune, Distill])
def test_every_setting_of_training_reaches_the_plan(kind):
    settings = kind(
        layer_decay=0.5,
        optimizer="sgd",
        weight_decay=0.3,
        schedule="constant",
        warmup=0.25,
        batch_norm="train",
        max_gradient_norm=7.0,
    )
    plan = make_plan(settings, 100, HERE)
    assert plan.layer_decay == 0.5
    assert plan.optimizer == "sgd"
    assert plan.weight_decay == 0.3
    assert plan.schedule == "constant"
    assert plan.warmup == 0.25
    assert plan.freeze_batch_norm is False
    assert plan.max_gradient_norm == 7.0
    assert make_plan(kind(), 100, HERE).freeze_batch_norm is True


def test_little_data_gets_more_epochs_and_smaller_batches():
    small, large = make_plan(FineTune(), 40, HERE), make_plan(FineTune(), 100_000, HERE)
    assert small.epochs > large.epochs
    assert small.batch_size < large.batch_size
    assert small.learning_rate < large.learning_rate


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_has_a_rate_of_its_own(name):
    rate = make_plan(FineTune(optimizer=name), 1000, HERE).learning_rate
    assert 0 < rate < 1


def test_a_batch_larger_than_the_data_is_refused_in_one_sentence():
    with pytest.raises(RecipeError) as caught:
        make_plan(FineTune(batch_size=64), 40, HERE)
    assert str(caught.value) == (
        "batch_size: batch_size 64 is larger than the training split (40 images). "
        "Lower it, or leave it at auto."
    )
    assert caught.value.exit_code == 2


def test_a_batch_of_the_whole_data_is_allowed():
    assert make_plan(FineTune(batch_size=40), 40, HERE).batch_size == 40


def test_a_batch_smaller_than_the_processes_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(RecipeError) as caught:
        make_plan(FineTune(batch_size=2), 40, HERE)
    assert str(caught.value) == (
        "batch_size: batch_size 2 is smaller than the number of processes (4)."
    )


def test_more_processes_share_a_larger_batch(monkeypatch):
    alone = make_plan(FineTune(), 10_000, HERE)
    monkeypatch.setenv("WORLD_SIZE", "4")
    together = make_plan(FineTune(), 10_000, HERE)
    assert together.batch_size == 4 * alone.batch_size
    assert together.learning_rate == pytest.approx(2 * alone.learning_rate)


def test_a_device_that_is_not_here_is_refused():
    with pytest.raises(ModelFileError) as caught:
        make_plan(FineTune(), 40, Context(device="abacus"))
    assert str(caught.value) == (
        "--device: device 'abacus' is not available. "
        "Use auto, cpu or cuda; `acclimate doctor` lists the available devices."
    )


@pytest.mark.parametrize("kind", [FineTune, Distill])
@pytest.mark.parametrize("name", ["ema", "swa", "soup"])
def test_averaging_reaches_the_plan(kind, name):
    assert make_plan(kind(averaging=name), 100, HERE).averaging == name


@pytest.mark.parametrize("name", ["swa", "soup"])
def test_means_of_weights_are_refused_where_statistics_are_trained(name):
    with pytest.raises(
        RecipeError, match=f"averaging: {name} cannot be used with batch_norm: train"
    ):
        make_plan(FineTune(averaging=name, batch_norm="train"), 100, HERE)
    make_plan(FineTune(averaging="ema", batch_norm="train"), 100, HERE)
    plan = make_plan(FineTune(averaging=name, batch_norm="reestimate"), 100, HERE)
    assert plan.averaging == name


@pytest.mark.parametrize(
    ("asked", "tried"),
    [("off", ()), (0.3, (0.0, 0.3)), ("auto", tuple(step / 10 for step in range(11)))],
)
def test_wise_ft_says_which_coefficients_are_tried(asked, tried):
    assert make_plan(FineTune(wise_ft=asked), 100, HERE).coefficients == tried


def test_wise_ft_is_refused_where_statistics_are_trained_and_auto_stays_off():
    with pytest.raises(RecipeError, match="wise_ft cannot be used with batch_norm: train"):
        make_plan(FineTune(wise_ft=0.5, batch_norm="train"), 100, HERE)
    plan = make_plan(FineTune(wise_ft="auto", batch_norm="train"), 100, HERE)
    assert plan.coefficients == ()
    assert plan.reasons["wise_ft"].startswith("off, because the statistics of a trained")


def test_balanced_sampling_reaches_the_plan():
    assert make_plan(FineTune(balance="sampling"), 100, HERE).balanced
    assert not make_plan(FineTune(balance="logit_adjustment"), 100, HERE).balanced


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_pulls_as_much_in_a_step(name):
    plan = make_plan(FineTune(optimizer=name), 1000, HERE)
    assert plan.learning_rate * plan.weight_decay == pytest.approx(5e-4 * 0.02)


@pytest.mark.parametrize(
    ("settings", "schedule", "warmup"),
    [
        (FineTune(), "cosine", 0.1),
        (FineTune(schedule="one_cycle"), "one_cycle", 0.3),
        (FineTune(optimizer="schedule_free"), "constant", 0.1),
    ],
)
def test_schedule_and_warm_up_go_together(settings, schedule, warmup):
    plan = make_plan(settings, 1000, HERE)
    assert (plan.schedule, plan.warmup) == (schedule, warmup)


def test_a_falling_rate_for_an_optimizer_that_averages_is_refused():
    with pytest.raises(RecipeError) as caught:
        make_plan(FineTune(optimizer="schedule_free", schedule="cosine"), 1000, HERE)
    assert str(caught.value) == (
        "schedule: schedule cosine cannot be used with optimizer schedule_free, which averages "
        "weights at a constant learning rate. Leave it at auto, or choose another optimizer."
    )


def test_epochs_and_minutes_together_are_refused():
    with pytest.raises(ValidationError, match=r"and epochs \(3\) are both set"):
        FineTune(epochs=3, max_minutes=10)
    assert make_plan(FineTune(max_minutes=10), 1000, HERE).max_minutes == 10


def test_more_parts_than_the_batch_has_images_are_refused():
    with pytest.raises(RecipeError) as caught:
        make_plan(FineTune(batch_size=4, accumulation_steps=5), 1000, HERE)
    assert str(caught.value) == (
        "accumulation_steps: accumulation_steps 5 is larger than the batch size (4). "
        "Lower it, or raise batch_size."
    )


@pytest.mark.parametrize(("sam", "radius"), [("none", 0.0), ("sam", 0.05), ("asam", 0.5)])
def test_each_kind_of_sharpness_has_a_radius_of_its_own(sam, radius):
    assert make_plan(FineTune(sam=sam), 1000, HERE).sam_radius == radius


@pytest.mark.parametrize("kind", [FineTune, Distill])
def test_images_are_altered_by_threads_unless_a_device_is_asked_for_or_is_a_gpu(kind, monkeypatch):
    assert not make_plan(kind(), 100, HERE).augment_on_device
    assert make_plan(kind(augment_on="device"), 100, HERE).augment_on_device
    gpu = torch.device("cuda")
    monkeypatch.setattr("acclimate.training.plan.choose_device", lambda name: gpu)
    found = make_plan(kind(precision="32-true"), 100, HERE)
    assert found.augment_on_device
    assert found.reasons["augment_on"] == "device, because it is a GPU"
    assert not make_plan(kind(precision="32-true", augment_on="cpu"), 100, HERE).augment_on_device


def test_float16_is_for_gpus():
    with pytest.raises(RecipeError) as caught:
        make_plan(FineTune(precision="16-mixed"), 100, HERE)
    assert str(caught.value) == (
        "precision: precision 16-mixed needs a GPU. Leave it at auto, or use bf16-mixed or 32-true."
    )


@pytest.mark.parametrize(
    ("given", "batch"),
    [
        ({"batch_size": 1}, "a batch of 1 leaves"),
        ({"batch_size": 8, "accumulation_steps": 8}, "a batch of 8 in 8 accumulation steps leaves"),
        ({"batch_size": 8, "accumulation_steps": 5}, "a batch of 8 in 5 accumulation steps leaves"),
    ],
)
def test_batch_norm_does_not_learn_from_one_image(given, batch):
    with pytest.raises(RecipeError) as caught:
        make_plan(FineTune(batch_norm="train", **given), 100, HERE)
    assert str(caught.value) == (
        f"batch_norm: batch_norm: train needs at least two images per forward pass, and {batch} "
        "one. Raise batch_size, lower accumulation_steps, or leave batch_norm at frozen."
    )
    make_plan(FineTune(**given), 100, HERE)
    assert make_plan(FineTune(batch_norm="train"), 9, HERE).batch_size == 2
