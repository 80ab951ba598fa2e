"""Runs classifiers with PyTorch or ONNX Runtime behind one function type."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import nn

from acclimate.context import Context
from acclimate.cpu import usable_cores
from acclimate.data.dataset import Dataset, Rows
from acclimate.data.images.batches import ordered_batches
from acclimate.data.images.contract import GREY, InputContract, Pixels
from acclimate.data.images.threads import one_thread
from acclimate.errors import ModelFileError, reason
from acclimate.models.classifier import Classifier
from acclimate.models.device import choose_device, on_device

SPINNING = {"session.intra_op.spin_duration_us": "50"}
"""How long a thread of ONNX Runtime waits for work before it sleeps: long enough for the next
operation of the same pass, but not until the next pass, on cores that other work could use."""

Logits = NDArray[np.float32]
"""(B, C)."""
Run = Callable[[Pixels], Logits]
"""uint8 (B, S, S, 3) to float32 (B, C)."""
Infer = Callable[[NDArray[Any]], NDArray[np.float32]]
"""The input of a graph to its output."""


def run_torch(classifier: Classifier, device: str = "auto") -> Run:
    """Runs the PyTorch network on a device, channels last.

    Args:
        classifier: Has a network.
        device: "auto", "cpu", "cuda", …

    Returns:
        A function from pixels to logits.

    Raises:
        ModelFileError: There is no network, or the device is not available.
    """
    chosen = choose_device(device)
    network = on_device(classifier.module(), chosen).eval()
    to_input = Normalizer(classifier.contract, chosen)

    def run(images: Pixels) -> Logits:
        with torch.inference_mode():
            logits: torch.Tensor = network(to_input(as_tensor(images)))
        return logits.float().cpu().numpy()

    return run


def as_tensor(images: Pixels) -> torch.Tensor:
    """Pixels as a tensor, copied only if PyTorch cannot use their memory."""
    return torch.from_numpy(np.require(images, requirements=["C", "W"]))


def run_onnx(classifier: Classifier, device: str = "auto") -> Run:
    """Runs the exported graph with ONNX Runtime.

    Args:
        classifier: Has an ONNX graph.
        device: A GPU is used if ONNX Runtime was built for it, unless this is "cpu".

    Returns:
        A function from pixels to logits.

    Raises:
        ModelFileError: There is no graph.
    """
    if classifier.graph is None:
        raise ModelFileError(f"{classifier.name} was not exported to ONNX.")
    infer = open_session(classifier.graph, device)
    return lambda images: infer(classifier.contract.normalize(images))


def open_session(graph: bytes, device: str = "auto") -> Infer:
    """Opens an ONNX graph with one input and one output.

    Args:
        graph: The content of the file.
        device: "auto", "cpu" or "cuda".

    Returns:
        A function from float32 (B, C, S, S) to the output.

    Raises:
        ModelFileError: ONNX Runtime cannot run the graph.
    """
    return session_runner(create_session(graph, device))


def create_session(graph: bytes, device: str, *, exact: bool = False) -> ort.InferenceSession:
    """Creates the ONNX Runtime session of a graph.

    Args:
        graph: The content of the file.
        device: "auto", "cpu" or "cuda".
        exact: Whether an int8 graph is computed in float arithmetic, slowly, as it is written.

    Returns:
        The session.

    Raises:
        ModelFileError: ONNX Runtime cannot run the graph.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are raised, and need not be logged too
    options.intra_op_num_threads = usable_cores()
    if exact:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    for name, value in SPINNING.items():
        options.add_session_config_entry(name, value)
    wanted = ["CUDAExecutionProvider"] if device != "cpu" else []
    available = ort.get_available_providers()
    providers = [p for p in wanted if p in available] + ["CPUExecutionProvider"]
    try:
        return ort.InferenceSession(graph, options, providers=providers)
    except Exception as error:  # ONNX Runtime's own error types share no base but Exception
        raise ModelFileError(f"the ONNX file cannot be run ({reason(error)}).") from error


def session_runner(session: ort.InferenceSession) -> Infer:
    """Runs the first output of a session. A graph with batch size 1 is run once per image.

    Args:
        session: Has one input.

    Returns:
        A function from a batch to the output, float32.
    """
    input_info = session.get_inputs()[0]
    one_by_one = bool(input_info.shape) and input_info.shape[0] == 1

    def infer(inputs: NDArray[Any]) -> NDArray[np.float32]:
        pieces = [inputs[i : i + 1] for i in range(len(inputs))] if one_by_one else [inputs]
        found = [session.run(None, {input_info.name: piece})[0] for piece in pieces]
        return np.asarray(found[0] if len(found) == 1 else np.concatenate(found), np.float32)

    return infer


def run_frozen(
    network: nn.Module,
    contract: InputContract,
    device: torch.device,
    graph: Callable[[], bytes] | None,
) -> Callable[[Pixels], NDArray[np.float32]]:
    """Runs a frozen network; on a CPU with ONNX Runtime, which is 2 to 4 times as fast as PyTorch.

    Args:
        network: Moved to the device if PyTorch runs it.
        contract: Its input contract.
        device: The device.
        graph: Returns the network as ONNX; called on a CPU only. None to use PyTorch there too,
            because exporting takes longer than it saves.

    Returns:
        A function from uint8 (B, S, S, 3) to the network's output, float32.
    """
    if device.type == "cpu" and graph is not None:
        infer = open_session(graph(), "cpu")
        return lambda images: infer(contract.normalize(images))
    moved, to_input = on_device(network, device).eval(), Normalizer(contract, device)

    def run(images: Pixels) -> NDArray[np.float32]:
        with torch.inference_mode():
            output: torch.Tensor = moved(to_input(as_tensor(images)))
        return output.float().cpu().numpy()

    return run


def predict_logits(
    classifier: Classifier, dataset: Dataset, rows: Rows, context: Context, *, task: str
) -> Logits:
    """Computes the logits of some images, prepared as for evaluation.

    Args:
        classifier: Has a network.
        dataset: Cleaned data set.
        rows: The images.
        context: The run.
        task: Name of the pass in the progress output.

    Returns:
        float32, (n, C), in the order of the rows.
    """
    run = run_torch(classifier, context.device)
    found = [np.empty((0, len(classifier.classes)), np.float32)]
    with context.progress.task(task, len(rows)) as shown:
        for batch in ordered_batches(dataset, rows, classifier.contract, context=context):
            found.append(run(batch.images))
            shown.advance(len(batch.rows))
    return np.concatenate(found)


def softmax(logits: Logits) -> Logits:
    """Probabilities, float32 (B, C), of logits (B, C)."""
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(exponents / exponents.sum(1, keepdims=True), np.float32)


def best_runtime(classifier: Classifier, device: str = "auto") -> str:
    """The fastest runtime for a classifier: ONNX Runtime on a CPU, PyTorch on a GPU."""
    on_cpu = choose_device(device).type == "cpu"
    return "onnx" if classifier.network is None or (on_cpu and classifier.graph) else "torch"


class Normalizer:
    """Moves pixels to a device and normalizes them, channels last in memory.

    Args:
        contract: Has mean and std.
        device: The device.
    """

    def __init__(self, contract: InputContract, device: torch.device) -> None:
        self.device, self.channels = device, contract.channels
        mean, std = torch.tensor(contract.mean), torch.tensor(contract.std)
        self.scale = (1 / (255 * std)).to(device)
        self.shift = (-mean / std).to(device)
        self._rows: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, S, S, 3) to float32 (B, 3 or 1, S, S), channels last in memory."""
        count, height, width, _ = images.shape
        channels = self.channels
        if width not in self._rows:
            # Repeated for a row of pixels: PyTorch's inner loops would be three numbers long, and
            # take five times as long.
            self._rows[width] = self.scale.repeat(width), self.shift.repeat(width)
        scale, shift = self._rows[width]
        moved = images.to(self.device, non_blocking=True)
        with one_thread():  # idle threads would spin afterwards and take cores from decoding
            if channels == 1:
                moved = _grey(moved)
            numbers = moved.reshape(count, height, width * channels).float()  # a copy
            torch.addcmul(shift, numbers, scale, out=numbers)
        return numbers.view(count, height, width, channels).permute(0, 3, 1, 2)


def _grey(images: torch.Tensor) -> torch.Tensor:
    """Luminance of RGB bytes, (B, S, S); the same numbers as in `InputContract.normalize`."""
    red, green, blue = (images[..., i].int() * weight for i, weight in enumerate(GREY))
    return (red + green + blue + 0x8000) >> 16


RUNTIMES: dict[str, Callable[[Classifier, str], Run]] = {"torch": run_torch, "onnx": run_onnx}
"""Name to a function of (classifier, device) that returns a function from pixels to logits."""
