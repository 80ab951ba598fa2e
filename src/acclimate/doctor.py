"""What is installed, which device is used, and what would make it faster."""

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from acclimate.cache import cache_folder, pixel_folder
from acclimate.cpu import EXACT_INT8, cpu_flags, usable_cores
from acclimate.files import folder_bytes, free_bytes

_LIBRARIES = (
    "acclimate", "torch", "torchvision", "timm", "lightning-fabric", "onnx", "onnxruntime",
    "torch-pruning", "mlflow", "model-signing", "pyarrow", "scikit-learn", "numpy", "pillow",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One line of the output of `acclimate doctor`.

    Attributes:
        topic: What was examined.
        fact: What was found.
        advice: What would make it better; empty if all is well.
    """

    topic: str
    fact: str
    advice: str = ""


def examine() -> list[Finding]:
    """Examines this machine and installation.

    Returns:
        The findings, the most important first.
    """
    return [
        _device(),
        _cores(),
        _integers(),
        _disk(),
        _feature_cache(),
        _pixel_cache(),
        *_libraries(),
    ]


def _device() -> Finding:
    if torch.cuda.is_available():
        return Finding("device", f"cuda: {torch.cuda.get_device_name(0)}")
    if torch.backends.mps.is_available():
        return Finding("device", "mps (Apple GPU)")
    built = "with" if torch.version.cuda else "without"
    return Finding(
        "device",
        f"cpu (torch was built {built} CUDA)",
        "No GPU was found: a smaller --set model.image_size saves the most time.",
    )


def _cores() -> Finding:
    usable, there = usable_cores(), os.cpu_count() or 1
    limited = "This process may use only some of the cores (affinity or CPU quota)."
    advice = limited if usable < there else ""
    threads = torch.get_num_threads()
    if threads < usable:
        advice = f"torch uses {threads} of them: OMP_NUM_THREADS or a container limits it."
    return Finding("cores", f"{usable} of {there}", advice)


def _integers() -> Finding:
    flags = cpu_flags()
    if not flags:
        return Finding("8-bit arithmetic", f"unknown on {platform.machine()}")
    for flag in EXACT_INT8:
        if flag in flags:
            return Finding("8-bit arithmetic", f"{flag}: int8 models are several times faster")
    return Finding(
        "8-bit arithmetic",
        "no VNNI",
        "int8 gains less here, and large sums are clipped; `compress` avoids that.",
    )


def _disk() -> Finding:
    free = free_bytes(Path.cwd())
    advice = "" if free > 2e9 else "There is little space left for checkpoints and reports."
    return Finding("free disk here", f"{free / 1e9:,.1f} GB", advice)


def _feature_cache() -> Finding:
    folder = cache_folder()
    size = _bytes(folder) - _bytes(pixel_folder(folder))
    return Finding("feature cache", f"{size / 1e6:,.0f} MB in {folder}", _may_be_deleted(size))


def _pixel_cache() -> Finding:
    folder = pixel_folder(cache_folder())
    size = _bytes(folder)
    return Finding("pixel cache", f"{size / 1e6:,.0f} MB in {folder}", _may_be_deleted(size))


def _bytes(folder: Path) -> int:
    return folder_bytes(folder) if folder.exists() else 0


def _may_be_deleted(size: int) -> str:
    return "" if size < 5e9 else "It is from earlier runs: the folder may be deleted."


def _libraries() -> list[Finding]:
    found = []
    for name in _LIBRARIES:
        try:
            found.append(Finding(name, version(name)))
        except PackageNotFoundError:
            found.append(Finding(name, "missing", f"pip install {name}"))
    return found
