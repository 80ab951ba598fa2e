"""`preprocess.py`, which needs only NumPy and Pillow, gives the very numbers of the contract."""

import ast
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw, features

from acclimate.data.images.contract import InputContract
from acclimate.data.images.standalone import preprocess_source
from acclimate.models.onnx.standalone_check import load_preprocess

COLOR = InputContract(32, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bicubic", 0.875)
CONTRACTS = {
    "color": COLOR,
    "grey": InputContract(40, (0.449,), (0.226,), "bilinear", 1.0),
    "12 bits": replace(COLOR, bits=12, interpolation="lanczos"),
    "before decoding had a version": replace(COLOR, decoding=1),
}


def scene(width, height, seed=0):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def see_through(color):
    image = Image.new("RGBA", (90, 70), (255, 255, 255, 0))
    ImageDraw.Draw(image).ellipse([10, 10, 60, 60], outline=(*color, 200), width=5)
    return image


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def wide(limit):
    samples = np.random.default_rng(0).integers(0, limit, (70, 90), dtype=np.uint16)
    return Image.fromarray(samples)


FILES = {
    "photo.jpg": lambda path: scene(300, 200).save(path),
    "large.jpg": lambda path: scene(2000, 1500).save(path, quality=80),
    "turned.jpg": lambda path: scene(900, 700).save(path, exif=orientation(6)),
    "mirrored.jpg": lambda path: scene(90, 70).save(path, exif=orientation(5)),
    "odd exif.jpg": lambda path: scene(90, 70).save(path, exif=b"Exif\0\0garbage here"),
    "grey.jpg": lambda path: scene(90, 70).convert("L").save(path),
    "cmyk.jpg": lambda path: scene(90, 70).convert("CMYK").save(path),
    "small.png": lambda path: scene(20, 15).save(path),
    "turned.png": lambda path: scene(90, 70).save(path, exif=orientation(8)),
    "white.png": lambda path: see_through((255, 255, 255)).save(path),
    "dark.png": lambda path: see_through((20, 40, 90)).save(path),
    "clear.png": lambda path: Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(path),
    "grey alpha.png": lambda path: see_through((255, 255, 255)).convert("LA").save(path),
    "palette.png": lambda path: scene(90, 70).convert("P").save(path, transparency=3),
    "key.png": lambda path: scene(90, 70).save(path, transparency=(255, 255, 255)),
    "one bit.png": lambda path: scene(90, 70).convert("1").save(path),
    "16 bits.png": lambda path: wide(65_536).save(path),
    "12 bits.png": lambda path: wide(4_096).save(path),
    "16 bits.tif": lambda path: wide(65_536).save(path),
    "turned.tif": lambda path: scene(90, 70).save(path, exif=orientation(6)),
    "16 bits.pgm": lambda path: wide(65_536).save(path),
    "moving.gif": lambda path: scene(90, 70).save(
        path, save_all=True, append_images=[scene(90, 70, 1)]
    ),
    "alpha.webp": lambda path: see_through((250, 250, 250)).save(path),
    "plain.bmp": lambda path: scene(90, 70).save(path),
    "plain.avif": lambda path: scene(90, 70).save(path),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for name, save in FILES.items():
        if not name.endswith(".avif") or features.check("avif"):
            save(folder / name)
    return sorted(folder.iterdir())


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS.keys())
def test_every_image_becomes_the_very_numbers_of_the_contract(contract, files):
    preprocess = load_preprocess(contract)
    for path in files:
        found, expected = preprocess(path), contract.normalize(contract.read(path)[None])[0]
        assert found.dtype == expected.dtype == np.float32
        assert np.array_equal(found, expected), path.name


def test_it_is_short_and_needs_only_numpy_and_pillow():
    for contract in CONTRACTS.values():
        source = preprocess_source(contract)
        imported = {
            name.name.split(".")[0] if isinstance(node, ast.Import) else node.module
            for node in ast.walk(ast.parse(source))
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for name in node.names
        }
        assert imported == {"numpy", "PIL"}
        assert len(source.splitlines()) < 50
        assert max(map(len, source.splitlines())) <= 100
