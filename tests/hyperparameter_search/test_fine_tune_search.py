"""A search: never below the default, bad trials ended, killed and gone on with, one best model."""

import csv
import shutil
import time
from dataclasses import replace

import pytest
import torch
from filelock import FileLock
from torch import nn

from acclimate.errors import DataError, OutputError, RecipeError
from acclimate.fine_tuning.fine_tune import fine_tune
from acclimate.fine_tuning.settings import FineTune
from acclimate.hyperparameter_search.fine_tune_search import Budget, search
from acclimate.hyperparameter_search.head_trials import competitive_heads
from acclimate.hyperparameter_search.settings import Search
from acclimate.models.classifier import Classifier
from acclimate.models.pretrained import wrap
from kit import CONTRACT, Recorder

GIVEN = FineTune(epochs=2, batch_size=30)
RATES = Search(learning_rate=(3e-3, 3e-2), trainable=("all", "last"), mixup=())
ONLY_RATES = Search(
    weight_decay=None, layer_decay=None, label_smoothing=None, dropout=None, trainable=(), mixup=()
)
SIX = Budget(6)


@pytest.fixture(scope="module")
def given(blank, dataset, policy):
    return blank, dataset, policy, GIVEN


@pytest.fixture(scope="module")
def found(given, context, tmp_path_factory):
    """A search of six trials. Its folder is read only."""
    place = tmp_path_factory.mktemp("search") / "leaf.search"
    return search(*given, RATES, budget=SIX, folder=place, context=context)


def facts(trials):
    """All but the time it took."""
    return [replace(t, seconds=0.0) for t in trials]


def test_the_first_trial_is_what_fine_tuning_does_by_itself(found, given, context):
    alone = fine_tune(*given, context=context)
    first = found.trials[0]
    assert first.digest == alone.digest
    assert first.val_accuracy == alone.card.steps[-1].figures["val_accuracy"]


def test_the_best_is_better_than_the_default_here_and_is_what_comes_out(found):
    assert len(found.trials) == 6
    assert found.best.val_accuracy == max(t.val_accuracy for t in found.trials)
    assert found.best.val_accuracy > found.trials[0].val_accuracy + 0.1
    assert found.classifier.digest == found.best.digest
    assert found.settings.learning_rate == found.best.values["learning_rate"]


def test_the_best_settings_alone_give_the_same_model(found, blank, dataset, context):
    again = fine_tune(blank, dataset, found.policy, found.settings, context=context)
    assert again.digest == found.classifier.digest
    figures = again.card.steps[-1].figures
    assert figures["val_accuracy"] == found.best.val_accuracy


def test_the_card_says_that_val_chose_the_best_of_many(found):
    assert found.classifier.card.steps[-1].notes[-1] == (
        "Best of 6 trials on val, so its val accuracy is too high; see its test accuracy."
    )


def test_only_the_best_model_is_kept_and_a_table_of_all(found):
    names = sorted(p.name for p in found.folder.iterdir())
    assert names == [".lock", "best", "trials.csv", "trials.sqlite"]
    assert Classifier.load(found.folder / "best").digest == found.best.digest
    with (found.folder / "trials.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    network = [line for line in lines if line["phase"] == "network"]
    assert [int(line["number"]) for line in network] == list(range(6))
    assert float(network[0]["learning_rate"]) == pytest.approx(5e-4 * (30 / 32) ** 0.5)
    assert sum(line["phase"] == "features" for line in lines) == 12


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [2, 8])
def test_an_interrupted_search_goes_on_to_the_same_end(found, given, context, tmp_path, stop_at):
    place = tmp_path / "leaf.search"
    here = replace(context, progress=Recorder(at_task=stop_at))
    with pytest.raises(KeyboardInterrupt):
        search(*given, RATES, budget=SIX, folder=place, context=here)
    assert any(place.glob("trial-*/checkpoint.pt"))
    went_on = search(*given, RATES, budget=SIX, folder=place, context=context)
    assert facts(went_on.trials) == facts(found.trials)
    assert went_on.classifier.digest == found.classifier.digest
    names = sorted(p.name for p in place.iterdir())
    assert names == [".lock", "best", "trials.csv", "trials.sqlite"]


@pytest.fixture
def copied(found, tmp_path):
    """The search's folder, to be changed."""
    return shutil.copytree(found.folder, tmp_path / "copy.search")


def test_a_search_that_is_done_trains_nothing_and_one_that_is_prolonged_only_the_rest(
    found, given, context, copied
):
    recorder = Recorder()
    here = replace(context, progress=recorder)
    changed_input = search(*given, RATES, budget=SIX, folder=copied, context=here)
    assert recorder.tasks == []
    assert changed_input.classifier.digest == found.classifier.digest
    more = search(*given, RATES, budget=Budget(7), folder=copied, context=here)
    assert facts(more.trials[:6]) == facts(found.trials)
    assert [line.split(":")[0] for line in recorder.lines if line.startswith("trial ")] == [
        "trial 7/7"
    ]


def test_a_best_model_that_is_gone_or_damaged_is_made_again(found, given, context, copied):
    (copied / "best" / "model.safetensors").write_bytes(b"")
    recorder = Recorder()
    here = replace(context, progress=recorder)
    again = search(*given, RATES, budget=SIX, folder=copied, context=here)
    assert again.classifier.digest == found.classifier.digest
    number = found.best.number + 1
    expected = f"search: the classifier of trial {number} is missing; training it again"
    assert expected in recorder.lines
    assert Classifier.load(copied / "best").digest == found.best.digest


@pytest.mark.parametrize(
    ("what", "changed"),
    [
        ("settings differ", {"settings": GIVEN.model_copy(update={"epochs": 3})}),
        ("settings differ", {"ranges": Search(mixup=())}),
        ("seed differs", {"context": 1}),
        ("augmentation differs", {"policy": None}),
    ],
)
def test_another_search_is_not_gone_on_with(given, context, copied, what, changed):
    here = replace(context, seed=1) if "context" in changed else context
    blank, dataset, policy, settings = given
    policy = None if "policy" in changed else policy
    before = (copied / "trials.csv").read_bytes()
    with pytest.raises(OutputError) as caught:
        search(
            blank, dataset, policy, changed.get("settings", settings),
            changed.get("ranges", RATES), budget=SIX, folder=copied, context=here,
        )  # fmt: skip
    assert str(caught.value) == (
        f"{copied}: the folder holds a search whose {what} from this one. Choose another place "
        "with --out, or delete that folder."
    )
    assert (copied / "trials.csv").read_bytes() == before


def test_hopeless_rates_are_ended_early_and_the_search_goes_on(given, context, tmp_path):
    blank, dataset, policy, _ = given
    ranges = ONLY_RATES.model_copy(update={"learning_rate": (1e-3, 1e3)})
    settings = FineTune(epochs=4, batch_size=30)
    place = tmp_path / "search"
    made = search(
        blank, dataset, policy, settings, ranges, budget=Budget(8), folder=place, context=context
    )
    assert len(made.trials) == 8
    finished = [t for t in made.trials if t.outcome == "pruned"]
    whole = [t for t in made.trials if t.outcome == "done"]
    assert finished
    assert all(t.epochs < 4 and not t.digest for t in finished)
    assert max(t.val_accuracy for t in finished) < max(t.val_accuracy for t in whole)
    assert made.best in whole
    assert made.on_features == ()


def test_rates_that_diverge_end_their_trial_and_nothing_else(given, context, tmp_path):
    ranges = ONLY_RATES.model_copy(update={"learning_rate": (1e25, 1e30)})
    recorder = Recorder()
    here = replace(context, progress=recorder)
    made = search(*given, ranges, budget=Budget(3), folder=tmp_path / "search", context=here)
    assert [t.outcome for t in made.trials] == ["done", "diverged", "diverged"]
    assert made.best.number == 0
    assert "the training diverges" in made.trials[1].note
    assert any(line.startswith("trial 2/3: diverged after 0 epochs") for line in recorder.lines)


def test_what_is_given_is_told_and_left(given, context, tmp_path):
    blank, dataset, policy, _ = given
    recorder = Recorder()
    here = replace(context, progress=recorder)
    settings = FineTune(epochs=1, batch_size=60, layer_decay=0.5)
    ranges = Search(label_smoothing=None, dropout=None, mixup=(), trainable=())
    made = search(
        blank, dataset, policy, settings, ranges, budget=Budget(2), folder=tmp_path / "s",
        context=here,
    )  # fmt: skip
    assert recorder.lines[:2] == [
        "search: 2 trials of learning_rate, weight_decay",
        "  layer_decay: 0.5, as given",
    ]
    assert made.settings.layer_decay == 0.5
    assert set(made.trials[1].values) == {"learning_rate", "weight_decay"}


@pytest.mark.slow
def test_heads_that_features_like_best_come_second_and_bad_ones_are_left_out(
    blank, dataset, policy, context, tmp_path
):
    recorder = Recorder()
    here = replace(context, progress=recorder)
    stranger = replace(blank, classes=tuple("abcdefghij"))
    settings, kinds = FineTune(epochs=1, batch_size=60), ("cosine", "mlp")
    ranges = RATES.model_copy(update={"head": kinds})
    made = search(
        stranger, dataset, policy, settings, ranges, budget=Budget(4), folder=tmp_path / "s",
        context=here,
    )  # fmt: skip
    assert {t.values["head"] for t in made.on_features} == set(kinds)
    best = max(made.on_features, key=lambda t: t.rank)
    first, second, *rest = (t.values for t in made.trials)
    assert first["head"] == "linear"
    assert second == {**first, **best.values}
    kept = competitive_heads(made.on_features, kinds, len(dataset.rows("val")))
    assert {values["head"] for values in rest} <= set(kept)
    expected = f"  head: {', '.join(kept)}; the others are worse on cached features"
    assert (expected in recorder.lines) == (len(kept) < 2)
    assert made.classifier.classes == dataset.classes


def test_minutes_bound_the_whole_search(given, context, tmp_path):
    recorder = Recorder()
    here = replace(context, progress=recorder)
    budget = Budget(500, max_minutes=0.08)
    began = time.monotonic()
    made = search(*given, RATES, budget=budget, folder=tmp_path / "s", context=here)
    assert 1 <= len(made.trials) < 500
    # On a busy machine the first trial alone may take all of it.
    assert recorder.lines[-1].startswith(("search: no time is left", "search: the time ended"))
    assert time.monotonic() - began < 120
    count = len(made.trials)
    again = search(*given, RATES, budget=budget, folder=tmp_path / "s", context=here)
    assert len(again.trials) == count


def test_time_that_is_up_within_the_first_trial_leaves_what_it_came_to(given, context, tmp_path):
    recorder = Recorder()
    here = replace(context, progress=recorder)
    budget = Budget(5, max_minutes=1e-6)
    made = search(*given, RATES, budget=budget, folder=tmp_path / "s", context=here)
    (only,) = made.trials
    assert (only.outcome, only.epochs) == ("out of time", 1)
    assert made.classifier.digest == only.digest
    assert recorder.lines[-1] == (
        "search: the time ended in epoch 1 of 2 of the first trial; its recipe trains to the end"
    )


class Own(nn.Module):
    """A network of the user's own."""

    def __init__(self, classes=3):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 4)
        self.fc = nn.Linear(8, classes)

    def forward(self, images):
        return self.fc(torch.relu(self.stem(images)).mean((2, 3)))


def test_a_module_of_ones_own_is_kept_and_comes_back(dataset, policy, context, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mine = wrap(Own(), CONTRACT)
    settings = FineTune(epochs=1, batch_size=60, head="linear")
    budget, place = Budget(2), tmp_path / "s"
    made, again = (
        search(mine, dataset, policy, settings, RATES, budget=budget, folder=place, context=context)
        for _ in range(2)
    )
    assert again.classifier.digest == made.classifier.digest
    assert again.classifier.module().fc.out_features == 10


def refusal(kind, *given, budget=SIX, **more):
    with pytest.raises(kind) as caught:
        search(*given, budget=budget, **more)
    return str(caught.value)


def test_minutes_of_a_training_do_not_go_with_a_search(given, context, tmp_path):
    blank, dataset, policy, _ = given
    settings = FineTune(max_minutes=5)
    message = refusal(RecipeError, blank, dataset, policy, settings, folder=tmp_path / "s")
    assert message == (
        "fine_tune.max_minutes: max_minutes 5 ends a single training, and a search compares "
        "trainings of equal length. Leave it out; --max-minutes bounds the whole search."
    )
    assert not (tmp_path / "s").exists()


def test_without_val_nothing_can_be_chosen(given, context, tmp_path):
    blank, dataset, policy, settings = given
    keep = dataset.keep.copy()
    keep[dataset.rows("val")] = False
    message = refusal(
        DataError, blank, dataset.with_columns({"keep": keep}), policy, settings,
        folder=tmp_path / "s",
    )  # fmt: skip
    assert "the val split has no images, and the search needs them to compare trials." in message


def test_nothing_to_search_is_refused(given, tmp_path):
    nothing = ONLY_RATES.model_copy(update={"learning_rate": None})
    message = refusal(RecipeError, *given, nothing, folder=tmp_path / "s")
    assert message == (
        "fine_tune: every setting is given, so there is nothing to search. Leave some settings "
        "out, or set them to auto."
    )


def test_a_folder_of_somebody_elses_or_of_a_search_under_way_is_left(given, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("mine")
    message = refusal(OutputError, *given, folder=tmp_path / "mine")
    assert "already exists and was not written by acclimate." in message
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["letter.txt"]
    (tmp_path / "busy").mkdir()
    with FileLock(tmp_path / "busy" / ".lock"):
        message = refusal(OutputError, *given, folder=tmp_path / "busy")
    assert "another search is working in this folder." in message


def test_settings_that_fit_no_trial_end_the_search(given, context, tmp_path):
    blank, dataset, policy, _ = given
    settings = FineTune(epochs=1, batch_size=18, start_size=64)
    with pytest.raises(RecipeError, match="start_size"):
        search(
            blank, dataset, policy, settings, RATES, budget=SIX, folder=tmp_path / "s",
            context=context,
        )  # fmt: skip


def test_where_every_trial_diverges_the_search_says_so_and_leaves_the_table(
    given, context, tmp_path
):
    blank, dataset, policy, _ = given
    settings = FineTune(epochs=1, batch_size=18, learning_rate=1e30)
    ranges = ONLY_RATES.model_copy(update={"weight_decay": (0.01, 0.1)})
    message = refusal(
        RecipeError, blank, dataset, policy, settings, ranges, budget=Budget(2),
        folder=tmp_path / "s", context=context,
    )  # fmt: skip
    table = tmp_path / "s" / "trials.csv"
    assert message == (
        f"{table}: no trial was trained to the end: all diverged or were pruned. Give a lower "
        "learning_rate."
    )
    assert table.read_text().count("diverged") == 2


def test_several_processes_are_refused(given, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    message = refusal(RecipeError, *given, folder=tmp_path / "s")
    assert message == "a search runs in one process. Start it without torchrun."


def test_a_search_that_keeps_classes_is_refused(blank, dataset, tmp_path):
    with pytest.raises(RecipeError) as caught:
        search(
            blank, dataset, settings=FineTune(keep_classes=True), budget=SIX, folder=tmp_path / "s"
        )
    assert str(caught.value) == (
        "fine_tune.keep_classes: keep_classes cannot be used in a search: if images of old "
        "classes are missing, nothing is trained that trials could compare. Leave it out, or "
        "fine-tune without --trials."
    )
