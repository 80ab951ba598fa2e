"""`fine-tune --trials`: a search from the shell, killed and gone on with; its recipe runs."""

import csv
import json
import signal
from dataclasses import replace

import pytest
import timm
import torch

from acclimate.models.classifier import Classifier
from acclimate.models.pretrained import wrap
from kit import CONTRACT

SMALL = (
    "--set", "epochs=2", "--set", "batch_size=16", "--set", "search.learning_rate=[3e-3, 3e-2]",
    "--set", "augment.policy=basic", "--set", "search.trainable=[all, last]",
)  # fmt: skip


@pytest.fixture(scope="module")
def arguments(workshop, tmp_path_factory):
    """A network that has the photos' classes and knows nothing of them, and the photos."""
    data = workshop.step("clean") / "dataset.parquet"
    classes = Classifier.load(workshop.step("probe") / "model").classes
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model("test_efficientnet", num_classes=len(classes))
    place = tmp_path_factory.mktemp("start") / "blank.model"
    replace(wrap(network, CONTRACT), classes=classes).save(place)
    return "fine-tune", place, data


def trials(folder, *, phase="network"):
    with (folder / "trials.csv").open() as stream:
        lines = [line for line in csv.DictReader(stream) if line["phase"] == phase]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def test_a_search_leaves_a_model_and_a_recipe_that_makes_it_again(acclimate, arguments, tmp_path):
    done = acclimate(*arguments, "-o", "leaf.model", "--trials", 5, *SMALL, "--json")
    assert done.code == 0, done.err
    place = tmp_path / "leaf.model.search"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["leaf.model", "leaf.model.search"]
    assert sorted(p.name for p in place.iterdir()) == [
        ".lock", "best", "recipe.yaml", "trials.csv", "trials.sqlite",
    ]  # fmt: skip
    assert done.json["recipe"] == str(place / "recipe.yaml")
    assert done.json["trials"] == str(place / "trials.csv")
    accuracy = done.json["card"]["steps"][-1]["figures"]["val_accuracy"]
    lines = trials(place)
    assert len(lines) == 5
    assert accuracy == pytest.approx(max(float(t["val_accuracy"]) for t in lines), abs=1e-6)
    assert accuracy > float(lines[0]["val_accuracy"])
    told = [line.split(":")[0] for line in done.lines if line.startswith("trial ")]
    assert told == [f"trial {n}/5" for n in range(1, 6)]

    again = acclimate(*arguments, "-o", "again.model", "--recipe", place / "recipe.yaml", "--json")
    assert again.code == 0, again.err
    assert again.json["digest"] == done.json["digest"]
    assert again.json["card"]["steps"][-1]["figures"]["val_accuracy"] == accuracy
    checked = acclimate("run", "--recipe", place / "recipe.yaml", "--dry-run")
    assert checked.code == 0, checked.err

    more = acclimate(*arguments, "-o", "leaf.model", "--trials", 6, *SMALL)
    assert more.code == 2
    more = acclimate(*arguments, "-o", "leaf.model", "--trials", 6, *SMALL, "--force")
    assert more.code == 0, more.err
    assert [line.split(":")[0] for line in more.lines if line.startswith("trial ")] == ["trial 6/6"]
    assert trials(place)[:5] == lines
    assert more.out.splitlines() == [
        "classifier  leaf.model",
        f"recipe  {place / 'recipe.yaml'}",
        f"trials  {place / 'trials.csv'}",
    ]


def test_a_killed_search_goes_on_without_repeating_what_is_done(shell, arguments, tmp_path):
    given = (*arguments, "-o", "leaf.model", "--trials", 4, *SMALL)
    place = tmp_path / "leaf.model.search"
    killed = shell.start(*given, cwd=tmp_path)
    killed.wait_for(lambda: (place / "trial-2" / "checkpoint.pt").exists())
    killed.signal(signal.SIGKILL)
    assert killed.wait().code == -signal.SIGKILL
    assert not (tmp_path / "leaf.model").exists()
    resumed = shell(*given, cwd=tmp_path)
    assert resumed.code == 0, resumed.err
    told = [line.split(":")[0] for line in resumed.lines if line.startswith("trial ")]
    assert told == ["trial 3/4", "trial 4/4"]
    assert not list(place.glob("trial-*"))
    record = json.loads((tmp_path / "leaf.model" / "model.json").read_text())
    best = json.loads((place / "best" / "model.json").read_text())
    assert record["digest"] == best["digest"]

    whole = shell(*arguments, "-o", "whole.model", "--trials", 4, *SMALL, cwd=tmp_path)
    assert whole.code == 0
    assert trials(tmp_path / "whole.model.search") == trials(place)


def test_another_data_set_is_refused_with_one_sentence(acclimate, arguments, workshop, tmp_path):
    given = ("-o", "leaf.model", "--trials", 1, *SMALL)
    assert acclimate(*arguments, *given).code == 0
    start = workshop.step("probe") / "model"
    other = acclimate("fine-tune", start, arguments[2], *given, "--force")
    assert (other.code, other.out) == (2, "")
    assert other.lines[-1] == (
        f"error: {tmp_path}/leaf.model.search: the folder holds a search whose model differs from "
        "this one. Choose another place with --out, or delete that folder."
    )


def test_minutes_without_trials_are_those_of_the_training(acclimate, arguments):
    done = acclimate(*arguments, "-o", "leaf.model", "--max-minutes", 5, "--set", "epochs=2")
    assert done.code == 2
    assert "max_minutes and epochs (2) are both set: give one of them." in done.err


def test_the_old_flag_is_answered_with_the_new_one(acclimate, arguments):
    done = acclimate(*arguments, "-o", "leaf.model", "--minutes", 5)
    assert done.code == 2
    assert done.lines[-1] == "Error: No such option '--minutes'. Type `--max-minutes 5`."


def test_minutes_in_the_recipe_do_not_go_with_trials(acclimate, arguments, tmp_path):
    given = ("-o", "leaf.model", "--trials", 2, "--set", "max_minutes=5")
    done = acclimate(*arguments, *given)
    assert (done.code, done.out) == (2, "")
    assert done.lines[-1] == (
        "error: fine_tune.max_minutes: max_minutes 5 ends a single training, and a search "
        "compares trainings of equal length. Leave it out; --max-minutes bounds the whole search."
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", ["--trials=0", "--max-minutes=0"])
def test_bounds_of_nothing_are_refused(acclimate, arguments, flag):
    assert acclimate(*arguments, "-o", "leaf.model", flag).code == 2
