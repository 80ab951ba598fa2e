"""Renders `preprocess.py`: the input contract as a program that needs only NumPy and Pillow."""

from acclimate.data.images.contract import InputContract
from acclimate.data.images.samples import VISIBLE

PREPROCESS_FILE = "preprocess.py"

_TEMPLATE = '''"""Prepares images for model.onnx as acclimate does; needs NumPy and Pillow only.

    from preprocess import preprocess
    session = onnxruntime.InferenceSession("model.onnx")
    logits = session.run(None, {{"images": preprocess("photo.jpg")[None]}})[0]
"""

import numpy as np
from PIL import Image, ImageOps

SIZE, CROP, FILTER = {size}, {crop}, Image.Resampling.{filter}
MEAN = np.float32({mean}) * 255
STD = np.float32({std}) * 255


def preprocess(path):
    """One image file as float32, ({channels}, SIZE, SIZE)."""
    with Image.open(path) as image:
{draft}        image = as_rgb(ImageOps.exif_transpose(image))
    side = min(image.size) * CROP
    left, top = (image.width - side) / 2, (image.height - side) / 2
    image = image.resize((SIZE, SIZE), FILTER, box=(left, top, left + side, top + side))
    pixels = np.asarray({channel_image}, np.float32).reshape(SIZE, SIZE, {channels})
    return ((pixels - MEAN) / STD).transpose(2, 0, 1)


def as_rgb(image):
    """Scales 16-bit grey to 8 bits, and lays transparency on white{or_black}."""
    if image.mode.startswith("I"):
        samples = np.asarray(image).astype(np.int64) * 255 // {largest}
        return Image.fromarray(np.clip(samples, 0, 255).astype(np.uint8)).convert("RGB")
    if "transparency" not in image.info and image.mode not in ("RGBA", "LA", "PA", "RGBa", "La"):
        return image.convert("RGB")
    image = image.convert("RGBA")
{ground}
    return Image.alpha_composite(Image.new("RGBA", image.size, ground), image).convert("RGB")
'''
_DRAFT = """\
        scale = max(min(image.size) / {side}, 1)  # a JPEG is decoded at 1/2, 1/4 or 1/8
        image.draft("RGB", (int(image.width / scale), int(image.height / scale)))
"""
_WHITE = '    ground = "white"'
_BY_LIGHTNESS = """\
    samples = np.asarray(image).astype(np.int64)
    alpha, from_white = samples[..., 3], 255 - samples[..., :3].min(2)
    ground = "black" if (from_white * alpha).sum() < {visible} * alpha.sum() else "white\""""


def preprocess_source(contract: InputContract) -> str:
    """The text of `preprocess.py` for a contract.

    Args:
        contract: Of the model beside it.

    Returns:
        Python source of a module with the function `preprocess(path)`, whose result is the input
        of one image, exactly as `InputContract.read` and `normalize` compute it.
    """
    new, side = contract.decoding > 1, contract.decoded_side
    return _TEMPLATE.format(
        size=contract.image_size,
        crop=contract.crop,
        filter=contract.filter.name,
        mean=list(contract.mean),
        std=list(contract.std),
        channels=contract.channels,
        draft=_DRAFT.format(side=side) if side else "",
        channel_image="image" if contract.channels == 3 else 'image.convert("L")',
        largest=2**contract.bits - 1,
        or_black=", or light images on black" if new else "",
        ground=_BY_LIGHTNESS.format(visible=VISIBLE) if new else _WHITE,
    )
