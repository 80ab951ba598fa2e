"""Checks on real images that `preprocess.py` and ONNX Runtime alone do what `predict` does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import UnidentifiedImageError
from scipy.special import softmax

from acclimate.context import Context
from acclimate.data.dataset import Dataset, Rows
from acclimate.data.images.contract import InputContract
from acclimate.data.images.standalone import PREPROCESS_FILE, preprocess_source
from acclimate.errors import ModelFileError, count
from acclimate.models.classifier import Classifier
from acclimate.models.runtime import open_session

_MAX_STANDALONE_DIFFERENCE = 1e-3
"""Inputs are equal, so that only the order of sums in ONNX Runtime may differ."""


def standalone_agreement(
    classifier: Classifier, dataset: Dataset, rows: Rows, context: Context
) -> dict[str, float]:
    """Compares `preprocess.py` and plain ONNX Runtime with what `predict` computes.

    Args:
        classifier: Has a graph.
        dataset: The table.
        rows: The images to compare on.
        context: The run.

    Returns:
        `standalone_images`, and `standalone_difference`, the largest one of a probability.

    Raises:
        ModelFileError: A probability differs by more than 0.001.
    """
    assert classifier.graph is not None
    contract, infer = classifier.contract, open_session(classifier.graph, "cpu")
    preprocess, worst, compared = load_preprocess(contract), 0.0, 0
    for row in rows.tolist():
        path = dataset.path(row)
        try:
            standalone = infer(preprocess(path)[None])
        except UnidentifiedImageError:  # HEIC: Pillow reads it with an extra only
            continue
        ours = infer(contract.normalize(contract.read(path)[None]))
        worst = max(worst, float(np.abs(softmax(standalone, axis=1) - softmax(ours, axis=1)).max()))
        compared += 1
    if worst > _MAX_STANDALONE_DIFFERENCE:
        raise ModelFileError(
            f"{PREPROCESS_FILE} changes a probability by {worst:.2g}; at most "
            f"{_MAX_STANDALONE_DIFFERENCE:g} is allowed.",
            where=classifier.name,
            hint="Report this with the version of Pillow, which may be newer than acclimate.",
        )
    context.progress.info(
        f"export: {PREPROCESS_FILE} with plain ONNX Runtime gives the probabilities of predict on "
        f"{count(compared, 'image')}, largest difference {worst:.2g}"
    )
    return {"standalone_images": compared, "standalone_difference": worst}


def load_preprocess(contract: InputContract) -> Callable[[Path], NDArray[np.float32]]:
    """The function of the `preprocess.py` that is written for a contract."""
    module: dict[str, Any] = {"__name__": "preprocess"}
    exec(compile(preprocess_source(contract), PREPROCESS_FILE, "exec"), module)
    found: Callable[[Path], NDArray[np.float32]] = module["preprocess"]
    return found


def rows_to_compare(dataset: Dataset, images: int) -> Rows:
    """Images of val, or any kept ones if there is no val split."""
    rows = dataset.rows("val") if len(dataset.rows("val")) else dataset.rows()
    # Spread over the table, which is sorted by class.
    found: Rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(images, len(rows))).astype(int))]
    return found
