"""Results are short in a shell and a notebook, and tables and plots where somebody wants them."""

import matplotlib as mpl
import pytest
from matplotlib import pyplot

import acclimate
from acclimate.errors import DataError
from acclimate.training.curve import Epoch
from acclimate.training.engine.result import TrainResult
from kit import tiny_classifier


@pytest.fixture(autouse=True)
def _closed():
    """Figures are drawn in memory and closed."""
    with mpl.rc_context({"backend": "agg"}):
        yield
        pyplot.close("all")


@pytest.fixture
def result():
    curve = [Epoch(n, 1.0 / (n + 1), 0.5, 0.25 * n, 0.1, float(n)) for n in range(3)]
    return TrainResult(tiny_classifier(("a", "b")).module(), tuple(curve), 2)


def test_every_value_is_shown_in_one_line(dataset, evaluations, trained, result):
    comparison = acclimate.compare(*evaluations)
    shown = [repr(v) for v in (dataset, trained, evaluations[1], comparison, result)]
    starts = ["Dataset(380 images", "Classifier(test_efficientnet, 10 classes: '0', '1', '2', …,",
              "Evaluation(tuned, ", "Comparison(tuned against probe, ", "TrainResult("]  # fmt: skip
    for text, start in zip(shown, starts, strict=True):
        assert text.startswith(start), text
        assert len(text) < 250
        assert "\n" not in text
    assert "train 180" in shown[0]
    assert "fine_tune" in shown[1]
    assert "accuracy 0." in shown[2]
    assert "points (" in shown[3]
    assert shown[4].endswith("2 epochs, epoch 2 kept, val accuracy 0.500)")


def test_a_notebook_shows_a_table_in_which_names_are_escaped(dataset):
    model = tiny_classifier(("<b>", "&"))
    page = model._repr_html_()
    assert page.startswith("<table><caption>Classifier</caption>")
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "<th>splits</th>" in dataset._repr_html_()


def test_tables_are_tables_of_pandas(dataset, evaluations, trained, result):
    assert len(dataset.to_pandas()) == len(dataset)
    assert list(result.to_pandas()["val_accuracy"]) == [0.0, 0.25, 0.5]
    assert len(trained.to_pandas()) == len(trained.curve) == 7
    answers = evaluations[1].to_pandas()
    home = answers[answers["domain"] == "home"]
    measured = evaluations[1].metrics["home"]["accuracy"].value
    assert (home["label"] == home["predicted"]).mean() == pytest.approx(measured)


def test_curves_and_confusions_are_drawn(evaluations, trained, result):
    assert len(trained.plot().lines) == len(result.plot().lines) == 2
    assert evaluations[1].plot().images[0].get_array().shape == (10, 10)


def test_a_model_that_was_not_trained_has_no_curve():
    model = tiny_classifier(("a", "b"))
    assert model.curve == ()
    with pytest.raises(DataError, match="there is no training curve"):
        model.plot()


def test_a_metric_needs_a_domain_only_if_there_are_several(evaluations):
    only = evaluations[0]
    assert only.accuracy is only.metrics["home"]["accuracy"]
    with pytest.raises(DataError, match="With several domains, give the domain first"):
        only.metrics["accuracy"]
    single = type(only.metrics)({"home": only.metrics["home"]})
    assert single["accuracy"] is only.accuracy
    assert float(single["accuracy"]) == only.accuracy.value
    assert str(single["accuracy"]).endswith(")")
    with pytest.raises(DataError, match="there is no metric 'acuracy'"):
        single["acuracy"]
