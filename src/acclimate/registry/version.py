"""What a version of a model is, as its folder and the log of the store have it."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from acclimate.registry.audit_log import REGISTER, History

RECORD_FILE = "version.json"
"""Signed with the files of the model: name, number, digest, parent, figures and time."""


@dataclass(frozen=True)
class Version:
    """One registered model.

    Attributes:
        name: Name of the model.
        number: Number, from 1.
        aliases: Aliases such as "champion".
        created: Time of registration, UTC.
        folder: Folder of its files.
        facts: Digest and figures, as text.
        parent: The version that it was made from, such as "leaf/1"; None if it is not in the store.
    """

    name: str
    number: int
    aliases: tuple[str, ...]
    created: datetime
    folder: Path
    facts: Mapping[str, str]
    parent: str | None = None


def parent_of(history: History, digests: Collection[str | None]) -> str | None:
    """The newest version that a model was made from.

    Args:
        history: The log.
        digests: Of the models that it was made from.

    Returns:
        Text such as "leaf/1"; None if none of them is in the store.
    """
    found = [
        f"{entry.model}/{entry.number}"
        for entry in history.entries
        if entry.action == REGISTER and entry.record["digest"] in digests
    ]
    return found[-1] if found else None


def as_json(value: object) -> bytes:
    """The one JSON text of a value, whatever the order of its keys."""
    return (json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n").encode()
