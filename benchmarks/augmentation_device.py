"""Cost of augmentation in decoding threads and in batches on a device, and their difference.

Time for an image in one thread beside that of a batch of 64 on the device, copies
included, for each named policy; and how far the images differ, in levels of 255. Run it with:

    python benchmarks/augmentation_device.py
    python benchmarks/augmentation_device.py --device cuda
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from acclimate.augmentation.batched_operations import finish_batch
from acclimate.augmentation.operations import OPERATIONS, size_of
from acclimate.augmentation.policy import POLICIES
from acclimate.augmentation.sampled import SampledTransform

BATCH, ROUNDS = 64, 5
SEEN = {
    **{name: POLICIES[name] for name in ("basic", "auto", "randaugment", "trivialaugment")},
    "augmix": replace(POLICIES["augmix"], consistency=0.0),
    "all operations": replace(POLICIES["randaugment"], operations=tuple(OPERATIONS)),
}


def median_ms(work: Callable[[], object], device: torch.device) -> float:
    """Per batch, after a warm-up batch."""
    times = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return 1e3 * statistics.median(times[1:])


def measure(name: str, images: np.ndarray, device: torch.device) -> dict[str, object]:
    policy, size = SEEN[name], size_of(images[0])

    def sample() -> list[SampledTransform]:
        return [policy.sample_transform(size, np.random.default_rng(seed)) for seed in range(BATCH)]

    sampled = sample()

    def alone() -> np.ndarray:
        return np.stack([one.apply(image) for one, image in zip(sampled, images, strict=True)])

    def together() -> torch.Tensor:
        return finish_batch(images, [[one] for one in sampled], device)

    apart = np.abs(alone().astype(int) - together().cpu().numpy())
    return {
        "policy": name,
        "sampling, ms per image": round(median_ms(sample, device) / BATCH, 3),
        "one thread, ms an image": round(median_ms(alone, device) / BATCH, 2),
        "device, ms an image": round(median_ms(together, device) / BATCH, 2),
        "mean difference": round(float(apart.mean()), 4),
        "more than one level": round(float((apart > 1).mean()), 5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--image-size", type=int, default=224)
    args = parser.parse_args()
    size = (args.image_size, args.image_size)
    photos = [np.asarray(Image.fromarray(p).resize(size)) for p in load_sample_images().images]
    images = np.stack([photos[index % 2] for index in range(BATCH)])
    for name in SEEN:
        print(json.dumps(measure(name, images, torch.device(args.device))), flush=True)


if __name__ == "__main__":
    main()
