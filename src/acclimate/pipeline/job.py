"""What the parts of a run share: the recipe, the artifacts so far, the steps that are done."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from acclimate.context import Context
from acclimate.pipeline.artifacts import Slot
from acclimate.pipeline.steps import Step
from acclimate.recipe import Recipe

if TYPE_CHECKING:
    from acclimate.pipeline.forecast import TimeLeft

CANDIDATES = "candidates"
"""In the folder of a step: what a search tried."""


@dataclass
class RunJob:
    """A run under way.

    Attributes:
        recipe: What to do.
        folder: The folder of the run.
        context: Seed, device, progress.
        force: Run every step again, even if its result exists.
        steps: The steps of the recipe.
        slots: The artifacts so far.
        ran: The steps that ran now.
        done: The folders of the finished steps, in order.
        time_left: Known once the data is split.
    """

    recipe: Recipe
    folder: Path
    context: Context
    force: bool
    steps: list[Step]
    slots: dict[str, Slot] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    done: list[Path] = field(default_factory=list)
    time_left: "TimeLeft | None" = None
