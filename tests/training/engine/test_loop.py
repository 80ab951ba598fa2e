"""The training loop: what it learns, keeps, repeats and goes on from."""

import math
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from acclimate.augmentation.policy import Policy
from acclimate.data.sources.read import read
from acclimate.errors import RecipeError, UnreadableImage
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.runtime import Normalizer
from acclimate.training.batches.training_images import TrainingImages
from acclimate.training.engine.loop import train
from acclimate.training.plan import make_plan
from kit import CONTRACT, Recorder, TensorBatches, cross_entropy, curve, mlp, same_weights

SHORT = FineTune(epochs=3, batch_size=18, learning_rate=1e-2)
ONE_EPOCH = FineTune(epochs=1, batch_size=30, learning_rate=1e-2)
HARMFUL = 100.0
"""A learning rate of AdamW that destroys the network while the loss stays finite."""


@pytest.fixture
def run(context):
    """Trains a small network on tensors: settings in, TrainResult out."""

    def go(settings=SHORT, *, network=None, val=True, optimizer=None, keep_start=True, **facts):
        here = replace(context, **facts)
        plan = make_plan(settings, 180, here)
        source = TensorBatches(plan.batch_size, here.seed, val=val)
        return train(
            network or mlp(), source, cross_entropy, plan, context=here, optimizer=optimizer,
            keep_start=keep_start,
        )  # fmt: skip

    return go


@pytest.fixture
def run_on_images(dataset, policy, context):
    """Trains a small network on images."""

    def go(settings=ONE_EPOCH, *, images=None, data=dataset, **facts):
        plan = make_plan(settings, len(data.rows("train")), context)
        images = images or TrainingImages(data, policy, CONTRACT)
        here = replace(context, **facts)
        return train(mlp(3 * 32 * 32), images, cross_entropy, plan, context=here)

    return go


@pytest.fixture(scope="module")
def good(context):
    """A network that learned the digits. Never changed."""
    plan = make_plan(SHORT, 180, context)
    return train(mlp(), TensorBatches(18), cross_entropy, plan, context=context)


def copy_of(trained):
    network = mlp()
    network.load_state_dict(trained.network.state_dict())
    return network


def test_a_network_that_knows_nothing_learns_the_digits(good):
    start, *epochs = good.curve
    assert start.val_accuracy < 0.2
    assert good.best.val_accuracy > 0.6
    losses = [e.train_loss for e in epochs]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.7 * losses[0]
    assert good.best.val_loss < 0.5 * start.val_loss


def test_the_curve_begins_before_the_first_step(good):
    assert [e.epoch for e in good.curve] == [0, 1, 2, 3]
    assert math.isnan(good.curve[0].train_loss)
    assert good.curve[0].val_loss == pytest.approx(math.log(10), abs=0.1)
    seconds = [e.seconds for e in good.curve]
    assert seconds == sorted(seconds)
    rates = [e.learning_rate for e in good.curve[1:]]
    assert 1e-2 > rates[0] > rates[1] > rates[2] > 0


def test_the_network_comes_back_ready_and_is_the_one_of_the_best_epoch(good):
    assert not good.network.training
    images, targets = TensorBatches(18).val
    with torch.inference_mode():
        logits = good.network(images)
    assert float((logits.argmax(1) == targets).float().mean()) == pytest.approx(
        good.best.val_accuracy
    )
    assert float(functional.cross_entropy(logits, targets)) == pytest.approx(
        good.best.val_loss, abs=1e-4
    )


def test_the_same_seed_gives_the_same_weights(run, good):
    again = run()
    assert same_weights(again, good)
    assert curve(again) == curve(good)


def test_another_seed_gives_other_weights(run, good):
    assert not same_weights(run(seed=1), good)


def test_dropout_is_governed_by_the_seed_alone(run):
    settings = FineTune(epochs=1, batch_size=36, learning_rate=1e-2)
    results = []
    for unrelated in (1, 2):
        torch.manual_seed(unrelated)
        results.append(run(settings, network=mlp(dropout=0.5)))
    assert same_weights(*results)
    assert not same_weights(results[0], run(settings))


def test_the_number_of_decoding_threads_changes_nothing(run_on_images, monkeypatch):
    settings = FineTune(epochs=1, batch_size=36, learning_rate=1e-2)
    results = []
    for cores in (1, 8):
        # Not sched_setaffinity: PyTorch's threads would be born on one core and stay there.
        monkeypatch.setattr(
            os, "sched_getaffinity", lambda _, n=cores: set(range(n)), raising=False
        )
        results.append(run_on_images(settings))
    assert curve(results[0]) == curve(results[1])
    assert same_weights(*results)


def test_every_image_is_seen_once_an_epoch_in_another_order_and_view(
    run_on_images, dataset, policy
):
    seen = []

    class Recorded(TrainingImages):
        def augmented(self, row, seed):
            seen.append((row, seed))
            return super().augmented(row, seed)

    run_on_images(
        FineTune(epochs=2, batch_size=50, learning_rate=1e-3),
        images=Recorded(dataset, policy, CONTRACT),
    )
    rows = dataset.rows("train").tolist()
    first, second = seen[: len(rows)], seen[len(rows) :]
    assert sorted(row for row, _ in first) == sorted(row for row, _ in second) == rows
    assert [row for row, _ in first] != [row for row, _ in second]
    assert len({seed for _, seed in seen}) == len(seen)


def test_progress_counts_every_image_and_tells_the_loss(run):
    recorder = Recorder()
    run(FineTune(epochs=2, batch_size=50, learning_rate=1e-3), progress=recorder)
    assert [(t.name, t.total, t.done) for t in recorder.tasks] == [
        ("epoch 1", 180, 180),
        ("epoch 2", 180, 180),
    ]
    assert all(note.startswith("loss ") for task in recorder.tasks for note in task.notes)
    told = [line for line in recorder.lines if line.startswith("epoch ")]
    assert len(told) == 2
    assert told[0].startswith("epoch 1/2: train loss 2.")
    assert all("val loss" in line and "val accuracy" in line for line in told)


def test_the_start_is_kept_when_training_only_harms(run, good):
    trained = run(FineTune(epochs=2, batch_size=18, learning_rate=HARMFUL), network=copy_of(good))
    assert trained.best_epoch == 0
    assert trained.curve[-1].val_accuracy < 0.3
    assert same_weights(trained, good)


def test_a_start_that_is_no_place_to_come_back_to_is_left(run, good):
    settings = FineTune(epochs=2, batch_size=18, learning_rate=HARMFUL)
    trained = run(settings, network=copy_of(good), keep_start=False)
    assert trained.best_epoch > 0
    assert not same_weights(trained, good)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("rate", [1e10, 1e30])
def test_a_diverging_training_names_the_learning_rate(run, optimizer, rate):
    with pytest.raises(RecipeError) as caught:
        run(FineTune(epochs=2, batch_size=18, learning_rate=rate, optimizer=optimizer))
    assert caught.value.where == "learning_rate"
    assert str(caught.value).startswith("learning_rate: ")
    assert str(caught.value).endswith(
        f"the training diverges. Lower learning_rate, which is {rate:g}."
    )


def test_a_gradient_too_long_to_measure_is_a_divergence_too(run):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 10))
    with torch.no_grad():
        network[1].weight.mul_(1e25)
        network[2].weight.mul_(1e-25)
    with pytest.raises(
        RecipeError, match=r"^learning_rate: .*Lower learning_rate, which is 0.01\.$"
    ):
        run(network=network)


def test_weights_that_the_last_step_ruined_are_never_kept(run, good):
    one_step = FineTune(epochs=1, batch_size=180, learning_rate=1e30, warmup=0)
    with pytest.raises(RecipeError, match=r"^learning_rate: "):
        run(one_step, network=copy_of(good))


def test_a_killed_run_goes_on_at_the_same_epoch_and_ends_with_the_same_weights(run, good, tmp_path):
    batches = 10
    with pytest.raises(KeyboardInterrupt):
        run(workspace=tmp_path, progress=Recorder(at_advance=batches + 5))
    recorder = Recorder()
    trained = run(workspace=tmp_path, progress=recorder)
    assert recorder.lines[0] == "resuming in epoch 2 of 3 at batch 1 of 10"
    assert [task.name for task in recorder.tasks] == ["epoch 2", "epoch 3"]
    assert same_weights(trained, good)
    assert curve(trained) == curve(good)


def test_a_run_killed_again_and_again_still_ends_with_the_same_weights(run, good, tmp_path):
    for after in (3, 12, 15, 5):
        with pytest.raises(KeyboardInterrupt):
            run(workspace=tmp_path, progress=Recorder(at_advance=after + 1))
    trained = run(workspace=tmp_path)
    assert same_weights(trained, good)
    seconds = [e.seconds for e in trained.curve]
    assert seconds == sorted(seconds)


@pytest.mark.parametrize("name", ["ema", "swa", "soup"])
def test_averaged_weights_come_through_a_kill_too(run, good, name, tmp_path):
    settings = SHORT.model_copy(update={"averaging": name})
    whole = run(settings, workspace=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(settings, workspace=tmp_path / "killed", progress=Recorder(at_advance=25))
    trained = run(settings, workspace=tmp_path / "killed")
    assert same_weights(trained, whole)
    assert curve(trained) == curve(whole)
    # Averaging looks on: it changes what val sees, never the training itself.
    assert [repr(e.train_loss) for e in whole.curve] == [repr(e.train_loss) for e in good.curve]
    if name != "soup":
        assert whole.curve[-1].val_loss != good.curve[-1].val_loss
        assert not same_weights(whole, good)


def test_a_soup_is_at_least_as_good_on_val_and_names_its_epochs(run, good):
    soup = run(SHORT.model_copy(update={"averaging": "soup"}))
    assert soup.val_accuracy >= max(e.val_accuracy for e in good.curve)
    assert soup.blend.epochs
    assert soup.curve[soup.blend.epochs[0]].val_accuracy == max(e.val_accuracy for e in soup.curve)


def test_a_soup_without_val_is_refused(run):
    with pytest.raises(RecipeError, match="soup chooses epochs on val"):
        run(SHORT.model_copy(update={"averaging": "soup"}), val=False)


def test_a_part_of_the_way_lies_between_start_and_end(run):
    start = mlp().state_dict()
    half = run(SHORT.model_copy(update={"wise_ft": 0.5}), val=False)
    whole = run(val=False)
    ends = whole.network.state_dict()
    for name, tensor in half.network.state_dict().items():
        if tensor.is_floating_point():
            assert torch.allclose(tensor, (start[name] + ends[name]) / 2, atol=1e-5), name


def test_where_all_of_the_way_only_harms_the_start_is_kept(run, good):
    harmful = FineTune(epochs=1, batch_size=18, learning_rate=HARMFUL, wise_ft="auto")
    kept = run(harmful, network=copy_of(good))
    assert kept.val_accuracy >= good.best.val_accuracy
    assert kept.blend.coefficient < 0.5
    assert kept.curve[-1].val_accuracy < kept.val_accuracy


def test_a_finished_training_is_not_done_again(run, good, tmp_path):
    run(workspace=tmp_path)
    recorder = Recorder()
    again = run(workspace=tmp_path, progress=recorder)
    assert recorder.tasks == []
    assert same_weights(again, good)


def test_the_best_weights_survive_a_kill(run, good, tmp_path):
    settings = FineTune(epochs=3, batch_size=18, learning_rate=HARMFUL)
    with pytest.raises(KeyboardInterrupt):
        run(settings, network=copy_of(good), workspace=tmp_path, progress=Recorder(at_advance=16))
    trained = run(settings, network=copy_of(good), workspace=tmp_path)
    assert trained.best_epoch == 0
    assert same_weights(trained, good)


def norms(network):
    return {n: t for n, t in network.state_dict().items() if "running" in n or "batches" in n}


def test_frozen_batch_norm_statistics_really_stay(good):
    before, after = norms(mlp()), norms(good.network)
    assert len(before) == 3
    assert all(torch.equal(before[name], after[name]) for name in before)
    weights = [n for n, m in good.network.named_modules() if isinstance(m, nn.BatchNorm1d)]
    start = mlp().state_dict()
    assert any(
        not torch.equal(start[f"{n}.weight"], good.network.state_dict()[f"{n}.weight"])
        for n in weights
    )


def test_batch_norm_statistics_move_when_asked(run):
    trained = run(FineTune(epochs=1, batch_size=18, learning_rate=1e-2, batch_norm="train"))
    before, after = norms(mlp()), norms(trained.network)
    moved = [n for n in before if "running" in n and not torch.equal(before[n], after[n])]
    assert len(moved) == sum("running" in n for n in before)


def test_batch_norm_learns_even_where_the_last_batch_is_a_single_image(run):
    settings = FineTune(epochs=1, batch_size=179, learning_rate=1e-3, batch_norm="train")
    assert len(run(settings).curve) == 2


def test_training_stops_when_val_gets_no_better(run, good):
    # Too small a rate to change a float: nothing gets better, and nothing by chance.
    settings = FineTune(
        epochs=9, batch_size=36, learning_rate=1e-30, schedule="constant", patience=2
    )
    recorder = Recorder()
    trained = run(settings, network=copy_of(good), progress=recorder)
    assert len(trained.curve) - 1 == 3
    assert recorder.lines[-1] == "early stopping: no improvement on val for 2 epochs"
    last = trained.curve[-2:]
    earlier = trained.curve[:-2]
    assert all(e.val_accuracy <= max(x.val_accuracy for x in earlier) for e in last)
    assert all(e.val_loss >= min(x.val_loss for x in earlier) for e in last)


def test_a_stopped_training_stays_stopped_when_it_is_called_again(run, good, tmp_path):
    settings = FineTune(
        epochs=9, batch_size=36, learning_rate=HARMFUL, schedule="constant", patience=1
    )
    first = run(settings, network=copy_of(good), workspace=tmp_path)
    again = run(settings, network=copy_of(good), workspace=tmp_path)
    assert curve(again) == curve(first)


def test_without_val_the_last_epoch_is_kept(run):
    recorder = Recorder()
    two = FineTune(epochs=2, batch_size=50, learning_rate=1e-2)
    trained = run(two, val=False, progress=recorder)
    assert trained.best_epoch == 2
    assert sum(line.endswith("(kept)") for line in recorder.lines) == 2
    assert not any("val" in line for line in recorder.lines)  # of nothing, no figures
    assert all(math.isnan(e.val_loss) for e in trained.curve)
    assert not same_weights(trained, mlp())


def test_an_optimizer_of_ones_own_takes_the_place_of_the_named_one(run):
    given = []

    def still(groups):
        given.extend(groups)
        return torch.optim.SGD(groups, lr=0.0)

    trained = run(
        FineTune(epochs=1, batch_size=36, learning_rate=1e-9, optimizer="adamw"), optimizer=still
    )
    assert {"params", "peak", "weight_decay"} <= set(given[0])
    assert sum(len(group["params"]) for group in given) == len(list(mlp().parameters()))
    assert trained.curve[1].val_loss == pytest.approx(trained.curve[0].val_loss, abs=1e-4)


def test_gradients_are_shortened_to_the_bound(run):
    settings = FineTune(
        epochs=1,
        batch_size=180,
        learning_rate=1.0,
        layer_decay=1.0,
        weight_decay=0.0,
        warmup=0,
        max_gradient_norm=1e-3,
    )
    network = mlp()
    run(settings, network=network, optimizer=lambda groups: torch.optim.SGD(groups, lr=1.0))
    start, end = mlp().state_dict(), network.state_dict()
    moved = [(end[n] - start[n]).float().norm() ** 2 for n, _ in network.named_parameters()]
    assert float(sum(moved)) ** 0.5 <= 1.01e-3


def test_a_warm_cache_a_cold_one_and_none_give_the_very_same_network(run_on_images, tmp_path):
    cache = tmp_path / "cache"
    cold = run_on_images(cache=cache)
    assert list(cache.glob("pixels/*/*.rows"))
    warm = run_on_images(cache=cache)
    without = run_on_images(cache=tmp_path / "none", cache_gb=0)
    assert not (tmp_path / "none").exists()
    for other in (warm, without):
        assert same_weights(cold, other)
        assert curve(cold) == curve(other)


def test_what_was_decoded_once_is_not_decoded_again(run_on_images, dataset, digits, tmp_path):
    copy = tmp_path / "digits"
    shutil.copytree(digits, copy)
    moved = replace(dataset, root=copy)
    first = run_on_images(data=moved, cache=tmp_path / "cache")
    shutil.rmtree(copy)
    assert same_weights(first, run_on_images(data=moved, cache=tmp_path / "cache"))
    with pytest.raises(UnreadableImage):
        run_on_images(data=moved, cache=tmp_path / "another")


EVALUATED = Policy(
    crop_area=1.0,
    horizontal_flip=False,
    color=0.0,
    operations=(),
    operations_per_image=0,
    strength=0.0,
)


def test_a_training_view_without_augmentation_is_what_evaluation_sees(dataset):
    views = TrainingImages(dataset, EVALUATED, CONTRACT)
    for row in dataset.rows("train")[:5]:
        assert np.array_equal(views.augmented(int(row), 7), CONTRACT.read(dataset.path(row)))


@pytest.mark.parametrize("side", [40, 150, 300, 500])
def test_that_holds_for_a_photo_that_the_decoder_may_shrink(tmp_path, side):
    noise = np.random.default_rng(0).integers(0, 256, (side, side + 40, 3), np.uint8)
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.fromarray(noise).save(tmp_path / name / "photo.jpg", quality=90)
    photos = read(tmp_path)
    seen = TrainingImages(photos, EVALUATED, CONTRACT).augmented(0, seed=0)
    assert np.array_equal(seen, CONTRACT.read(photos.path(0)))


def test_from_images_altered_on_the_device_a_network_learns_the_same_every_time(run_on_images):
    settings = SHORT.model_copy(update={"augment_on": "device"})
    trained, again = run_on_images(settings), run_on_images(settings)
    assert same_weights(trained, again)
    assert trained.best.val_accuracy > 0.6
    for ours, theirs in zip(trained.curve[1:], run_on_images(SHORT).curve[1:], strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, rel=0.05)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_from_mixed_images_a_network_learns_and_is_less_sure(run_on_images, dataset, policy, name):
    mixing = replace(policy, **{name: 1.0})
    settings = SHORT.model_copy(update={"epochs": 5})
    mixed, again = (
        run_on_images(settings, images=TrainingImages(dataset, mixing, CONTRACT)) for _ in range(2)
    )
    assert same_weights(mixed, again)
    assert curve(mixed) == curve(again)
    assert mixed.best.val_accuracy > 0.3  # chance is 0.1
    plain = run_on_images(settings)
    assert not same_weights(mixed, plain)

    to_input = Normalizer(CONTRACT, torch.device("cpu"))
    images = np.stack([CONTRACT.read(dataset.path(row)) for row in dataset.rows("train")[:60]])

    def sureness(trained):
        with torch.inference_mode():
            logits = trained.network(to_input(torch.from_numpy(images)))
        return float(logits.softmax(1).max(1).values.mean())

    assert sureness(mixed) < sureness(plain)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "lion"},
        {"optimizer": "muon"},
        {"optimizer": "schedule_free"},
        {"optimizer": "sgd", "schedule": "one_cycle"},
        {"sam": "sam", "accumulation_steps": 2},
        {"sam": "asam"},
    ],
    ids=repr,
)
def test_every_way_to_learn_goes_on_with_the_same_weights(run, tmp_path, settings):
    made = FineTune(epochs=2, batch_size=60, **settings)
    whole = run(made, network=mlp())
    with pytest.raises(KeyboardInterrupt):
        run(made, network=mlp(), workspace=tmp_path, progress=Recorder(at_advance=5))
    parted = run(made, network=mlp(), workspace=tmp_path)
    assert whole.best_epoch > 0
    assert not same_weights(whole, mlp())
    assert curve(parted) == curve(whole)
    assert same_weights(parted, whole)


def test_a_batch_worked_off_in_parts_gives_the_same_step(run):
    one = FineTune(epochs=1, batch_size=60, optimizer="sgd", learning_rate=1e-2)
    parts = one.model_copy(update={"accumulation_steps": 7})
    whole, parted = run(one), run(parts)
    assert parted.curve[1].train_loss == pytest.approx(whole.curve[1].train_loss, rel=1e-4)
    assert parted.curve[1].val_loss == pytest.approx(whole.curve[1].val_loss, rel=1e-4)


def test_looking_for_flat_minima_takes_other_steps(run):
    plain = FineTune(epochs=1, batch_size=60, optimizer="sgd", learning_rate=1e-2)
    results = [run(plain.model_copy(update={"sam": s})) for s in ("none", "sam")]
    far = run(plain.model_copy(update={"sam": "sam", "sam_radius": 1e-9}))
    start, found, near = (
        torch.cat([p.detach().flatten() for p in made.network.parameters()])
        for made in (*results, far)
    )
    assert (found - start).norm() > 100 * (near - start).norm()
    assert (found - start).norm() > 1e-5


def test_a_rate_that_tears_the_network_away_is_said_though_numbers_stay_finite(run, good):
    settings = FineTune(epochs=2, batch_size=18, learning_rate=3.0, warmup=0.0)
    recorder = Recorder()
    trained = run(settings, network=copy_of(good), progress=recorder)
    assert trained.is_start
    assert "No epoch was better on val than the start, so the start was kept." in recorder.lines
    assert recorder.lines[-1].startswith("Val loss rose from ")
    assert recorder.lines[-1].endswith(
        ": the learning rate 3 is probably too high. Lower learning_rate, or set it to find."
    )


def test_a_start_that_is_merely_as_good_is_not_called_torn_away(run, good):
    recorder = Recorder()
    settings = FineTune(epochs=1, batch_size=18, learning_rate=1e-9)
    trained = run(settings, network=copy_of(good), progress=recorder)
    assert not any("too high" in line for line in recorder.lines)
    assert trained.is_start == any("the start was kept" in line for line in recorder.lines)


def test_batch_norm_learns_from_a_short_last_batch_in_parts(run):
    size = next(n for n in range(12, 180) if 180 % n in (2, 3))
    settings = FineTune(epochs=1, batch_size=size, accumulation_steps=4, batch_norm="train")
    assert len(run(settings).curve) == 2
