"""A cosine head on frozen features: directions of the classes, fitted in seconds."""

import torch
from torch.nn import functional

from acclimate.features.probe import Examples

_STEPS, _SMOOTHING = 60, 0.05
_FIRST_LENGTH = 10.0


def fit_directions(train: Examples, num_classes: int) -> torch.Tensor:
    """Class directions of one length, whose products with features of length one are logits.

    Starts from each class's mean (Qi et al. 2018, "Low-Shot Learning with Imprinted Weights",
    arXiv 1712.07136) and makes the smoothed cross-entropy small with L-BFGS.

    Args:
        train: Features of length one; every class present.
        num_classes: C.

    Returns:
        float32, (C, D), all rows of one length.
    """
    features = torch.from_numpy(train.features)
    labels = torch.from_numpy(train.labels)
    means = torch.zeros(num_classes, features.shape[1]).index_add_(0, labels, features)
    # What all classes share tells none of them apart.
    directions = functional.normalize(functional.normalize(means, dim=1) - features.mean(0), dim=1)
    directions = directions.detach().requires_grad_()
    log_length = torch.tensor(_FIRST_LENGTH).log().requires_grad_()
    parameters = [directions, log_length]
    optimizer = torch.optim.LBFGS(parameters, max_iter=_STEPS, line_search_fn="strong_wolfe")

    def weight() -> torch.Tensor:
        return functional.normalize(directions, dim=1) * log_length.exp()

    def closure() -> float:
        logits = features @ weight().T
        loss = functional.cross_entropy(logits, labels, label_smoothing=_SMOOTHING)
        directions.grad, log_length.grad = torch.autograd.grad(loss, parameters)
        return float(loss.detach())

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weight().detach()
