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


Three = tuple[float, float, float]
_IMAGENET_MEAN: Three = (0.485, 0.456, 0.406)
_IMAGENET_STD: Three = (0.229, 0.224, 0.225)


class OnnxFile(Settings):
    """What an ONNX file of somebody else's does not say of itself."""

    classes: tuple[Annotated[str, Field(coerce_numbers_to_str=True)], ...] = ()
    """Names in the order of the outputs; must be given."""
    image_size: ImageSize | Auto = "auto"
    """Side of the input in px; auto is the graph's own."""
    mean: Three = _IMAGENET_MEAN
    """Of each color, red first, in units of 0 to 1; ImageNet's where not given."""
    std: Three = _IMAGENET_STD
    """Of each color, in units of 0 to 1; ImageNet's where not given."""
    interpolation: Literal["bilinear", "bicubic", "lanczos"] = "bilinear"
    """How images are resized."""
    crop: Annotated[float, Field(gt=0, le=1)] = 0.875
    """Part of the shorter side that is seen; torchvision's resize to 256 and crop of 224."""
    outputs: Literal["auto", "logits", "probabilities"] = "auto"
    """What the graph gives; auto tells it from a few answers."""
