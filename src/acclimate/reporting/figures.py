"""The report's figures, as inline SVG."""

import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from acclimate.evaluation.evaluate import Evaluation

INK, SOFT = "#1c2430", "#667085"
COLORS = ("#2563a8", "#d9822b", "#3a8f5c", "#9b4f96", "#b03a48")
_STYLE = {
    "text.parse_math": False,
    "svg.fonttype": "none",  # text stays text: it can be searched and copied
    "svg.hashsalt": "acclimate",  # the same figures give the same bytes
}
_MAX_CLASSES = 40
"""With more classes, names would be unreadable: only the most confused are shown."""


Params = ParamSpec("Params")


def _styled(function: Callable[Params, str]) -> Callable[Params, str]:
    """Applies the style: names are plain text, without math mode or warnings about glyphs."""

    @wraps(function)
    def styled(*args: Params.args, **kwargs: Params.kwargs) -> str:
        with mpl.rc_context(_STYLE), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")
            return function(*args, **kwargs)

    return styled


@_styled
def accuracy_bars(evaluations: Mapping[str, Evaluation]) -> str:
    """Accuracy with its interval, one bar per model and domain.

    Args:
        evaluations: Label to evaluation.

    Returns:
        SVG.
    """
    domains = list(next(iter(evaluations.values())).metrics)
    figure = Figure(figsize=(7.2, 0.9 + 0.36 * len(evaluations) * len(domains)))
    axes = figure.subplots()
    names, place = [], 0.0
    places = []
    for domain in domains:
        for index, (label, evaluation) in enumerate(evaluations.items()):
            found = evaluation.metrics[domain]["accuracy"]
            axes.barh(place, found.value, color=COLORS[index % len(COLORS)], height=0.7)
            axes.plot([found.low, found.high], [place, place], color=INK, lw=1.6)
            axes.text(
                min(found.high + 0.01, 1.005), place, f"{found.value:.3f}", va="center", color=INK
            )
            names.append(label if domain == "home" else f"{label} · {_cut(domain, 40)}")
            places.append(place)
            place += 1
        place += 0.5
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.08)
    axes.set_xlabel("accuracy with confidence interval")
    return _svg(figure, axes)


@_styled
def curves(trainings: Mapping[str, Sequence[Mapping[str, float | None]]]) -> str:
    """Val accuracy and losses by epoch, for every training.

    Args:
        trainings: Stage to its curve.

    Returns:
        SVG.
    """
    figure = Figure(figsize=(7.2, 3.0))
    left, right = figure.subplots(1, 2)
    for index, (name, lines) in enumerate(trainings.items()):
        color = COLORS[index % len(COLORS)]
        epochs = [line["epoch"] for line in lines]
        left.plot(
            epochs, [line["val_accuracy"] for line in lines], "o-", ms=3, color=color, label=name
        )
        losses = [line["train_loss"] for line in lines[1:]]
        right.plot(epochs[1:], losses, "o-", ms=3, color=color, label=name)
        right.plot(epochs, [line["val_loss"] for line in lines], "o:", ms=2, color=color)
    left.set_xlabel("epoch")
    left.set_ylabel("val accuracy")
    right.set_xlabel("epoch")
    right.set_ylabel("loss (dotted: val)")
    left.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _plain(right)
    return _svg(figure, left)


@_styled
def confusion_matrix(table: NDArray[np.int64], classes: Sequence[str]) -> str:
    """A confusion matrix, colored by the share of the true class.

    Args:
        table: int64, (C, C), rows are the true class.
        classes: Names.

    Returns:
        SVG; only of the most confused classes if there are too many.
    """
    if len(classes) > _MAX_CLASSES:
        wrong = table - np.diag(np.diag(table))
        worst = np.sort(np.argsort(-(wrong.sum(0) + wrong.sum(1)))[:_MAX_CLASSES])
        table, classes = table[np.ix_(worst, worst)], [classes[i] for i in worst]
    parts = table / np.maximum(1, table.sum(1, keepdims=True))
    size = 1.8 + 0.32 * len(classes)
    figure = Figure(figsize=(size, size))
    axes = figure.subplots()
    axes.imshow(np.sqrt(parts), cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(table), strict=True):
        color = "white" if parts[row, column] > 0.4 else INK
        axes.text(
            column, row, f"{table[row, column]}", ha="center", va="center", color=color, fontsize=7
        )
    names = [_cut(name, 18) for name in classes]
    axes.set_xticks(range(len(classes)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(classes)), names, fontsize=8)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    return _svg(figure, axes)


@_styled
def trade_off(evaluations: Mapping[str, Evaluation]) -> str:
    """Accuracy against latency; the area of a dot shows the file size.

    Args:
        evaluations: Label to evaluation; those without latency are not shown.

    Returns:
        SVG.
    """
    figure = Figure(figsize=(7.2, 2.8))
    axes = figure.subplots()
    for index, (label, e) in enumerate(evaluations.items()):
        if e.latency is None:
            continue
        found = e.metrics["home"]["accuracy"]
        color = COLORS[index % len(COLORS)]
        x = e.latency.p50_ms
        axes.plot([x, x], [found.low, found.high], color=color, lw=1.5)
        axes.scatter([x], [found.value], s=12 + 12 * e.size_bytes / 1e6, color=color, alpha=0.85)
        text = f"  {label}, {e.size_bytes / 1e6:.1f} MB"
        axes.annotate(
            text,
            (x, found.value),
            xytext=(6, 8 - 18 * (index % 2)),
            textcoords="offset points",
            fontsize=8,
        )
    axes.set_xlim(left=0)
    axes.margins(x=0.25, y=0.2)
    axes.set_xlim(left=0)
    busy = any(e.latency is not None and e.latency.busy for e in evaluations.values())
    axes.set_xlabel(f"latency per image, ms (median{'; busy machine' if busy else ''})")
    axes.set_ylabel("accuracy")
    return _svg(figure, axes)


@dataclass(frozen=True)
class Dot:
    """A model in a picture of accuracy against latency.

    Attributes:
        label: Its name.
        x: Latency in ms.
        y: Percentage points.
        low: Lower end of the interval of y.
        high: Upper end of the interval of y.
        megabytes: Size of its file.
        best: Whether it is drawn in the strong color and named.
    """

    label: str
    x: float
    y: float
    low: float
    high: float
    megabytes: float
    best: bool


@_styled
def pareto(dots: Sequence[Dot], budget: float) -> str:
    """Change of accuracy against latency for the candidates of a compression search.

    Args:
        dots: The candidates; a line joins the best ones.
        budget: The allowed drop in percentage points, drawn as a dotted line.

    Returns:
        SVG.
    """
    figure = Figure(figsize=(7.2, 3.4))
    axes = figure.subplots()
    axes.axhline(-budget, color=SOFT, lw=1, ls=":")
    front = sorted((dot for dot in dots if dot.best), key=lambda dot: dot.x)
    axes.plot([d.x for d in front], [d.y for d in front], color=COLORS[0], lw=1, alpha=0.6)
    for index, dot in enumerate(sorted(dots, key=lambda dot: dot.x)):
        color = COLORS[0] if dot.best else SOFT
        axes.plot([dot.x, dot.x], [dot.low, dot.high], color=color, lw=1.2, alpha=0.7)
        axes.scatter([dot.x], [dot.y], s=12 + 12 * dot.megabytes, color=color, alpha=0.85)
        if dot.best:
            axes.annotate(
                f"{_cut(dot.label, 48)}, {dot.megabytes:.1f} MB", (dot.x, dot.y),
                xytext=(6, 8 - 18 * (index % 2)), textcoords="offset points", fontsize=8,
            )  # fmt: skip
    axes.margins(x=0.3, y=0.2)
    axes.set_xlim(left=0)
    axes.set_xlabel("latency per image, ms (median)")
    axes.set_ylabel("change of val accuracy, points")
    return _svg(figure, axes)


@_styled
def class_balance(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Images of each class, stacked by split.

    Args:
        counts: Split to class to images.

    Returns:
        SVG.
    """
    classes = list(next(iter(counts.values())))[:_MAX_CLASSES]
    figure = Figure(figsize=(7.2, 0.9 + 0.2 * len(classes)))
    axes = figure.subplots()
    left = np.zeros(len(classes))
    for index, (split, found) in enumerate(counts.items()):
        values = np.asarray([found[name] for name in classes])
        axes.barh(range(len(classes)), values, left=left, color=COLORS[index], label=split)
        left += values
    axes.set_yticks(range(len(classes)), [_cut(name, 40) for name in classes], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("images")
    axes.legend(
        frameon=False, ncols=4, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), borderpad=0
    )
    return _svg(figure, axes)


@_styled
def image_sizes(sizes: NDArray[np.float64]) -> str:
    """Histograms of image sizes and aspect ratios.

    Args:
        sizes: float64, (N, 2), width and height in px.

    Returns:
        SVG.
    """
    figure = Figure(figsize=(7.2, 2.4))
    left, right = figure.subplots(1, 2)
    side = np.sqrt(sizes.prod(1))
    low, high = side.min(), side.max()
    bins = np.geomspace(low / 1.05, high * 1.05, 31)
    left.hist(side, bins, color=COLORS[0])
    left.set_xscale("log")
    ticks = np.unique(np.round(np.geomspace(low, high, 4))) if high > 1.2 * low else [round(high)]
    left.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
    left.minorticks_off()
    left.set_xlabel("image size, px (square root of the area)")
    left.set_ylabel("images")
    shape = np.clip(np.log2(sizes[:, 0] / sizes[:, 1]), -2, 2)
    right.hist(shape, 31, range=(-2.05, 2.05), color=COLORS[0])
    right.set_xticks([-2, -1, 0, 1, 2], ["1:4", "1:2", "1:1", "2:1", "4:1"])
    right.set_xlabel("aspect ratio (width:height)")
    _plain(right)
    return _svg(figure, left)


@_styled
def rate_range(
    rates: Sequence[float],
    losses: Sequence[float],
    errors: Sequence[float],
    suggestion: float | None,
) -> str:
    """The loss over the learning rate, from a learning rate range test.

    Args:
        rates: Increasing.
        losses: Before each step, of the same images.
        errors: Standard errors of the differences from the lowest loss.
        suggestion: The suggested rate, if there is one.

    Returns:
        SVG.
    """
    shown = np.isfinite(losses)
    x, y, error = (np.asarray(values)[shown] for values in (rates, losses, errors))
    figure = Figure(figsize=(4.8, 3.0))
    axes = figure.subplots()
    axes.fill_between(x, y - error, y + error, color=SOFT, alpha=0.3, lw=0)
    axes.plot(x, y, color=COLORS[0])
    if suggestion is not None:
        axes.axvline(suggestion, color=SOFT, lw=0.8, ls=":")
    axes.set_xscale("log")
    axes.set_ylim(0.9 * y.min(), 1.1 * max(y[0], 2 * y.min()))
    axes.set_xlabel("learning rate" + (" (dotted: suggestion)" if suggestion else ""))
    axes.set_ylabel("loss")
    return _svg(figure, axes)


def _cut(name: str, most: int) -> str:
    """A name, shortened to fit."""
    return name if len(name) <= most else name[: most - 1] + "…"


def _plain(axes: object) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)  # type: ignore[attr-defined]
    axes.tick_params(colors=SOFT)  # type: ignore[attr-defined]


def _svg(figure: Figure, axes: object) -> str:
    _plain(axes)
    figure.tight_layout()
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = buffer.getvalue()
    return re.sub(r"^.*?(?=<svg )", "", text, flags=re.DOTALL)
