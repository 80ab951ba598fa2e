"""The front door from Python: what a notebook calls."""

import inspect
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import acclimate
from acclimate.augmentation.policy import choose_policy
from acclimate.errors import AcclimateError, ModelFileError, RecipeError
from acclimate.fine_tuning.fine_tune import fine_tune as stage
from acclimate.fine_tuning.settings import FineTune
from kit import CONTRACT, Recorder

ONE = {"epochs": 1, "batch_size": 60, "lr": 1e-2, "device": "cpu", "policy": choose_policy()}
"""One epoch with the default policy: none has to be found on the data."""


class Own(nn.Module):
    """A network of somebody's own, with a head for another number of classes."""

    def __init__(self, classes=7):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3)
        )
        self.head = nn.Linear(32, classes)

    def forward(self, x):
        return self.head(self.body(x).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def small(blank):
    """A small classifier that has the digits' classes and knows nothing of them. Never changed."""
    return blank


@pytest.fixture(scope="module")
def learnt(trained):
    """It after a few epochs. Never changed."""
    return trained


@pytest.mark.slow
def test_the_five_lines_of_a_notebook(small, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    replace(small, classes=tuple("abcdefghij")).save(Path("pretrained"))

    photos = acclimate.clean(digits)
    model = acclimate.fine_tune("pretrained", photos, epochs=1)
    little = acclimate.quantize(model, photos, max_accuracy_drop=50)
    accuracy = acclimate.evaluate(little, photos).metrics["home"]["accuracy"]
    little.save(Path("digits.model"))

    assert 0.5 < accuracy.low <= accuracy.value <= accuracy.high <= 1
    assert [step.stage for step in model.card.steps] == ["probe", "fine_tune"]
    assert little.precision == "int8"
    answer = acclimate.predict("digits.model", digits / "test" / "3")[0]
    assert answer.classes[0] in "0123456789"


def test_fine_tune_takes_the_names_that_everybody_uses(small, dataset):
    model = acclimate.fine_tune(small, dataset, optimizer="sgd", seed=3, **{**ONE, "lr": 0.05})
    settings = model.card.steps[-1].settings
    assert settings["optimizer"] == "sgd"
    assert settings["learning_rate"] == 0.05
    assert settings["epochs"] == 1
    assert len(model.card.steps[-1].curve) == 2


def test_the_front_door_leads_to_the_stage(small, dataset, policy, context):
    settings = FineTune(epochs=1, batch_size=60, learning_rate=1e-2)
    ours = acclimate.fine_tune(small, dataset, seed=7, **{**ONE, "policy": policy})
    theirs = stage(small, dataset, policy, settings, context=replace(context, seed=7))
    assert ours.digest == theirs.digest
    other = acclimate.fine_tune(small, dataset, seed=8, **{**ONE, "policy": policy})
    assert other.digest != ours.digest


def test_the_facts_of_the_run_may_be_given_at_once_and_what_stands_beside_them_counts(
    small, dataset, policy, context, tmp_path
):
    here = replace(context, seed=7, cache=tmp_path / "cache")
    nowhere = replace(here, seed=1, cache=tmp_path / "none", cache_gb=0)
    shared = {**ONE, "policy": policy}
    ours = acclimate.fine_tune(small, dataset, context=here, **shared)
    assert list((tmp_path / "cache").glob("pixels/*/*.rows"))
    other = acclimate.fine_tune(small, dataset, context=nowhere, seed=7, **shared)
    assert not (tmp_path / "none" / "pixels").exists()
    assert ours.digest == other.digest
    assert ours.digest != acclimate.fine_tune(small, dataset, context=nowhere, **shared).digest


def test_folders_stand_for_model_and_data(small, digits, tmp_path):
    small.save(tmp_path / "model")
    by_text = acclimate.fine_tune(str(tmp_path / "model"), str(digits), **ONE)
    by_path = acclimate.fine_tune(tmp_path / "model", digits, **ONE)
    assert by_text.digest == by_path.digest
    assert by_text.classes == tuple("0123456789")


def test_a_module_of_ones_own_learns_the_classes_of_the_data(dataset):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Own()
    before = {name: t.clone() for name, t in network.state_dict().items()}
    model = acclimate.fine_tune(network, dataset, contract=CONTRACT, **{**ONE, "batch_size": 18})
    assert model.classes == tuple("0123456789")
    assert model.module()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert model.card.steps[-1].figures["val_accuracy"] > 0.3
    assert model.card.source == "user's own module"
    after = network.state_dict()
    assert all(torch.equal(t, after[name]) for name, t in before.items())
    assert network.head.out_features == 7


def test_a_fine_tuned_module_of_ones_own_is_loaded_into_a_fresh_one(dataset, tmp_path):
    model = acclimate.fine_tune(Own(), dataset, contract=CONTRACT, **ONE)
    model.save(tmp_path / "model")
    back = acclimate.Classifier.load(tmp_path / "model", network=Own(classes=10))
    assert back.digest == model.digest


def test_a_module_without_a_contract_is_asked_for_one(dataset):
    with pytest.raises(ModelFileError, match="Own has no input contract"):
        acclimate.fine_tune(Own(), dataset, epochs=1)


def my_adamax(groups):
    return torch.optim.Adamax(groups)


def test_an_optimizer_of_ones_own_is_recorded_by_its_qualified_name(small, dataset):
    model = acclimate.fine_tune(small, dataset, optimizer=my_adamax, **ONE)
    assert model.card.steps[-1].settings["optimizer"].endswith("my_adamax")
    from_torch = acclimate.fine_tune(small, dataset, optimizer=torch.optim.RMSprop, **ONE)
    assert from_torch.card.steps[-1].settings["optimizer"].endswith("RMSprop")
    assert from_torch.digest != model.digest


def test_the_size_of_the_input_can_be_given(small, dataset):
    model = acclimate.fine_tune(small, dataset, image_size=40, **ONE)
    assert model.contract.image_size == 40
    assert small.contract.image_size == 32


def test_a_workspace_lets_the_same_call_go_on(small, dataset, tmp_path):
    first = acclimate.fine_tune(small, dataset, workspace=tmp_path, **ONE)
    recorder = Recorder()
    again = acclimate.fine_tune(small, dataset, workspace=tmp_path, progress=recorder, **ONE)
    assert again.digest == first.digest
    assert "resuming after epoch 1 of 1" in recorder.lines


@pytest.mark.parametrize(
    ("call", "wrong", "told"),
    [
        ("fine_tune", {"epoch": 3}, "FineTune has no setting 'epoch'. Did you mean 'epochs'?"),
        (
            "fine_tune",
            {"learningrate": 0.1},
            "FineTune has no setting 'learningrate'. Did you mean 'learning_rate'?",
        ),
        (
            "distill",
            {"temprature": 3},
            "Distill has no setting 'temprature'. Did you mean 'temperature'?",
        ),
        ("prune", {"ratios": 0.3}, "Prune has no setting 'ratios'. Did you mean 'ratio'?"),
        (
            "quantize",
            {"max_drop": 1},
            "Quantize has no setting 'max_drop'. Did you mean 'max_accuracy_drop'?",
        ),
        (
            "evaluate",
            {"bootstraps": 9},
            "Evaluate has no setting 'bootstraps'. Did you mean 'bootstrap'?",
        ),
        (
            "export",
            {"check_image": 9},
            "Export has no setting 'check_image'. Did you mean 'check_images'?",
        ),
    ],
)
def test_a_wrong_keyword_is_answered_with_the_nearest_name(call, wrong, told, small, dataset):
    with pytest.raises(RecipeError) as caught:
        getattr(acclimate, call)(small, dataset, **wrong)
    assert str(caught.value) == told
    assert caught.value.exit_code == 2


def test_a_wrong_value_is_told_once_with_what_was_given(small, dataset):
    with pytest.raises(RecipeError) as caught:
        acclimate.fine_tune(small, dataset, epochs=0)
    assert str(caught.value).startswith("epochs ")
    assert str(caught.value).endswith("got 0.")
    assert str(caught.value).count("epochs") == 1


def test_an_unknown_optimizer_names_those_there_are(small, dataset):
    with pytest.raises(RecipeError) as caught:
        acclimate.fine_tune(small, dataset, optimizer="adam")
    assert "'adamw'" in str(caught.value)
    assert "'sgd'" in str(caught.value)
    assert "got 'adam'" in str(caught.value)


def test_both_names_of_the_rate_at_once_are_refused(small, dataset):
    with pytest.raises(RecipeError):
        acclimate.fine_tune(small, dataset, lr=0.1, learning_rate=0.2, epochs=1)


def test_augmentation_is_made_from_keywords():
    policy = acclimate.augment(horizontal_flip=False, strength=0.1)
    assert isinstance(policy, acclimate.Policy)
    assert policy.horizontal_flip is False
    with pytest.raises(RecipeError) as caught:
        acclimate.augment(flip=False)
    assert str(caught.value).startswith("Augment has no setting 'flip'. ")


def test_augmentation_asks_a_model_and_data_and_tells_the_evidence(small, dataset, context):
    found = acclimate.augment(small, dataset, context=context, operations_per_image=0)
    asked = {line.operation for line in found.evidence}
    assert asked == {"horizontal_flip", "vertical_flip", "crop", "jitter"}
    assert found.horizontal_flip is False  # they are digits
    with pytest.raises(RecipeError) as caught:
        acclimate.augment(small)
    assert str(caught.value) == "augment: a model and data are needed, or neither."


def test_clean_makes_a_dataset_and_leaves_classes_out(digits):
    photos = acclimate.clean(digits, leave_out_classes=["7", "8"])
    assert isinstance(photos, acclimate.Dataset)
    assert photos.classes == tuple("01234569")
    assert acclimate.clean(str(digits), seed=1).classes == tuple("0123456789")


def test_a_probe_is_fitted_to_the_data(small, dataset, context):
    probed = acclimate.probe(small, dataset, context=context)
    assert probed.card.steps[-1].stage == "probe"
    assert probed.card.steps[-1].figures["val_accuracy"] > 0.5


@pytest.mark.slow
def test_the_stages_follow_one_another(learnt, dataset, policy, context, tmp_path):
    taught = acclimate.distill(
        learnt, dataset, policy=policy, context=context, epochs=1, batch_size=60, lr=1e-4
    )
    exported = acclimate.export(taught, dataset, context=context)
    quantized = acclimate.quantize(exported, dataset, context=context, max_accuracy_drop=50)
    last = acclimate.prune(quantized, dataset, policy=policy, context=context, ratio=0.1, lr=1e-3)
    told = [step.stage for step in last.card.steps]
    assert told[-4:] == ["distill", "export", "quantize", "prune"]
    assert quantized.precision == "int8"
    assert last.card.steps[-1].settings["ratio"] == 0.1
    assert last.card.steps[-1].notes[0].startswith("Not pruned: ")

    shared = {"context": context, "latency": False, "bootstrap": 100}
    before = acclimate.evaluate(learnt, dataset, name="before", **shared)
    after = acclimate.evaluate(quantized, dataset, name="after", **shared)
    assert after.metrics["home"]["accuracy"].value > 0.4
    assert after.size_bytes < before.size_bytes
    before.save(tmp_path / "before")
    after.save(tmp_path / "after")
    compared = acclimate.compare(before, after)
    assert isinstance(compared, acclimate.Comparison)
    from_disk = acclimate.compare(str(tmp_path / "before"), tmp_path / "after")
    assert from_disk.as_record() == compared.as_record()


def test_a_student_may_be_a_classifier_and_teachers_functions(small, learnt, dataset, context):
    teachers = [learnt, lambda images: torch.zeros(len(images), 10)]
    taught = acclimate.distill(
        teachers,
        dataset,
        policy=choose_policy(),
        context=context,
        student=small,
        epochs=1,
        batch_size=60,
    )
    step = taught.card.steps[-1]
    assert step.settings["student"] == small.name
    assert step.notes[0] == f"Teacher: {learnt.name}, {learnt.digest}."
    assert "lambda" in step.notes[1]
    assert step.figures["start_val_accuracy"] < learnt.card.steps[-1].figures["val_accuracy"]


def test_prediction_takes_a_file_a_folder_and_a_list(learnt, digits, tmp_path):
    files = sorted((digits / "test" / "4").glob("*.png"))
    alone = acclimate.predict(learnt, str(files[0]), device="cpu")
    folder = acclimate.predict(learnt, digits / "test" / "4", device="cpu")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    listed = acclimate.predict(
        learnt, [files[0], str(tmp_path / "broken.png")], top=3, device="cpu"
    )
    assert [p.path for p in folder] == files
    assert alone[0].classes == folder[0].classes == listed[0].classes[:1]
    assert len(listed[0].classes) == len(listed[0].probabilities) == 3
    assert all(a >= b for a, b in itertools.pairwise(listed[0].probabilities))
    assert listed[1].error
    assert listed[1].classes == ()


def test_data_without_splits_is_evaluated_whole(learnt, shifted, context):
    found = acclimate.evaluate(learnt, shifted, context=context, latency=False, bootstrap=100)
    assert found.table.num_rows == len(list(shifted.rglob("*.png")))
    assert found.split == "test"


def test_an_absent_model_is_one_clear_error(dataset):
    with pytest.raises(AcclimateError) as caught:
        acclimate.fine_tune("efficientnet-lite00", dataset)
    assert "Did you mean 'efficientnet-lite0'" in str(caught.value)


def test_what_a_notebook_shows_of_a_model_is_short(learnt):
    assert "test_efficientnet" in repr(learnt)
    assert len(repr(replace(learnt, graph=bytes(1_000_000)))) < 5000


def test_pixels_of_ones_own_can_be_asked_directly(learnt):
    images = np.zeros((2, 32, 32, 3), np.uint8)
    inputs = torch.from_numpy(learnt.contract.normalize(images))
    assert learnt.module()(inputs).shape == (2, 10)


def test_a_search_takes_keywords_and_leaves_what_is_given(small, dataset, tmp_path):
    here = acclimate.Context(device="cpu")
    more = {"epochs": 1, "batch_size": 60, "lr": 1e-2, "context": here, "policy": choose_policy()}
    place = tmp_path / "search"
    found = acclimate.search(
        small, dataset, place, trials=2, ranges={"mixup": (), "label_smoothing": None}, **more
    )
    assert [trial.outcome for trial in found.trials] == ["done", "done"]
    assert "learning_rate" not in found.trials[1].values
    assert "mixup" not in found.trials[1].values
    assert found.settings.learning_rate == 1e-2
    assert (place / "trials.csv").is_file()
    with pytest.raises(RecipeError) as caught:
        acclimate.search(small, dataset, place, trials=2, ranges={"drop": (0, 1)}, **more)
    assert "Search has no setting 'drop'." in str(caught.value)


def test_every_stage_says_what_happens_to_the_progress_it_is_given(learnt, dataset):
    recorder = Recorder()
    more = {"policy": choose_policy(), "epochs": 1, "max_accuracy_drop": 100}
    acclimate.prune(learnt, dataset, progress=recorder, ratio=0.1, **more)
    assert any(line.startswith("prune: ") for line in recorder.lines)
    for name in ("clean", "inspect", "augment", "probe", "fine_tune", "distill", "prune",
                 "quantize", "export", "evaluate"):  # fmt: skip
        assert "progress" in inspect.signature(getattr(acclimate, name)).parameters, name
