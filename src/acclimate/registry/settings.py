"""Settings of the registry."""

from pathlib import Path
from typing import Literal

from acclimate.settings import Settings

SignerName = Literal["key"]


class Register(Settings):
    """The registry: finished models as numbered, signed versions."""

    store: Path = Path("acclimate-store")
    """Folder of the store, with the models and MLflow's database."""
    name: str | None = None
    """Name of the model in the store; by default the name of the recipe."""
    signer: SignerName = "key"
    """Method to sign versions."""
    key: Path | None = None
    """Private key (PEM, elliptic curve); by default one is created for the user."""
    tracking_uri: str | None = None
    """MLflow server or database to send the training curves to; by default none."""
    allow_unsigned: bool = False
    """Use versions that cannot be verified, with a warning for each."""
