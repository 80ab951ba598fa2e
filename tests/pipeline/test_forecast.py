"""How long a run will take, and what is left of it."""

import pytest

from acclimate.pipeline.forecast import Forecast, TimeLeft, forecast, minutes
from acclimate.pipeline.steps import chosen
from acclimate.recipe import Recipe
from kit import tiny_classifier


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "less than a minute"), (60, "1 minute"), (754, "13 minutes"), (9000, "2.5 hours")],
)
def test_durations_are_in_words(seconds, words):
    assert minutes(seconds) == words


def test_every_step_has_a_time_and_more_epochs_take_longer(dataset, context):
    model = tiny_classifier(dataset.classes)
    few, many = (
        Recipe.load(assignments=[f"fine_tune.epochs={n}", "data.path=photos"]) for n in (1, 100)
    )
    steps = chosen(few, None)
    short, long = (forecast(r, steps, dataset, model, context) for r in (few, many))
    assert list(short.seconds) == [step.name for step in steps]
    assert long.seconds["fine-tune"] > 20 * short.seconds["fine-tune"] > 0
    assert short.split_sizes() == "180 train, 40 val and 80 test images"
    limited = few.limited(max_minutes=11)
    timed = forecast(limited, steps, dataset, model, context)
    assert timed.seconds["fine-tune"] == pytest.approx(300)


def test_the_time_left_follows_the_speed_of_the_steps_that_are_done():
    found = TimeLeft(Forecast({}, {"clean": 60.0, "fine-tune": 600.0, "prune": 300.0}))
    assert found.before("fine-tune") == "about 15 minutes"
    found.note("fine-tune", 1200.0)
    assert found.before("prune") == "about 10 minutes"
    found.note("prune", 300.0)
    assert TimeLeft(Forecast({}, {"probe": 5.0})).before("probe") == "less than a minute"
    assert found.forecast.lines() == [
        "steps: clean, fine-tune, prune",
        "time on this machine: about 16 minutes (fine-tune 10 minutes, prune 5 minutes)",
    ]
