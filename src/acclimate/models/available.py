"""The pretrained networks that can be named, found without building one and without a download."""

import csv
import fnmatch
import importlib.metadata
import importlib.util
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from acclimate.cache import cache_folder, usable_cache
from acclimate.errors import ModelFileError, OutputError
from acclimate.files import write_atomic
from acclimate.models.model_names import PACKAGED, letters_of, near_model_names

COUNTS = "parameter_counts.csv"
"""Networks of timm with their parameters: `benchmarks/count_parameters.py` writes it."""

_FORMAT = 1
_NOT_MEANT = ("unknown", "other", "")


@dataclass(frozen=True)
class Network:
    """A pretrained network that can be named.

    Attributes:
        name: As it is typed.
        image_size: The size it was trained at, in px.
        license: Of the weights; "unknown" if timm does not say.
        source: A repository of the model hub, the address of a file, or a package.
    """

    name: str
    image_size: int
    license: str
    source: str


@dataclass(frozen=True)
class AvailableModel:
    """A pretrained network, and whether its weights are on this machine.

    Attributes:
        name: As it is typed.
        parameters: With a head of 1,000 classes; None if it was not counted.
        image_size: The size it was trained at, in px.
        license: Of the weights; "unknown" if timm does not say.
        weights: Where they are: in an installed package, downloaded before, or to be downloaded.
        bytes: Size of the file with the weights, if it is on this machine.
    """

    name: str
    parameters: int | None
    image_size: int
    license: str
    weights: Literal["installed", "downloaded", "download"]
    bytes: int | None


def available(pattern: str | None = None) -> list[AvailableModel]:
    """The pretrained networks that can be named, those on this machine first.

    Args:
        pattern: Part of the name, or one with * and ?; all names if it is None.

    Returns:
        The networks; those of a kind are sorted by name.

    Raises:
        ModelFileError: No name matches.
    """
    networks = [n for n in _networks() if pattern is None or matches(n.name, pattern)]
    if not networks and pattern is not None:
        hint = near_model_names(pattern, [n.name for n in _networks()])
        raise ModelFileError(f"no model has {pattern!r} in its name. {hint}")
    counts = _parameter_counts()
    found = [_with_weights(network, counts) for network in networks]
    order = ("installed", "downloaded", "download")
    return sorted(found, key=lambda model: order.index(model.weights))


def matches(name: str, pattern: str) -> bool:
    """Whether a name has a pattern; case, dashes and underscores do not matter.

    Args:
        name: Such as "timm:resnet50.a1_in1k".
        pattern: Part of the name, or one with * and ? for its whole or what follows "timm:".

    Returns:
        Whether it has.
    """
    wanted, plain = (text.lower().replace("-", "_") for text in (pattern, name))
    if set("*?[") & set(wanted):
        return any(fnmatch.fnmatchcase(p, wanted) for p in (plain, plain.removeprefix("timm:")))
    return wanted in plain or (wanted.isascii() and _letters_in(wanted, plain))


def _letters_in(wanted: str, name: str) -> bool:
    """Whether letters and digits of a name have those of a pattern: "resnet-50" and "resnet50"."""
    return bool(letters_of(wanted)) and letters_of(wanted) in letters_of(name)


def network_names() -> list[str]:
    """All networks by name, without those of weights; read in milliseconds, for completion."""
    return [*PACKAGED, *(f"timm:{name}" for name in _parameter_counts())]


def _parameter_counts() -> dict[str, int]:
    with Path(__file__).with_name(COUNTS).open(newline="") as stream:
        return {row["network"]: int(row["parameters"]) for row in csv.DictReader(stream)}


def _networks() -> list[Network]:
    """All networks: read from the cache, since timm takes seconds to import."""
    version = importlib.metadata.version("timm")
    folder = usable_cache(cache_folder())
    kept = None if folder is None else folder / f"networks-timm-{version}.json"
    found = None if kept is None else _read(kept)
    if found is None:
        found = list(_from_timm())
        if kept is not None:
            _write(kept, found)
    return found


def _read(kept: Path) -> list[Network] | None:
    """The networks in the cache; None if there are none, or not in this format."""
    try:
        record = json.loads(kept.read_text())
        if record["format"] == _FORMAT:
            return [Network(**one) for one in record["networks"]]
    except (OSError, ValueError, TypeError, KeyError):
        pass
    return None


def _write(kept: Path, networks: Sequence[Network]) -> None:
    record = {"format": _FORMAT, "networks": [asdict(n) for n in networks]}
    try:
        write_atomic(kept, json.dumps(record))
    except OutputError:  # a cache is never needed
        return


def _from_timm() -> Iterator[Network]:
    """The packaged networks, and those of timm with weights for classes."""
    import timm

    for name, (package, _) in PACKAGED.items():
        size = timm.get_pretrained_cfg(_network_of(name)).input_size[-1]
        yield Network(name, int(size), "apache-2.0", package)
    for name in timm.list_models(pretrained=True):
        config = timm.get_pretrained_cfg(name)
        if not config.num_classes:  # a backbone alone, which `pretrained` does not accept
            continue
        license_ = str(config.license or "")
        yield Network(
            f"timm:{name}",
            int(config.input_size[-1]),
            "unknown" if license_ in _NOT_MEANT else license_,
            config.hf_hub_id or config.url,
        )


def _network_of(name: str) -> str:
    """The network that a name names, as timm calls it without the name of weights."""
    if name in PACKAGED:
        return f"tf_{name.replace('-', '_')}"
    return name.removeprefix("timm:").partition(".")[0]


def _with_weights(network: Network, counts: Mapping[str, int]) -> AvailableModel:
    package = network.name in PACKAGED
    file = _in_package(network.source) if package else _downloaded(network.source)
    here: Literal["installed", "downloaded"] = "installed" if package else "downloaded"
    return AvailableModel(
        network.name,
        counts.get(_network_of(network.name)),
        network.image_size,
        network.license,
        "download" if file is None else here,
        None if file is None else file.stat().st_size,
    )


def _in_package(package: str) -> Path | None:
    """The file with the weights of a package, its largest one."""
    found = importlib.util.find_spec(package)
    places = [] if found is None else found.submodule_search_locations or []
    files = [path for place in places for path in Path(place).rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size, default=None)


def _downloaded(source: str) -> Path | None:
    """The file with weights that was downloaded before; None if there is none."""
    if re.match(r"https?://", source):
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        home = Path(os.environ.get("TORCH_HOME") or Path(cache) / "torch")
        file = home / "hub" / "checkpoints" / source.rpartition("/")[2]
        return file if file.is_file() else None
    from huggingface_hub import constants

    repository, _, revision = source.partition("@")
    folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    if not folder.is_dir():  # of most networks; the hub's client takes long to import
        return None
    from huggingface_hub import try_to_load_from_cache

    for name in ("model.safetensors", "pytorch_model.bin"):
        path = try_to_load_from_cache(repository, name, revision=revision or None)
        if isinstance(path, str):
            return Path(path)
    return None
