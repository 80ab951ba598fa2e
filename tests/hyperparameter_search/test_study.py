"""Trials in their database: what is chosen, what is judged, and what a kill leaves."""

import math
from dataclasses import replace

import pytest

from acclimate.errors import ModelFileError
from acclimate.hyperparameter_search.space import Between, OneOf, Space
from acclimate.hyperparameter_search.study import FinishedTrial, Study, open_storage

SPACE = Space(
    {"rate": Between(1e-4, 1e-1, log=True), "kind": OneOf(("a", "b"))},
    {"rate": 1.0, "kind": "b"},
    {},
)


@pytest.fixture
def opened(tmp_path):
    """The trials of a database, again and again, as processes open them one after another."""

    def within(work, patience=1):
        with open_storage(tmp_path / "trials.sqlite") as storage:
            return work(Study(storage, "network", lambda n: n, patience=patience))

    return within


def score(values):
    """The nearer to 1e-2, the better."""
    return 1 - abs(math.log10(values["rate"]) + 2) / 4


def one(trials, **changes):
    trial = trials.start(SPACE, SPACE.default if trials.next_number == 0 else None)
    finished = FinishedTrial(trial.number, trial.values, "done", score(trial.values))
    trials.finish(trial, replace(finished, **changes))
    return trial.values


def test_the_first_trial_is_what_is_given_even_outside_of_its_range(opened):
    assert opened(one) == {"rate": 1.0, "kind": "b"}
    second = opened(one)
    assert SPACE.ranges["rate"].holds(second["rate"])


def test_processes_one_after_another_try_what_a_single_one_tries(opened, tmp_path):
    apart = [opened(one) for _ in range(12)]
    with open_storage(tmp_path / "other.sqlite") as storage:
        trials = Study(storage, "network", lambda n: n)
        assert [one(trials) for _ in range(12)] == apart
    assert len({values["rate"] for values in apart}) == 12


def test_the_sampler_learns_where_it_is_good(opened):
    rates = opened(lambda trials: [one(trials)["rate"] for _ in range(40)])
    far = [abs(math.log10(rate) + 2) for rate in rates[1:]]
    assert sum(far[-16:]) / 16 < 0.6 * sum(far[:8]) / 8


def test_a_trial_that_a_kill_left_goes_on_under_its_number_with_its_values(opened):
    opened(one)

    def interrupted(trials):
        trial = trials.start(SPACE)
        trial.report(1, 0.5, 7.0)
        return trial.number, dict(trial.values)

    def found(trials):
        trial = trials.start(SPACE)
        message = trial.number, dict(trial.values), trial.elapsed
        trials.finish(trial, FinishedTrial(trial.number, trial.values, "done", 0.5))
        return message

    number, values = opened(interrupted)
    assert opened(found) == (number, values, 7.0)
    assert [t.number for t in opened(lambda trials: trials.finished)] == [0, 1]


def test_a_trial_is_hopeless_below_the_median_of_four_once_the_patience_is_over(opened):
    def whole(trials):
        trial = trials.start(SPACE)
        for epoch in (1, 2):
            assert not trial.report(epoch, 0.8, 1.0)
        trials.finish(trial, FinishedTrial(trial.number, trial.values, "done", 0.8))

    def judged(trials):
        trial = trials.start(SPACE)
        message = [trial.report(epoch, 0.1, 1.0) for epoch in (1, 2)]
        trials.finish(trial, FinishedTrial(trial.number, trial.values, "pruned"))
        return message

    for _ in range(3):
        opened(whole, 2)
    assert opened(judged, 2) == [False, False]
    opened(whole, 2)
    assert opened(judged, 2) == [False, True]


def test_what_failed_is_counted_and_remembered(opened):
    opened(one)
    opened(lambda trials: one(trials, outcome="diverged", val_accuracy=math.nan, note="oh"))
    last = opened(lambda trials: trials.finished)[-1]
    assert (last.number, last.outcome, last.note) == (1, "diverged", "oh")
    assert math.isnan(last.val_accuracy)


def test_whole_trainings_rank_first_then_accuracy_then_loss():
    ranked = [
        FinishedTrial(0, {}, "diverged"),
        FinishedTrial(1, {}, "out of time", 0.9, 0.1),
        FinishedTrial(2, {}, "done", 0.7, math.nan),
        FinishedTrial(3, {}, "done", 0.7, 0.5),
        FinishedTrial(4, {}, "done", 0.7, 0.4),
        FinishedTrial(5, {}, "done", 0.8, 2.0),
    ]
    assert sorted(ranked[::-1], key=lambda t: t.rank) == ranked


def test_what_the_trials_are_made_of_is_remembered(opened):
    assert opened(lambda trials: trials.changed_input({"model": "a", "data": "b"})) is None
    assert opened(lambda trials: trials.changed_input({"model": "a", "data": "b"})) is None
    assert opened(lambda trials: trials.changed_input({"model": "a", "data": "c"})) == "data"


def test_a_folder_may_have_any_name(tmp_path):
    place = tmp_path / "a {b}?%20#c"
    place.mkdir()
    with open_storage(place / "trials.sqlite") as storage:
        one(Study(storage, "network", lambda n: n))
    assert [p.name for p in place.iterdir()] == ["trials.sqlite"]


def test_a_file_that_is_no_database_is_refused_and_left(tmp_path):
    file = tmp_path / "trials.sqlite"
    file.write_text("mine\n" * 500)
    with pytest.raises(ModelFileError) as caught, open_storage(file):
        pass
    assert str(caught.value) == (
        f"{file}: not a readable database of search trials. "
        "Move the file away to start a new search."
    )
    assert file.read_text() == "mine\n" * 500
