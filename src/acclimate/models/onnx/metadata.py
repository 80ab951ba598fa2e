"""The metadata of an ONNX file: the input contract and the classes of its classifier."""

import json
from collections.abc import Sequence
from pathlib import Path

from acclimate.data.images.contract import InputContract
from acclimate.errors import ModelFileError
from acclimate.models.onnx.external_data import check_without_external_data
from acclimate.models.onnx.file import parse_graph

KEY_CONTRACT, KEY_CLASSES, KEY_SOURCE = (
    "acclimate.contract", "acclimate.classes", "acclimate.source",
)  # fmt: skip


def read_metadata(graph: bytes) -> tuple[InputContract, tuple[str, ...]]:
    """Reads the input contract and the classes from the metadata of an ONNX file.

    Args:
        graph: The file's bytes.

    Returns:
        Contract and class names.

    Raises:
        ModelFileError: The file is not valid, or has no such metadata.
    """
    model = parse_graph(graph)
    try:
        props = {p.key: p.value for p in model.metadata_props}
        contract = json.loads(props[KEY_CONTRACT])
        classes = tuple(str(c) for c in json.loads(props[KEY_CLASSES]))
    except (KeyError, ValueError, TypeError) as error:
        raise ModelFileError(
            "the ONNX file has no input contract and classes in its metadata.",
            hint="If another program wrote it, describe it in FILE.onnx.yaml beside it: "
            "`classes: [ant, bee]`, and mean and std if they are not ImageNet's.",
        ) from error
    return InputContract.from_record(contract), classes


def check_graph(graph: bytes, classes: Sequence[str], contract: InputContract, where: Path) -> None:
    """Checks that the graph of a model folder is whole and belongs to its `model.json`.

    Args:
        graph: The content of the ONNX file.
        classes: The classes in `model.json`.
        contract: The input contract there.
        where: The file, for messages.

    Raises:
        ModelFileError: It keeps data in other files, or is of other classes or another contract.
    """
    try:
        check_without_external_data(parse_graph(graph))
        found, named = read_metadata(graph)
    except ModelFileError as error:
        raise ModelFileError(error.message, where=where, hint=error.hint) from error
    if named != tuple(classes) or found != contract:
        what = "classes" if named != tuple(classes) else "input contract"
        raise ModelFileError(
            f"the {what} in its metadata are not those in model.json.",
            where=where,
            hint="Copy the model again from its source.",
        )
