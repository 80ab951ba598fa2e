"""Removes versions from a store, each with a line in its log."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from acclimate.errors import ModelFileError
from acclimate.registry.audit_log import DELETE, GC, History
from acclimate.registry.mirror import CHAMPION
from acclimate.registry.versions import Registry, Version


def delete(registry: Registry, version: Version) -> None:
    """Deletes a version. Its number is not given again.

    Args:
        registry: The store.
        version: The version.

    Raises:
        ModelFileError: It is the champion, or was deleted meanwhile.
    """
    name, number = version.name, version.number
    with registry.writing(name) as history:
        if number not in history.live(name):
            raise ModelFileError(f"{name}/{number} was deleted before.", where=registry.store)
        if history.champions(name)[-1:] == [number]:
            raise ModelFileError(
                f"{name}/{number} is the {CHAMPION}, which cannot be deleted.",
                where=registry.store,
                hint="Promote another version first.",
            )
        registry.append(history, DELETE, name, number)
        _remove(version.folder)


def unneeded(history: History, keep: int) -> list[tuple[str, int]]:
    """The versions that nothing needs.

    Args:
        history: The log.
        keep: How many of the newest versions of each model are kept.

    Returns:
        Name and number of each version that is neither among the newest, nor a champion or one
        that a rollback goes back to, nor one that a kept version was made from.
    """
    live = {(name, number) for name in history.names() for number in history.live(name)}
    needed = set()
    for name in history.names():
        numbers = sorted(history.live(name))
        newest = numbers[len(numbers) - keep :] if keep else []
        needed |= {(name, number) for number in (*newest, *history.champions(name))}
    pending = list(needed & live)
    while pending:
        name, number = pending.pop()
        parent = history.live(name)[number]["parent"]
        if parent is not None:
            own, _, own_number = parent.rpartition("/")
            before = (own, int(own_number))
            if before in live and before not in needed:
                needed.add(before)
                pending.append(before)
    return sorted(live - needed)


def collect(registry: Registry, keep: int) -> list[tuple[str, int]]:
    """Removes the versions that nothing needs, and folders that a killed process left.

    Args:
        registry: The store.
        keep: How many of the newest versions of each model are kept.

    Returns:
        Name and number of each version that was removed.
    """
    with registry.writing("") as history:
        gone = unneeded(history, keep)
        for name, number in gone:
            history = registry.append(history, GC, name, number)
        for folder in leftovers(registry, history):
            _remove(folder)
    return gone


def leftovers(registry: Registry, history: History) -> Sequence[Path]:
    """The folders in the store that belong to no version."""
    live = {
        registry.store / "models" / name / str(number)
        for name in history.names()
        for number in history.live(name)
    }
    found = sorted((registry.store / "models").glob("*/*"))
    return [folder for folder in found if folder not in live]


def _remove(folder: Path) -> None:
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.is_dir():
        shutil.rmtree(folder)
