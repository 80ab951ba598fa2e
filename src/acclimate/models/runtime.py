"""Logits behind one call, whatever runs the network."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import nn

from acclimate.context import Context, usable_cores
from acclimate.data.dataset import Dataset, Rows
from acclimate.data.images.batches import ordered_batches
from acclimate.data.images.contract import InputContract, Pixels
from acclimate.data.images.threads import one_thread
from acclimate.errors import ModelFileError, reason
from acclimate.models.classifier import Classifier
from acclimate.models.device import choose_device, on_device

Logits = NDArray[np.float32]
"""(B, C)."""
Run = Callable[[Pixels], Logits]
"""uint8 (B, S, S, 3) to float32 (B, C)."""
Infer = Callable[[NDArray[Any]], NDArray[np.float32]]
"""What a graph takes to what it gives."""


def run_torch(classifier: Classifier, device: str = "auto") -> Run:
    """The PyTorch network on a device, channels last.

    Args:
        classifier: With a network.
        device: "auto", "cpu", "cuda", …

    Returns:
        Pixels to logits.

    Raises:
        ModelFileError: There is no network, or no such device.
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
    """Pixels as a tensor; a copy only where PyTorch could not use their memory."""
    return torch.from_numpy(np.require(images, requirements=["C", "W"]))


def run_onnx(classifier: Classifier, device: str = "auto") -> Run:
    """The exported graph in ONNX Runtime.

    Args:
        classifier: Exported.
        device: A GPU is used where ONNX Runtime was built for one.

    Returns:
        Pixels to logits.

    Raises:
        ModelFileError: There is no graph.
    """
    if classifier.graph is None:
        raise ModelFileError(f"{classifier.name} was not exported to ONNX.")
    infer = open_session(classifier.graph, device)
    return lambda images: infer(classifier.contract.normalize(images))


def open_session(graph: bytes, device: str = "auto") -> Infer:
    """An ONNX graph of one input and one output, ready to run.

    Args:
        graph: The file's bytes.
        device: "auto", "cpu", "cuda".

    Returns:
        float32 (B, 3, S, S) to the output.

    Raises:
        ModelFileError: The bytes are no graph that can be run.
    """
    return session_runner(create_session(graph, device))


def create_session(graph: bytes, device: str) -> ort.InferenceSession:
    """ONNX Runtime's session of a graph.

    Args:
        graph: The file's bytes.
        device: "auto", "cpu", "cuda".

    Returns:
        The session.

    Raises:
        ModelFileError: The bytes are no graph that can be run.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what fails is raised: once is enough
    options.intra_op_num_threads = usable_cores()
    wanted = ["CUDAExecutionProvider"] if device != "cpu" else []
    available = ort.get_available_providers()
    providers = [p for p in wanted if p in available] + ["CPUExecutionProvider"]
    try:
        return ort.InferenceSession(graph, options, providers=providers)
    except Exception as error:  # ONNX Runtime's own error types share no base but Exception
        raise ModelFileError(f"ONNX file cannot be run ({reason(error)}).") from error


def session_runner(session: ort.InferenceSession) -> Infer:
    """The first output of a session; a graph of one image at a time is run once an image.

    Args:
        session: Of one input.

    Returns:
        A batch to the output, float32.
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
    """A network that does not learn: ONNX Runtime on a CPU (2 to 4 times eager PyTorch).

    Args:
        network: Moved to the device where PyTorch runs it itself.
        contract: What it expects.
        device: Where it runs.
        graph: Gives the network as ONNX; asked on a CPU only. None where exporting does not pay:
            PyTorch runs it there too.

    Returns:
        uint8 (B, S, S, 3) to what the network gives, float32.
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
    """The network's logits of some images, as evaluation sees them.

    Args:
        classifier: With a network.
        dataset: Cleaned.
        rows: Which images.
        context: The run.
        task: What the pass is called where its progress is shown.

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


def best_runtime(classifier: Classifier, device: str = "auto") -> str:
    """The fastest way to run a classifier here: the graph on a CPU, the network on a GPU."""
    on_cpu = choose_device(device).type == "cpu"
    return "onnx" if classifier.network is None or (on_cpu and classifier.graph) else "torch"


class Normalizer:
    """Pixels to the network's numbers, on its device, without leaving channels-last order.

    Args:
        contract: Mean and std.
        device: Where the numbers are made.
    """

    def __init__(self, contract: InputContract, device: torch.device) -> None:
        self.device = device
        mean, std = torch.tensor(contract.mean), torch.tensor(contract.std)
        self.scale = (1 / (255 * std)).to(device)
        self.shift = (-mean / std).to(device)
        self._rows: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, S, S, 3) to float32 (B, 3, S, S), channels last in memory."""
        count, height, width, _ = images.shape
        if width not in self._rows:
            # For a whole row of pixels: over three numbers PyTorch's loops are short, and this took
            # five times as long.
            self._rows[width] = self.scale.repeat(width), self.shift.repeat(width)
        scale, shift = self._rows[width]
        moved = images.to(self.device, non_blocking=True)
        with one_thread():  # else its others spin when it is done, and decoding waits for a core
            numbers = moved.reshape(count, height, width * 3).float()  # a copy: images are bytes
            torch.addcmul(shift, numbers, scale, out=numbers)
        return numbers.view(count, height, width, 3).permute(0, 3, 1, 2)


RUNTIMES: dict[str, Callable[[Classifier, str], Run]] = {"torch": run_torch, "onnx": run_onnx}
"""(classifier, device) to a function from pixels to logits."""
