"""The result of a training: the network, its curve, and how they look."""

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from torch import nn

from acclimate.errors import count
from acclimate.models.training_curves import plot_curve
from acclimate.shown import Shown, as_frame
from acclimate.training.curve import Epoch
from acclimate.training.engine.checkpoint import Incidents
from acclimate.training.optim.model_soups import Blend

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes


@dataclass(frozen=True, repr=False)
class TrainResult(Shown):
    """The result of a training.

    Attributes:
        network: The network with the kept weights, on the CPU, in evaluation mode.
        curve: One entry per epoch, the start first.
        best_epoch: Epoch whose weights were kept; 0 is the start.
        incidents: Skipped steps, and the micro-batch if memory ran out.
        blend: The model soup or WiSE-FT interpolation that replaced these weights, if any.
    """

    network: nn.Module
    curve: tuple[Epoch, ...]
    best_epoch: int
    incidents: Incidents = field(default_factory=Incidents)
    blend: Blend | None = None

    @property
    def best(self) -> Epoch:
        """The entry of the best epoch."""
        return self.curve[self.best_epoch]

    @property
    def val_accuracy(self) -> float:
        """Accuracy of the resulting network on val."""
        return self.blend.val.accuracy if self.blend else self.best.val_accuracy

    @property
    def is_start(self) -> bool:
        """Whether the start was kept because nothing was better."""
        if self.blend is None:
            return self.best_epoch == 0
        return self.blend.coefficient == 0 or self.blend.epochs == (0,)

    def summary(self) -> dict[str, str]:
        """What it is, in words."""
        found = {
            "network": type(self.network).__name__,
            "epochs": count(len(self.curve) - 1, "epoch"),
            "kept": f"epoch {self.best_epoch} kept",
        }
        if not math.isnan(self.best.val_loss):
            found["val"] = f"val accuracy {self.val_accuracy:.3f}"
        return found

    def to_pandas(self) -> "pandas.DataFrame":
        """The training curve as a table of pandas."""
        return as_frame([asdict(line) for line in self.curve])

    def plot(self) -> "Axes":
        """The training curve as axes of matplotlib."""
        return plot_curve([asdict(line) for line in self.curve])
