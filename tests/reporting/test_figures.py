"""The report's figures are valid SVG, with text as text."""

import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from acclimate.evaluation.latency import Latency
from acclimate.reporting import figures

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"quoted\" & 'so'",
    "$x_1$",
    r"$\frac{$",
    "10 $ and 20 $",
    "玫瑰",
    "🌹 rose",
    "%s {name} \\n",
    "_private",
)


def words(svg):
    """The content of the text elements; fails if the SVG is not well formed."""
    return ["".join(node.itertext()).strip() for node in ET.fromstring(svg).iter(f"{SVG}text")]


@pytest.fixture
def timed(evaluations):
    before, after = evaluations
    return {
        "probe": replace(before, latency=Latency(8.0, 9.0, 200.0)),
        "final": replace(after, latency=Latency(2.0, 3.0, 900.0), size_bytes=2_400_000),
    }


def test_accuracy_bars_name_every_model_in_every_domain_with_its_figure(evaluations):
    before, after = evaluations
    text = words(figures.accuracy_bars({"probe": before, "final": after}))
    for label in ("probe", "final", "probe · shifted", "final · shifted"):
        assert label in text
    for evaluation in evaluations:
        for domain in ("home", "shifted"):
            assert f"{evaluation.metrics[domain]['accuracy'].value:.3f}" in text


def test_the_trade_off_shows_only_models_with_latency(timed):
    text = words(figures.trade_off(timed))
    assert "final, 2.4 MB" in text
    assert "latency per image, ms (median)" in text
    untimed = {**timed, "probe": replace(timed["probe"], latency=None)}
    assert not any(word.startswith("probe") for word in words(figures.trade_off(untimed)))


def line(epoch, val=0.5):
    return {"epoch": epoch, "train_loss": 2.0 / epoch if epoch else None, "val_loss": val,
            "val_accuracy": val, "learning_rate": 1e-3, "seconds": 1.0}  # fmt: skip


def test_curves_name_every_training():
    text = words(figures.curves({"fine_tune": [line(n) for n in range(4)], "distill": [line(0)]}))
    assert {"fine_tune", "distill", "epoch", "val accuracy"} <= set(text)


def test_curves_of_a_training_without_val_are_drawn_too():
    text = words(figures.curves({"fine_tune": [line(n, None) for n in range(3)]}))
    assert "fine_tune" in text


def test_more_trainings_than_colors_are_drawn():
    many = {f"training {n}": [line(0), line(1)] for n in range(len(figures.COLORS) + 2)}
    assert set(many) <= set(words(figures.curves(many)))


def test_a_confusion_matrix_shows_its_counts_and_both_axes():
    table = np.asarray([[7, 2], [0, 11]])
    text = words(figures.confusion_matrix(table, ["oak", "elm"]))
    assert text.count("oak") == text.count("elm") == 2
    assert sorted(w for w in text if w.isdigit()) == ["11", "2", "7"]
    assert {"predicted class", "true class"} <= set(text)


def test_of_many_classes_the_most_confused_are_shown():
    size = 60
    table = np.diag(np.full(size, 9))
    confused = list(range(10, 50))
    for index in confused:
        table[index, (index + 1 - 10) % 40 + 10] = 3
    text = words(figures.confusion_matrix(table, [f"class {n}" for n in range(size)]))
    assert {w for w in text if w.startswith("class")} == {f"class {n}" for n in confused}


def test_a_class_without_images_does_not_divide_by_zero():
    text = words(figures.confusion_matrix(np.asarray([[3, 0], [0, 0]]), ["oak", "elm"]))
    assert "elm" in text


def test_long_names_are_shortened_on_an_axis():
    text = words(figures.confusion_matrix(np.eye(2, dtype=np.int64), ["a" * 18, "b" * 19]))
    assert "a" * 18 in text
    assert "b" * 17 + "…" in text


def test_long_names_do_not_shrink_the_class_balance():
    assert "c" * 39 + "…" in words(figures.class_balance({"train": {"c" * 300: 5, "oak": 2}}))


def test_epochs_are_whole_numbers():
    line = {"val_accuracy": 0.5, "val_loss": 1.0, "train_loss": 1.0}
    text = words(figures.curves({"fine_tune": [{**line, "epoch": epoch} for epoch in (0, 1)]}))
    assert {"0", "1"} <= set(text)
    assert "0.2" not in text


def test_the_balance_names_classes_and_splits():
    counts = {s: {"oak": 5, "elm": 0} for s in ("train", "val", "test")}
    assert {"oak", "elm", "train", "val", "test"} <= set(words(figures.class_balance(counts)))


def test_the_class_balance_of_very_many_classes_stays_readable():
    counts = {"train": {f"class {n:04d}": n for n in range(1000)}}
    height = ET.fromstring(figures.class_balance(counts)).get("height")
    assert float(height.removesuffix("pt")) < 800


FIGURES = {
    "confusion": lambda one: figures.confusion_matrix(np.eye(len(HOSTILE), dtype=int), HOSTILE),
    "balance": lambda one: figures.class_balance({"train": dict.fromkeys(HOSTILE, 3)}),
    "bars": lambda one: figures.accuracy_bars(dict.fromkeys(HOSTILE, one)),
    "trade-off": lambda one: figures.trade_off(dict.fromkeys(HOSTILE, one)),
}


@pytest.mark.parametrize("figure", FIGURES)
def test_any_name_is_shown_as_it_is_and_breaks_no_figure(figure, timed):
    text = words(FIGURES[figure](timed["probe"]))
    for name in HOSTILE:
        shown = name if len(name) <= 18 or figure != "confusion" else name[:17] + "…"
        assert any(word.startswith(shown) for word in text), name


@pytest.mark.parametrize("name", HOSTILE)
def test_a_single_name_breaks_no_figure_either(name):
    assert name in words(figures.class_balance({"train": {name: 3}}))


def test_the_same_values_give_the_same_svg(timed):
    assert figures.accuracy_bars(timed) == figures.accuracy_bars(timed)
    assert figures.trade_off(timed) == figures.trade_off(timed)


def test_a_figure_refers_to_nothing_external(timed):
    for svg in (figures.accuracy_bars(timed), figures.trade_off(timed)):
        root = ET.fromstring(svg)
        own = {node.get("id") for node in root.iter()}
        for node in root.iter():
            for name, value in node.attrib.items():
                if name.endswith("href"):
                    assert value.startswith("#")
                    assert value[1:] in own
                if "url(" in value:
                    assert value.split("url(#")[1].split(")")[0] in own
        assert not list(root.iter(f"{SVG}script"))
        assert not list(root.iter(f"{SVG}image"))
