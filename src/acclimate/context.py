"""What every stage is passed: seed, device, workspace, progress, caches."""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from acclimate.arguments import checked
from acclimate.cache import cache_folder
from acclimate.progress import Progress, silent

if TYPE_CHECKING:
    from acclimate.registry.settings import Register

CACHE_GB = 10.0
"""About 30,000 photos at 224 px, and not too much for a cache folder."""


@checked
@dataclass(frozen=True)
class Context:
    """Seed, device, workspace, progress and caches of a run. Only the seed changes results.

    Attributes:
        seed: Random seed.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        workspace: Folder for the checkpoints of a stage that is running; None keeps none.
        progress: Receives messages and progress.
        cache: Folder where features and decoded images are kept between runs.
        cache_gb: Disk space for decoded images there, in GB; 0 keeps none.
        registry: The store of models that are named `models:NAME@ALIAS`; None is the default.
    """

    seed: int = 0
    device: str = "auto"
    workspace: Path | None = None
    progress: Progress = silent
    cache: Path = field(default_factory=cache_folder)
    cache_gb: float = CACHE_GB
    registry: "Register | None" = None

    def __post_init__(self) -> None:
        """Paths may be given as text."""
        object.__setattr__(self, "cache", Path(self.cache))
        if self.workspace is not None:
            object.__setattr__(self, "workspace", Path(self.workspace))

    def seed_for(self, *names: object) -> int:
        """A separate seed for each use, below 2**63, the same in every run.

        Args:
            *names: The use, such as "shuffle" and the epoch.

        Returns:
            The derived seed.
        """
        return derive_seed(self.seed, *names)


def derive_seed(seed: int, *names: object) -> int:
    """A seed below 2**63 derived from another one and names, the same on every machine."""
    text = "\x1f".join([str(seed), *map(str, names)]).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def process_rank() -> int:
    """This process's rank under `torchrun`; 0 when it runs alone."""
    return int(os.environ.get("RANK", "0"))


def process_count() -> int:
    """How many processes `torchrun` started; 1 when this one runs alone."""
    return int(os.environ.get("WORLD_SIZE", "1"))
