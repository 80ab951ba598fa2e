"""NNCF on a float ONNX file, in an environment of its own; `compression.py --nncf` starts it.

    python compression_peers.py FOLDER

FOLDER holds float.onnx and images.npy (calibration images as the graph takes them). An int8 file is
written for each way, and `minutes.json`.
"""

import json
import sys
import time
from pathlib import Path

import nncf
import numpy as np
import onnx
from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

WAYS = {
    "NNCF": {},
    "NNCF, 7-bit weights": {"overflow_fix": OverflowFix.ENABLE},
    "NNCF, 7-bit weights, accurate bias correction": {
        "overflow_fix": OverflowFix.ENABLE,
        "fast": False,
    },
}


def main(folder: Path) -> None:
    images = np.load(folder / "images.npy")
    minutes = {}
    for number, (name, way) in enumerate(WAYS.items()):
        began = time.monotonic()
        more = {}
        if "overflow_fix" in way:
            more["advanced_parameters"] = AdvancedQuantizationParameters(
                overflow_fix=way["overflow_fix"]
            )
        made = nncf.quantize(
            onnx.load(folder / "float.onnx"),
            nncf.Dataset(images, lambda image: {"images": image[None]}),
            subset_size=len(images),
            fast_bias_correction=way.get("fast", True),
            **more,
        )
        onnx.save(made, folder / f"{number}.onnx")
        minutes[name] = (time.monotonic() - began) / 60
        (folder / "minutes.json").write_text(json.dumps(minutes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
