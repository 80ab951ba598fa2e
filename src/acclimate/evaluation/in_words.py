"""How evaluations and comparisons look in Python, and metrics that may be asked for by name."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from acclimate.data.dataset import HOME
from acclimate.errors import DataError, count, near_names
from acclimate.evaluation.metrics import Interval
from acclimate.shown import Shown, as_frame

if TYPE_CHECKING:
    import pandas


class DomainMetrics(dict[str, Mapping[str, Interval]]):
    """Domain to metrics; of a single domain also the metrics themselves, by name.

    >>> half = Interval(0.5, 0.4, 0.6)
    >>> DomainMetrics({"home": {"accuracy": half}})["accuracy"] is half
    True
    """

    def __missing__(self, name: str) -> Any:  # noqa: ANN401 - an Interval, in place of a domain
        """The metric of the single domain."""
        if len(self) == 1:
            (only,) = self.values()
            if name in only:
                return only[name]
            raise DataError(f"there is no metric {name!r}. {near_names(str(name), only)}")
        raise DataError(
            f"there is no domain {name!r}. {near_names(str(name), self)}",
            hint="With several domains, give the domain first: metrics['home']['accuracy'].",
        )


class ShownEvaluation(Shown):
    """An evaluation in a few words, and as a table."""

    def __post_init__(self: Any) -> None:
        """Metrics can be asked for without a domain if there is one."""
        object.__setattr__(self, "metrics", DomainMetrics(self.metrics))

    @property
    def accuracy(self: Any) -> Interval:
        """The accuracy in the first domain, which is that of the user's own images."""
        found: Interval = next(iter(self.metrics.values()))["accuracy"]
        return found

    def summary(self: Any) -> dict[str, str]:
        """What it is, in words."""
        found = {"name": self.name, "images": count(len(self.table), f"{self.split} image")}
        for domain, figures in self.metrics.items():
            title = "accuracy" if domain == HOME else f"accuracy on {domain}"
            found[title] = f"{title} {figures['accuracy']}" if "accuracy" in figures else title
        return found

    def to_pandas(self: Any) -> "pandas.DataFrame":
        """The predictions of each image as a table of pandas, classes by name."""
        rows = []
        for row in self.table.to_pylist():
            top = [self.classes[i] for i in row["top_classes"]]
            named = {"label": self.classes[row["label"]], "predicted": top[0], "top_classes": top}
            rows.append({**row, **named})
        return as_frame(rows)

    def plot(self: Any, domain: str = HOME) -> Any:  # noqa: ANN401 - axes of matplotlib
        """The confusion matrix of a domain as axes of matplotlib: rows are true classes."""
        from matplotlib import pyplot

        counts, names = self.confusion(domain), self.classes
        _, axes = pyplot.subplots()
        axes.figure.colorbar(axes.imshow(counts, cmap="Blues"), label="images")
        if len(names) <= _MOST_NAMES:
            axes.set_xticks(range(len(names)), names, rotation=90)
            axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        return axes


_MOST_NAMES = 40
"""More names of classes than this would overlap in a plot."""


class ShownComparison(Shown):
    """A comparison in a few words."""

    def summary(self: Any) -> dict[str, str]:
        """What it is, in words."""
        gain = next(iter(self.differences.values())).accuracy
        points = f"{100 * gain.value:+.1f} points ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
        names = f"{self.after} against {self.before}"
        return {"names": names, "verdict": self.verdict, "accuracy": points}
