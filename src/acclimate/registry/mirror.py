"""MLflow's database as a copy of the log, so that MLflow's own tools show the store."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from acclimate.errors import OutputError
from acclimate.registry.audit_log import History, check_has_log

CHAMPION = "champion"
_WRITTEN = "acclimate.log"
"""Tag of a model: the last line of the log about it that the database was written after."""


class Mirror:
    """The database of a store, which is written after the log and compared with it.

    Args:
        client: MLflow's client.
    """

    def __init__(self, client: MlflowClient) -> None:
        self.client = client

    def listed(self) -> list[str]:
        """The names of the models that have a version in the database."""
        found = _pages(self.client.search_registered_models)
        return [model.name for model in found if self._rows(model.name)]

    def version_fault(self, history: History, model: str, number: int) -> str | None:
        """What the database says of a version, if it is not what the log says.

        Args:
            history: The log.
            model: Name of the model.
            number: Number of the version.

        Returns:
            A clause, or None. A version that is missing is none: a process may have been killed
            after it wrote the log.
        """
        row = self._rows(model).get(number)
        if row is None:
            return None
        told, known = dict(row.tags), as_tags(history.live(model)[number])
        for name in sorted(told.keys() | known.keys()):
            if told.get(name) != known.get(name):
                return f"says {name} {told.get(name)!r}, and the log {known.get(name)!r}"
        return None

    def alias_fault(self, history: History, model: str) -> str | None:
        """What the database says of the champion, if it is not what the log says.

        Args:
            history: The log.
            model: Name of the model.

        Returns:
            A clause with what happened last, or None.
        """
        found = self._registered(model)
        alias = None if found is None else found.aliases.get(CHAMPION)
        told = None if alias is None else int(alias)
        if told is None:
            return None  # it says nothing: it was made again, and not written yet
        # A process may have been killed between the log and the database.
        written = found is not None and found.tags.get(_WRITTEN) == history.head_of(model)
        if told in {_last(history.champions(model, back=n)) for n in ((0,) if written else (0, 1))}:
            return None
        move = history.last_move(model)
        known = "that none was promoted" if move is None else (
            f"that version {move.number} became it by {move.action} at {move.time[:19]} UTC"
        )  # fmt: skip
        return f"says that {CHAMPION} is version {told}, and the log {known}"

    def check_log(self, store: Path, history: History) -> None:
        """Checks that the models in the database were registered with a log; see `check_has_log`.

        Args:
            store: Folder of the store.
            history: Its log.

        Raises:
            ModelFileError: There are models, but no log.
        """
        if not history.entries:
            check_has_log(store, history, self.listed())

    def write(self, history: History, source: Callable[[str, int], str], *, also: str) -> None:
        """Makes the database say what the log says, under the lock of the store.

        Args:
            history: The log.
            source: Name of a model and number of a version to the address of its folder.
            also: A model that is written even if the database says that it was written already.

        Raises:
            OutputError: The database numbers versions in another way.
        """
        found = _pages(self.client.search_registered_models)
        written = {model.name: model.tags.get(_WRITTEN) for model in found}
        for model in sorted({entry.model for entry in history.entries}):
            if model == also or written.get(model) != history.head_of(model):
                self._write_model(history, model, source)

    def _write_model(self, history: History, model: str, source: Callable[[str, int], str]) -> None:
        if self._registered(model) is None:
            self.client.create_registered_model(model)
        rows, live = self._rows(model), history.live(model)
        registered = history.registered(model)
        for number in sorted(set(live) - set(rows)):
            rows[number] = self._insert(model, number, source, live[number])
        for number, row in rows.items():
            if number in registered and number not in live:
                self.client.delete_model_version(model, str(number))
            elif number in live:
                self._write_tags(row, as_tags(live[number]))
        self._write_alias(history, model)
        self.client.set_registered_model_tag(model, _WRITTEN, history.head_of(model))

    def _insert(
        self,
        model: str,
        number: int,
        source: Callable[[str, int], str],
        record: Mapping[str, Any],
    ) -> ModelVersion:
        """Adds a version; numbers below it that were deleted are used up first."""
        while True:
            made = self.client.create_model_version(
                model, source(model, number), tags=as_tags(record)
            )
            if int(made.version) == number:
                return made
            self.client.delete_model_version(model, str(made.version))
            if int(made.version) > number:
                raise OutputError(
                    f"the database would number version {number} of {model} {made.version}: "
                    "versions were added to it without acclimate.",
                    hint="Remove mlflow.db from the store: it is made again from the log.",
                )

    def _write_tags(self, row: ModelVersion, tags: Mapping[str, str]) -> None:
        for name, value in tags.items():
            if row.tags.get(name) != value:
                self.client.set_model_version_tag(row.name, str(row.version), name, value)
        for name in set(row.tags) - set(tags):
            self.client.delete_model_version_tag(row.name, str(row.version), name)

    def _write_alias(self, history: History, model: str) -> None:
        champion = _last(history.champions(model))
        told = self.client.get_registered_model(model).aliases.get(CHAMPION)
        if champion is None and told is not None:
            self.client.delete_registered_model_alias(model, CHAMPION)
        elif champion is not None and str(told) != str(champion):
            self.client.set_registered_model_alias(model, CHAMPION, str(champion))

    def _registered(self, model: str) -> RegisteredModel | None:
        try:
            return self.client.get_registered_model(model)  # only this record has the aliases
        except MlflowException:
            return None

    def _rows(self, model: str) -> dict[int, ModelVersion]:
        found = _pages(self.client.search_model_versions, f"name='{model}'")
        return {int(row.version): row for row in found}


def as_tags(record: Mapping[str, Any]) -> dict[str, str]:
    """The record of a version as tags of the database.

    Args:
        record: Of the log.

    Returns:
        Figures, digest, time and parent, as text.
    """
    own = {name: record[name] for name in ("digest", "created", "parent") if record.get(name)}
    return {name: str(value) for name, value in {**record["facts"], **own}.items()}


def _last(numbers: list[int]) -> int | None:
    return numbers[-1] if numbers else None


def _pages(search: Callable[..., Any], *query: str) -> list[Any]:
    """All results of a search in MLflow, which returns one page at a time."""
    found, token = [], None
    while True:
        page = search(*query, page_token=token)
        found += list(page)
        token = page.token
        if not token:
            return found
