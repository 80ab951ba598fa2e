"""Model soups and WiSE-FT: averages of weights, chosen on val after the last epoch.

The networks must share their start and their batch-norm statistics.
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
    """The metrics of some weights on val.

    Attributes:
        loss: Cross-entropy.
        accuracy: Accuracy in [0, 1].
        loss_error: Standard error of the loss.
    """

    loss: float
    accuracy: float
    loss_error: float = 0.0


Validate = Callable[[Weights], ValMetrics]


@dataclass(frozen=True)
class Blend:
    """The result of a model soup or of WiSE-FT.

    Attributes:
        weights: The chosen weights.
        val: Metrics of these weights on val.
        coefficient: Of WiSE-FT: 0 is the start, 1 the trained network; None without WiSE-FT.
        candidates: Metrics on val by coefficient; None without val.
        epochs: Epochs in the soup, the best first; empty without a soup.
    """

    weights: Weights
    val: ValMetrics
    coefficient: float | None = None
    candidates: Mapping[float, ValMetrics] | None = None
    epochs: tuple[int, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the log and the card."""
        notes = []
        if self.epochs:
            names = ", ".join("the start" if e == 0 else f"epoch {e}" for e in self.epochs)
            notes.append(f"Model soup of {names}.")
        if self.coefficient is not None and self.candidates is None:
            notes.append(f"WiSE-FT used {self.coefficient:g}, because there is no val split.")
        if self.candidates is not None:
            tried = ", ".join(
                f"{c:g}: {j.accuracy:.3f} ({j.loss:.3f})" for c, j in self.candidates.items()
            )
            notes.append(
                f"WiSE-FT chose {self.coefficient:g}; val accuracy (loss) by coefficient: {tried}."
            )
        return tuple(notes)


def check_val(averaging: str, images: int) -> None:
    """Refuses a soup without a val split.

    Args:
        averaging: A name in `AVERAGES`.
        images: Number of val images.

    Raises:
        RecipeError: There are no val images.
    """
    if averaging == "soup" and not images:
        raise RecipeError(
            "averaging: soup chooses epochs on val, and there is no val split.",
            where="averaging",
            hint="Set clean.val above 0, or use averaging: ema.",
        )


def greedy_soup(ingredients: dict[int, Weights], curve: list[Epoch], validate: Validate) -> Blend:
    """The average of the best epochs, added greedily as long as val accuracy does not fall.

    Source: Wortsman et al. 2022, "Model soups", arXiv 2203.05482, their greedy soup, but
    of the epochs of one run instead of many runs.

    Args:
        ingredients: Weights by epoch, at least one; epoch 0 is the start.
        curve: Metrics of each epoch.
        validate: Weights to their metrics on val.

    Returns:
        The soup, which is at least as accurate on val as its best ingredient.
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
    """WiSE-FT: interpolates between the start and the trained network.

    Source: Wortsman et al. 2021, "Robust fine-tuning of zero-shot models", arXiv 2109.01903. Here
    the start is the network with a fitted head.

    Args:
        start: Weights before training.
        end: Weights after training.
        coefficients: From 0, the start, to 1, the end. Of two, the second was given by the user:
            it is chosen unless the start is more accurate on val.
        images: In val; without any the largest coefficient is taken.
        validate: Weights to their metrics on val.

    Returns:
        The chosen weights; see `chosen`.
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
    """Chooses a coefficient on val: the one with the lowest loss among the accurate ones.

    Accurate means within one standard error of the best and not below the start, which is chosen if
    there is no other. As in early stopping, the loss of the start does not count: a fitted head is
    better calibrated than a network trained with label smoothing.

    Choosing the smallest accurate coefficient, as would suit zero-shot models, was tried: from the
    photos of PACS to its paintings, val cannot tell 0 from 1, and the fitted head that this rule
    chooses is 2.8 points worse on photos and 6 on paintings than a coefficient of 0.8.

    Args:
        candidates: Metrics by coefficient, including 0.
        images: Number of val images.

    Returns:
        A coefficient.
    """
    best = max(j.accuracy for j in candidates.values())
    bar = max(best - standard_error(best, images), candidates[0.0].accuracy)
    accurate = [c for c, j in candidates.items() if c > 0 and j.accuracy >= bar]
    return min(accurate, key=lambda c: candidates[c].loss, default=0.0)


@torch.no_grad()
def interpolated(start: Weights, end: Weights, coefficient: float) -> Weights:
    """Interpolates linearly between two networks; counters are those of the end.

    Args:
        start: Weights.
        end: Weights of the same names and shapes.
        coefficient: In [0, 1].

    Returns:
        New weights.
    """
    return {
        name: start[name].lerp(t, coefficient) if t.is_floating_point() else t.clone()
        for name, t in end.items()
    }
