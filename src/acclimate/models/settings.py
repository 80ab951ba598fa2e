"""Settings of models, export and ONNX files."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from acclimate.settings import Auto, Settings

ImageSize = Annotated[int, Field(ge=32, le=1024)]
RuntimeName = Literal["torch", "onnx"]


class Model(Settings):
    """The pretrained network."""

    name: str = "efficientnet-lite0"
    """efficientnet-lite0/1/2 (weights are installed), timm:NAME, or a model folder."""
    weights: Path | None = None
    """Local .safetensors or state-dict file with weights of the architecture `name`."""
    image_size: ImageSize | Auto = "auto"
    """Side of the input in px; auto is the size that the network was trained at."""


class Export(Settings):
    """Export to one ONNX file."""

    check_images: PositiveInt = 64
    """Number of images to compare the ONNX file with PyTorch on."""


Channels = tuple[float, float, float] | tuple[float]
_IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
_IMAGENET_STD: Channels = (0.229, 0.224, 0.225)


class OnnxFile(Settings):
    """Description of an ONNX file that acclimate did not write."""

    classes: tuple[Annotated[str, Field(coerce_numbers_to_str=True)], ...] = ()
    """Class names in the order of the outputs; required."""
    image_size: ImageSize | Auto = "auto"
    """Side of the input in px; auto is the size in the file."""
    mean: Channels = _IMAGENET_MEAN
    """Mean of each color, red first, or of grey, in [0, 1]; the default is ImageNet's."""
    std: Channels = _IMAGENET_STD
    """Standard deviation of each color, or of grey, in [0, 1]; the default is ImageNet's."""
    interpolation: Literal["bilinear", "bicubic", "lanczos"] = "bilinear"
    """Interpolation for resizing images."""
    crop: Annotated[float, Field(gt=0, le=1)] = 0.875
    """Fraction of the shorter side to crop; 0.875 is a crop of 224 px from 256 px."""
    outputs: Literal["auto", "logits", "probabilities"] = "auto"
    """Kind of outputs; auto detects it on a few images of noise."""
