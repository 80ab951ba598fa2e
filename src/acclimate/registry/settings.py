"""Settings of the registry."""

from pathlib import Path
from typing import Literal

from acclimate.settings import Settings

SignerName = Literal["key"]


class Register(Settings):
    """Where finished models are kept as numbered, signed versions."""

    store: Path = Path("acclimate-store")
    """Folder of the store: the models, and MLflow's database beside them."""
    name: str | None = None
    """The model's name in the store; the recipe's own name when left out."""
    signer: SignerName = "key"
    """How versions are signed."""
    key: Path | None = None
    """Private key (PEM, elliptic curve); one is made for this user when left out."""
    tracking_uri: str | None = None
    """MLflow server (or database) that gets the curves of trainings; none when left out."""
