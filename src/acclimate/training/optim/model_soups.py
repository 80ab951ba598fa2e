"""After the last epoch: means of whole networks, chosen on val, without another training.

Sound where the networks share their start and their batch-norm statistics.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from acclimate.errors import RecipeError
from acclimate.training.curve import Epoch, standard_error
from acclimate.training.optim.weight_averaging import Weights, in_order

COEFFICIENTS = tuple(step / 10 for step in range(11))


@dataclass(frozen=True)
class ValMetrics:
    """What val says of some weights.

    Attributes:
        loss: Cross-entropy.
        accuracy: In [0, 1].
        loss_error: The loss' standard error.
    """

    loss: float
    accuracy: float
    loss_error: float = 0.0


Validate = Callable[[Weights], ValMetrics]


@dataclass(frozen=True)
class Blend:
    """What came of blending.

    Attributes:
        weights: Of the network that was chosen.
        val: What val says of it.
        coefficient: Of WiSE-FT: 0 is the start, 1 the trained network; None without it.
        candidates: What val says of each coefficient that was tried; None without val.
        epochs: What a soup was made of, the best first; empty without one.
    """

    weights: Weights
    val: ValMetrics
    coefficient: float | None = None
    candidates: Mapping[float, ValMetrics] | None = None
    epochs: tuple[int, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Whole sentences for the card."""
        told = []
        if self.epochs:
            names = ", ".join("the start" if e == 0 else f"epoch {e}" for e in self.epochs)
            told.append(f"Model soup of {names}.")
        if self.coefficient is not None and self.candidates is None:
            told.append(f"WiSE-FT used {self.coefficient:g}, because there is no val split.")
        if self.candidates is not None:
            tried = ", ".join(
                f"{c:g}: {j.accuracy:.3f} ({j.loss:.3f})" for c, j in self.candidates.items()
            )
            told.append(
                f"WiSE-FT chose {self.coefficient:g}; val accuracy (loss) by coefficient: {tried}."
            )
        return tuple(told)


def check_val(averaging: str, images: int) -> None:
    """Refuses what cannot be done without val.

    Args:
        averaging: A name in `AVERAGES`.
        images: In val.

    Raises:
        RecipeError: A soup without val.
    """
    if averaging == "soup" and not images:
        raise RecipeError(
            "averaging: soup chooses epochs on val, and there is no val split.",
            where="averaging",
            hint="Set clean.val above 0, or use averaging: ema.",
        )


def greedy_soup(ingredients: dict[int, Weights], curve: list[Epoch], validate: Validate) -> Blend:
    """The mean of as many epochs as val accuracy does not fall by.

    Source: Wortsman et al. 2022, "Model soups", arXiv 2203.05482, their greedy recipe; over the
    epochs of one run, where theirs are of many.

    Args:
        ingredients: Weights by epoch, 0 being the start; at least one.
        curve: What val says of each.
        validate: Asks val.

    Returns:
        The soup: on val never below its best ingredient.
    """
    first, *others = in_order(ingredients, curve)
    taken, weights = [first], ingredients[first]
    best = ValMetrics(curve[first].val_loss, curve[first].val_accuracy)
    for epoch in others:
        mixed = interpolated(weights, ingredients[epoch], 1 / (len(taken) + 1))
        found = validate(mixed)
        if found.accuracy >= best.accuracy:
            taken, weights, best = [*taken, epoch], mixed, found
    return Blend(weights, best, epochs=tuple(taken))


def wise_ft(
    start: Weights, end: Weights, coefficients: tuple[float, ...], images: int, validate: Validate
) -> Blend:
    """Weights on the line from the start to the trained network.

    Source: Wortsman et al. 2021, "Robust fine-tuning of zero-shot models", arXiv 2109.01903. The
    start is here the network with a fitted head.

    Args:
        start: Before training.
        end: After it.
        coefficients: From 0, the start, to 1, the end. Of two the second is what was asked for: it
            is taken unless the start is more accurate on val.
        images: In val; without any the largest coefficient is taken.
        validate: Asks val.

    Returns:
        The one chosen; see `chosen`.
    """
    if not images:
        last = max(coefficients)
        weights = interpolated(start, end, last)
        return Blend(weights, validate(weights), last)
    candidates = {c: validate(interpolated(start, end, c)) for c in coefficients}
    if len(coefficients) == 2:
        coefficient = max(coefficients, key=lambda c: (candidates[c].accuracy, c))
    else:
        coefficient = chosen(candidates, images)
    weights = interpolated(start, end, coefficient)
    return Blend(weights, candidates[coefficient], coefficient, candidates)


def chosen(candidates: Mapping[float, ValMetrics], images: int) -> float:
    """The coefficient that val is for: of the accurate ones the one with the lowest loss.

    Accurate are those within one standard error of the best and not below the start, which is taken
    where there is no other. As among epochs (see `selection.py`), the start's loss does not count:
    a fitted head is better calibrated than a network that learns from smoothed labels.

    Nearest the start is what the paper's zero-shot networks would want. It was tried: from PACS'
    photos to its paintings val cannot tell 0 from 1, and the fitted head that this takes has 2.8
    points less at home and 6 less on paintings than four fifths of the way.

    Args:
        candidates: By coefficient, 0 among them.
        images: In val.

    Returns:
        A coefficient.
    """
    best = max(j.accuracy for j in candidates.values())
    bar = max(best - standard_error(best, images), candidates[0.0].accuracy)
    accurate = [c for c, j in candidates.items() if c > 0 and j.accuracy >= bar]
    return min(accurate, key=lambda c: candidates[c].loss, default=0.0)


@torch.no_grad()
def interpolated(start: Weights, end: Weights, coefficient: float) -> Weights:
    """(1 - coefficient) of the start and coefficient of the end; counters are the end's.

    Args:
        start: Weights.
        end: Of the same names and shapes.
        coefficient: In [0, 1].

    Returns:
        New weights.
    """
    return {
        name: start[name].lerp(t, coefficient) if t.is_floating_point() else t.clone()
        for name, t in end.items()
    }
