"""Whether this processor computes an int8 graph as the one on which it was measured.

On x86 without VNNI, ONNX Runtime's fast kernels clip large sums of 8-bit products. So one file may
be several points less accurate there, without an error. The logits of the fast kernels are compared
with those of the same graph in float arithmetic, on images of random squares: no image of the
user's has to travel with the model. Measured on EfficientNet-Lite0 (mean difference over the
standard deviation of the logits, processor without VNNI): 0.18 with clipped sums and 0.007 to 0.017
without, which is rounding.
"""

import numpy as np

from acclimate.data.images.contract import InputContract, Pixels
from acclimate.errors import ModelFileError
from acclimate.models.classifier import Classifier
from acclimate.models.runtime import create_session, session_runner

FIGURE = "int8_difference"
"""Name of the figure in the card's steps."""
TOLERANCE = 0.06
_IMAGES = 16


def int8_difference(classifier: Classifier) -> float:
    """How far this processor's int8 arithmetic is from exact arithmetic, on one graph.

    Args:
        classifier: With an int8 graph.

    Returns:
        The mean absolute difference of the logits over their standard deviation: about 0.01 from
        rounding, and above 0.1 if sums are clipped.
    """
    assert classifier.graph is not None
    images = classifier.contract.normalize(sample_images(classifier.contract))
    fast, exact = (
        session_runner(create_session(classifier.graph, "cpu", exact=exact))(images)
        for exact in (False, True)
    )
    return float(np.abs(fast - exact).mean() / max(float(exact.std()), 1e-9))


def check_int8(classifier: Classifier) -> None:
    """Raises an error if an int8 model computes something else here than where it was measured.

    Args:
        classifier: Any; others than int8 models with a recorded difference are not checked.

    Raises:
        ModelFileError: The difference is larger or smaller than recorded.
    """
    recorded = recorded_difference(classifier)
    if recorded is None:
        return
    here = int8_difference(classifier)
    if abs(here - recorded) > TOLERANCE:
        raise ModelFileError(
            "this processor computes the int8 model differently from the one on which its accuracy "
            f"was measured (difference from exact arithmetic {here:.2f} here, {recorded:.2f} "
            "there), so its accuracy here is unknown.",
            where=classifier.name,
            hint="Evaluate it on this machine to see, use the float model, or make it again with "
            "`acclimate compress --portable`.",
        )


def recorded_difference(classifier: Classifier) -> float | None:
    """The difference on the machine that made the int8 model; None if it is not known."""
    if classifier.precision != "int8":
        return None
    found = [step.figures[FIGURE] for step in classifier.card.steps if FIGURE in step.figures]
    return found[-1] if found else None


def sample_images(contract: InputContract) -> Pixels:
    """Images of random squares, of 2 to 32 a side: the same ones on every machine.

    Args:
        contract: Gives size and channels.

    Returns:
        uint8, (16, S, S, 3), or (16, S, S, 1) for grey images.
    """
    size, found = contract.image_size, []
    for number in range(_IMAGES):
        rng = np.random.default_rng(number)
        squares = 2 ** (1 + number % 5)
        colors = rng.integers(0, 256, (squares, squares, contract.channels), dtype=np.uint8)
        place = np.arange(size) * squares // size
        found.append(colors[place][:, place])
    return np.stack(found)
