"""Settings of the model room."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from acclimate.settings import Auto, Settings

ImageSize = Annotated[int, Field(ge=32, le=1024)]
RuntimeName = Literal["torch", "onnx"]


class Model(Settings):
    """Which pretrained network is fitted."""

    name: str = "efficientnet-lite0"
    """efficientnet-lite0/1/2 (weights inside the package), timm:NAME, or a folder of ours."""
    weights: Path | None = None
    """Local .safetensors or state-dict file with weights for the architecture `name`."""
    image_size: ImageSize | Auto = "auto"
    """Side of the input in px; auto is the size the network was trained at."""


class Export(Settings):
    """How a classifier becomes one ONNX file."""

    check_images: PositiveInt = 64
    """Real images on which the file is compared with PyTorch."""
