"""Numbered, signed versions of a model, over MLflow's registry in an embedded database."""

import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from acclimate.errors import ModelFileError, NotTrusted, OutputError, near_names, reason
from acclimate.files import atomic_folder, inside, write_json, writing_errors
from acclimate.registry.settings import Register
from acclimate.registry.signing import SIGNERS

if TYPE_CHECKING:
    from acclimate.models.classifier import Classifier

CHAMPION = "champion"
_PAST = "acclimate.past_champions"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DEFAULT = Register()

for _logger in ("alembic", "mlflow"):  # they tell of every table they make
    logging.getLogger(_logger).setLevel(logging.WARNING)
logging.getLogger("mlflow.store").setLevel(logging.CRITICAL)  # it logs what it then raises


@dataclass(frozen=True)
class Version:
    """One registered model.

    Attributes:
        name: Of the model.
        number: From 1.
        aliases: Such as "champion".
        created: UTC.
        folder: Where its files are.
        facts: Digests and figures, as text.
    """

    name: str
    number: int
    aliases: tuple[str, ...]
    created: datetime
    folder: Path
    facts: Mapping[str, str]


class Registry:
    """The versions in a store.

    Args:
        settings: Where the store is and how it signs.
        create: Make a store where there is none.
    """

    def __init__(self, settings: Register = _DEFAULT, *, create: bool = True) -> None:
        self.store = settings.store.resolve()
        self.signer = SIGNERS[settings.signer](settings.key)
        self._database = self.store / "mlflow.db"
        with _store_errors(self.store):
            if create or (self.store.exists() and not self.store.is_dir()):
                self.store.mkdir(parents=True, exist_ok=True)
            elif not self._database.is_file():
                raise ModelFileError(
                    "there is no store here.",
                    where=self.store,
                    hint="Give its folder with --store, or register a model with `acclimate run`.",
                )
            uri = f"sqlite:///{self._database}"
            self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            self.client.search_registered_models(max_results=1)  # makes the tables

    def publish(
        self,
        name: str,
        classifier: "Classifier",
        *,
        facts: Mapping[str, str] | None = None,
        documents: Mapping[str, Any] | None = None,
    ) -> Version:
        """Copies a model into the store, signs it, and gives it the next number.

        A model that is there already keeps its number.

        Args:
            name: Letters, digits, dots, dashes and underscores.
            classifier: What is kept.
            facts: Short texts shown in listings, such as the test accuracy.
            documents: JSON files to keep and sign beside it, name to value.

        Returns:
            The version.

        Raises:
            ModelFileError: The name cannot be used.
            OutputError: The store cannot be written.
        """
        _check_name(name)
        with _store_errors(self.store):
            return self._publish(name, classifier, facts or {}, documents or {})

    def _publish(
        self,
        name: str,
        classifier: "Classifier",
        facts: Mapping[str, str],
        documents: Mapping[str, Any],
    ) -> Version:
        digest = classifier.digest
        for version in self._find(name):
            if version.facts.get("digest") == digest:
                self.verify(version)
                return version
        folder = self.store / "models" / name / digest[:16]
        with atomic_folder(folder) as part:
            classifier.write_into(part)
            for file, value in documents.items():
                write_json(part / f"{file}.json", value)
            self.signer.sign(part)
        if not self._exists(name):
            self.client.create_registered_model(name)
        tags = {**facts, "digest": digest, "folder": f"{name}/{folder.name}"}
        created = self.client.create_model_version(
            name, folder.as_uri(), tags={k: str(v) for k, v in tags.items()}
        )
        return self._version(created)

    def names(self) -> list[str]:
        """The models there are."""
        found = _pages(self.client.search_registered_models)
        # A publication that was cut short leaves a name without a version.
        return sorted(model.name for model in found if self._find(model.name))

    def versions(self, name: str) -> list[Version]:
        """The versions of a model, the oldest first.

        Args:
            name: Of the model.

        Returns:
            Its versions.

        Raises:
            ModelFileError: There is no such model.
        """
        found = self._find(name)
        if not found:
            known = self.names()
            hint = near_names(name, known) if known else "The store is empty."
            raise ModelFileError(f"no model {name!r} in the store. {hint}", where=self.store)
        return found

    def version(self, name: str, reference: str) -> Version:
        """One version by number or alias.

        Args:
            name: Of the model.
            reference: "3", "champion", or "latest".

        Returns:
            The version.

        Raises:
            ModelFileError: There is no such version.
        """
        found = self.versions(name)
        if reference == "latest":
            return found[-1]
        for version in found:
            if reference == str(version.number) or reference in version.aliases:
                return version
        numbers = [str(v.number) for v in found]
        aliases = [alias for v in found for alias in v.aliases]
        raise ModelFileError(
            f"{name} has no version {reference!r}. Known: {', '.join(numbers + aliases)}, latest.",
            where=self.store,
        )

    def champion(self, name: str) -> int | None:
        """The number of the version in service, if one was promoted."""
        return next((v.number for v in self.versions(name) if CHAMPION in v.aliases), None)

    def promote(self, name: str, reference: str) -> Version:
        """Puts a version into service, after verifying it.

        Args:
            name: Of the model.
            reference: Number, alias or "latest".

        Returns:
            The champion.

        Raises:
            NotTrusted: Its signature does not fit.
        """
        version = self.version(name, reference)
        self.verify(version)
        now = self.champion(name)
        if now == version.number:
            return version
        if now is not None:
            self._set_past_champions(name, [*self._past_champions(name), now])
        self.client.set_registered_model_alias(name, CHAMPION, str(version.number))
        return self.version(name, str(version.number))

    def rollback(self, name: str) -> Version:
        """Puts the champion before this one back into service.

        Args:
            name: Of the model.

        Returns:
            The champion now.

        Raises:
            ModelFileError: There was none before.
            NotTrusted: Its signature does not fit.
        """
        self.versions(name)
        past = self._past_champions(name)
        if not past:
            raise ModelFileError(f"{name} has no earlier champion to go back to.", where=self.store)
        version = self.version(name, str(past[-1]))
        self.verify(version)
        self.client.set_registered_model_alias(name, CHAMPION, str(version.number))
        self._set_past_champions(name, past[:-1])
        return self.version(name, str(version.number))

    def verify(self, version: Version) -> None:
        """Checks every byte of a version against its signature, and that it is the one listed.

        Args:
            version: Which.

        Raises:
            NotTrusted: Something was changed.
        """
        self.load(version)

    def load(self, version: Version) -> "Classifier":
        """The classifier of a version, verified first.

        Args:
            version: Which.

        Returns:
            The classifier.

        Raises:
            NotTrusted: Something was changed.
        """
        # Imported here: it brings PyTorch, and versions are listed without it.
        from acclimate.models.classifier import Classifier

        if not version.folder.is_dir():
            raise NotTrusted("the version's folder is gone.", where=version.folder)
        self.signer.verify(version.folder)
        found = Classifier.load(version.folder)
        if found.digest != version.facts.get("digest"):
            raise NotTrusted(
                "folder holds a signed model, but not this version.", where=version.folder
            )
        return found

    def copy(self, version: Version, folder: Path) -> None:
        """Copies a verified version's files out of the store."""
        self.verify(version)
        with atomic_folder(folder) as part:
            shutil.copytree(version.folder, part, dirs_exist_ok=True)

    def _exists(self, name: str) -> bool:
        try:
            self.client.get_registered_model(name)
        except MlflowException:
            return False
        return True

    def _find(self, name: str) -> list[Version]:
        _check_name(name)
        if not self._exists(name):
            return []
        # The aliases stand in the model's own record only.
        model = self.client.get_registered_model(name)
        aliases: dict[str, list[str]] = {}
        for alias, number in model.aliases.items():
            aliases.setdefault(str(number), []).append(alias)
        found = _pages(self.client.search_model_versions, f"name='{name}'")
        versions = [self._version(v, tuple(sorted(aliases.get(str(v.version), [])))) for v in found]
        return sorted(versions, key=lambda v: v.number)

    def _version(self, created: ModelVersion, aliases: tuple[str, ...] = ()) -> Version:
        tags = dict(created.tags)
        return Version(
            name=created.name,
            number=int(created.version),
            aliases=aliases,
            created=datetime.fromtimestamp(created.creation_timestamp / 1000, UTC),
            # Below the store wherever that stands now: a store may be moved or mounted elsewhere.
            folder=inside(self.store / "models", tags.get("folder", created.name)),
            facts=tags,
        )

    def _past_champions(self, name: str) -> list[int]:
        tags = self.client.get_registered_model(name).tags
        return [int(n) for n in json.loads(tags.get(_PAST, "[]"))]

    def _set_past_champions(self, name: str, numbers: list[int]) -> None:
        self.client.set_registered_model_tag(name, _PAST, json.dumps(numbers))


@contextmanager
def _store_errors(store: Path) -> Iterator[None]:
    """A database that cannot be written is a place that cannot be written."""
    with writing_errors(store):
        try:
            yield
        except (MlflowException, SQLAlchemyError) as error:
            raise OutputError(
                f"cannot write here ({reason(error)}).",
                where=store,
                hint="Free some space, or choose another place with --out.",
            ) from error


def _pages(search: Callable[..., Any], *query: str) -> list[Any]:
    """All that a search of MLflow's finds; it answers a page at a time."""
    found, token = [], None
    while True:
        page = search(*query, page_token=token)
        found += list(page)
        token = page.token
        if not token:
            return found


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ModelFileError(
            f"{name!r} cannot name a model.",
            hint="Use letters, digits, dots, dashes and underscores, 64 at most.",
        )
