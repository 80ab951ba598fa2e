"""The machine that a step ran on, for its record."""

import os
import platform
from importlib.metadata import version as installed

_LIBRARIES = (
    "acclimate", "torch", "torchvision", "timm", "onnxruntime", "torch-pruning", "numpy", "pillow",
)  # fmt: skip


def machine(device: str) -> dict[str, str]:
    """The software and hardware behind the figures: recorded, and never part of a key."""
    from acclimate.models.device import choose_device

    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count()),
        "device": str(choose_device(device)),
        **{name: installed(name) for name in _LIBRARIES},
    }
