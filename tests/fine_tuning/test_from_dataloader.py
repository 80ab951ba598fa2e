"""`acclimate.fine_tune` as in a loop written by hand: a module, an optimizer, a DataLoader."""

import math
import signal

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import acclimate
from acclimate.errors import AcclimateError, DataError, ModelFileError, RecipeError
from acclimate.fine_tuning import from_dataloader
from acclimate.progress import SilentProgress
from kit import Recorder


def digits(part=slice(0, 400)):
    images, labels = load_digits(return_X_y=True)
    tensor = torch.from_numpy((images[part].reshape(-1, 1, 8, 8) / 8 - 1).astype(np.float32))
    return TensorDataset(tensor.repeat(1, 3, 1, 1), torch.from_numpy(labels[part]))


def loaders():
    return DataLoader(digits(), 32, shuffle=True), DataLoader(digits(slice(400, 600)), 64)


def network(drop=0.0):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Dropout(drop),
            nn.Linear(16 * 64, 10),
        )  # fmt: skip


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return all(torch.equal(a[name], b[name]) for name in a)


def test_a_module_an_optimizer_and_a_loader_are_enough():
    mine, (train, val) = network(), loaders()
    optimizer = torch.optim.SGD(mine.parameters(), lr=0.1, momentum=0.9)
    tuned = acclimate.fine_tune(
        mine, train, val=val, optimizer=optimizer, device="cpu", epochs=5, lr=0.05
    )
    assert tuned.best.val_accuracy > 0.75
    assert [e.epoch for e in tuned.curve] == list(range(6))
    images, labels = digits(slice(400, 600)).tensors
    with torch.no_grad():
        accuracy = float((tuned.network(images).argmax(1) == labels).float().mean())
    assert accuracy == pytest.approx(tuned.best.val_accuracy)
    assert same(mine, network())  # yours is unchanged
    assert optimizer.state_dict()["state"] == {}
    assert optimizer.param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize(
    "optimizer", ["sgd", torch.optim.RAdam, lambda groups: torch.optim.Adagrad(groups)]
)
def test_an_optimizer_may_be_a_name_a_class_or_a_function(optimizer):
    train, val = loaders()
    tuned = acclimate.fine_tune(
        network(), train, val=val, optimizer=optimizer, device="cpu", epochs=3, lr=0.01
    )
    assert tuned.best.val_accuracy > tuned.curve[0].val_accuracy + 0.2


def test_without_val_the_last_epoch_is_kept():
    train, _ = loaders()
    tuned = acclimate.fine_tune(network(), train, device="cpu", epochs=2, lr=0.01)
    assert tuned.best_epoch == 2
    assert math.isnan(tuned.best.val_loss)


def test_the_seed_governs_order_and_dropout_and_a_stopped_run_goes_on_at_the_next_batch(tmp_path):
    def go(progress=None, workspace=None, seed=0):
        mine, (train, val) = network(0.5), loaders()
        return acclimate.fine_tune(
            mine, train, val=val, device="cpu", epochs=2, lr=0.01, seed=seed, workspace=workspace,
            optimizer=torch.optim.Adam(mine.parameters()),
            progress=progress or SilentProgress(),
        )  # fmt: skip

    whole = go()
    torch.manual_seed(99)  # whatever the user did before
    assert same(go().network, whole.network)
    assert not same(go(seed=1).network, whole.network)
    with pytest.raises(KeyboardInterrupt):
        go(Recorder(at_advance=13 + 4, by=signal.SIGINT), tmp_path)  # 13 batches an epoch
    resumed = go(workspace=tmp_path)
    assert same(resumed.network, whole.network)
    assert resumed.curve[2].train_loss == whole.curve[2].train_loss


def test_what_the_optimizer_leaves_out_stays():
    mine, (train, _) = network(), loaders()
    optimizer = torch.optim.SGD(mine[-1].parameters(), lr=0.05)
    tuned = acclimate.fine_tune(mine, train, optimizer=optimizer, device="cpu", epochs=1)
    assert torch.equal(tuned.network[0].weight, mine[0].weight)
    assert not torch.equal(tuned.network[-1].weight, mine[-1].weight)
    assert mine[0].weight.requires_grad


def test_groups_of_the_optimizer_keep_their_rates():
    mine, ours = network(), network()
    optimizer = torch.optim.AdamW(
        [{"params": mine[0].parameters(), "lr": 1e-4}, {"params": mine[-1].parameters()}], lr=1e-2
    )
    groups = from_dataloader.groups_for_copy(optimizer, mine, ours, None)
    assert [g["peak"] for g in groups] == [1e-4, 1e-2]
    assert groups[0]["params"][0] is ours[0].weight
    assert [g["peak"] for g in from_dataloader.groups_for_copy(optimizer, mine, ours, 0.5)] == [
        0.5,
        0.5,
    ]


def test_an_optimizer_of_another_model_is_refused():
    train, _ = loaders()
    stranger = torch.optim.SGD(network().parameters(), lr=0.1)
    with pytest.raises(RecipeError) as caught:
        acclimate.fine_tune(network(), train, optimizer=stranger, device="cpu", epochs=1)
    assert str(caught.value) == (
        "optimizer: SGD holds parameters of another model. Create it from model.parameters() of "
        "the model that you pass."
    )


def test_an_optimizer_also_goes_with_a_data_set(start, dataset, policy):
    module = start.module()
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-9)
    tuned = acclimate.fine_tune(
        start, dataset, policy=policy, optimizer=optimizer, device="cpu", epochs=1, batch_size=90
    )
    step = tuned.card.steps[-1]
    assert step.figures["learning_rate"] == 1e-9
    assert step.settings["weight_decay"] == 0.0
    assert step.settings["optimizer"] == "SGD"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"image_size": 32}, "image_size: image_size does not apply to a DataLoader."),
        ({"batch_size": 8}, "batch_size: batch_size does not apply to a DataLoader of your own."),
        ({"epoch": 3}, "FineTune has no setting 'epoch'. Did you mean 'epochs'"),
    ],
)
def test_what_does_not_apply_to_a_loader_is_refused(given, said):
    train, _ = loaders()
    with pytest.raises(RecipeError) as caught:
        acclimate.fine_tune(network(), train, device="cpu", **given)
    assert str(caught.value).startswith(said)


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield torch.zeros(3, 8, 8), 0


def batch(images=None, labels=None):
    images = torch.zeros(4, 3, 8, 8) if images is None else images
    return [(images, torch.arange(4) if labels is None else labels)]


IMAGES = "Give pairs (images: float (B, 3, H, W), labels: int (B,) or probabilities (B, C))."
NAN = torch.full((4, 3, 8, 8), math.nan)


@pytest.mark.parametrize(
    ("data", "val", "said"),
    [
        ([], None, "loader: loader has no batches."),
        (DataLoader(Endless(), 4), None,
         "loader: DataLoader has no length. Give a loader with a length: the schedule needs the "
         "number of steps."),
        ([torch.zeros(4, 3, 8, 8)], None, f"loader: batch 0 is a Tensor, not a pair. {IMAGES}"),
        ([(np.zeros((4, 3, 8, 8)), np.arange(4))], None,
         f"loader: batch 0 holds ndarray and ndarray, not tensors. {IMAGES}"),
        (batch(torch.zeros(4, 3, 8, 8, dtype=torch.uint8)), None,
         f"loader: images of batch 0 are uint8 (4, 3, 8, 8). {IMAGES}"),
        (batch(torch.zeros(4, 64)), None,
         f"loader: images of batch 0 are float32 (4, 64). {IMAGES}"),
        (batch(labels=torch.arange(3)), None,
         f"loader: labels of batch 0 are int64 (3,) for 4 images and 10 logits. {IMAGES}"),
        (batch(labels=torch.rand(4, 7)), None,
         f"loader: labels of batch 0 are float32 (4, 7) for 4 images and 10 logits. {IMAGES}"),
        (batch() + batch(labels=torch.tensor([1, 2, 10, 3])), None,
         "loader: label 10 in batch 1 is out of range: the network has 10 logits, so labels go "
         "from 0 to 9."),
        (batch(), batch(labels=torch.tensor([1, -1, 0, 3])),
         "val: label -1 in batch 0 is out of range: the network has 10 logits, so labels go from "
         "0 to 9."),
        (batch(), batch(NAN),
         "val: 4 images (0 first) of batch 0 hold non-finite pixels."),
        (batch(NAN) * 3, None,
         "images: 4 images (8, 9, 10, 11) hold non-finite pixels, at step 2; 3 steps of this epoch "
         "skipped. Check where they come from: a standard deviation of 0, or a damaged file."),
    ],
)  # fmt: skip
def test_a_loader_that_gives_something_else_is_told_so_in_one_sentence(data, val, said):
    with pytest.raises(DataError) as caught:
        acclimate.fine_tune(network(), data, val=val, device="cpu", epochs=1)
    assert str(caught.value) == said


def test_a_network_that_does_not_fit_the_images_is_told_so():
    data = batch(torch.zeros(4, 3, 16, 16))
    with pytest.raises(ModelFileError) as caught:
        acclimate.fine_tune(network(), data, device="cpu", epochs=1)
    said = str(caught.value)
    assert said.startswith(
        "Sequential cannot be run on the loader's images, float32 (3, 16, 16) (mat1 and mat2"
    )
    with pytest.raises(ModelFileError, match=r"returns \(1, 3, 8, 8\) for one image, not logits"):
        acclimate.fine_tune(nn.Conv2d(3, 3, 1), batch(), device="cpu", epochs=1)


def test_a_loader_goes_with_a_module_and_val_with_a_loader(dataset):
    with pytest.raises(AcclimateError, match=r"^model: a DataLoader of your own needs a torch"):
        acclimate.fine_tune("efficientnet-lite0", batch(), device="cpu")
    with pytest.raises(AcclimateError, match=r"^val: val does not apply to a data set, which has"):
        acclimate.fine_tune("efficientnet-lite0", dataset, val=batch(), device="cpu")


def test_a_checkpoint_of_other_images_or_another_loss_is_refused(tmp_path):
    def go(part, **given):
        train = DataLoader(digits(part), 32, shuffle=True)
        return acclimate.fine_tune(
            network(), train, val=DataLoader(digits(slice(400, 600)), 64), device="cpu", epochs=1,
            workspace=tmp_path, **given,
        )  # fmt: skip

    first = go(slice(0, 128))
    assert same(go(slice(0, 128)).network, first.network)
    with pytest.raises(ModelFileError, match="another training: data was"):
        go(slice(128, 256))
    with pytest.raises(ModelFileError, match="loss was 'cross_entropy' there and is 'focal' here"):
        go(slice(0, 128), loss="focal")


@pytest.mark.parametrize(("given", "where"), [
    ({"batch_norm": "reestimate"}, "batch_norm: batch_norm=reestimate needs images"),
    ({"augment_on": "device"}, "augment_on: augment_on does not apply to a DataLoader"),
])  # fmt: skip
def test_what_a_loader_cannot_do_is_refused(given, where):
    with pytest.raises(RecipeError, match=where):
        acclimate.fine_tune(network(), loaders()[0], device="cpu", epochs=1, **given)


@pytest.mark.parametrize(("images", "size"), [(4, 1), (9, 8)], ids=["each alone", "the last alone"])
def test_batch_norm_that_meets_one_image_says_so(images, size):
    normed = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    loader = DataLoader(digits(slice(0, images)), size)
    with pytest.raises(
        RecipeError, match="batch_norm: train needs at least two images per forward pass"
    ):
        acclimate.fine_tune(normed, loader, device="cpu", epochs=1, batch_norm="train")
