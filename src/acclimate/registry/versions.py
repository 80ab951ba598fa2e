"""Numbered, signed versions of models, in MLflow's registry with an embedded database."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from acclimate.arguments import checked
from acclimate.errors import ModelFileError, NotTrusted, near_names
from acclimate.files import AnyPath, atomic_folder, inside, write_json
from acclimate.registry.database import locked, open_database, store_errors
from acclimate.registry.settings import Register
from acclimate.registry.signing import SIGNERS

if TYPE_CHECKING:
    from acclimate.models.classifier import Classifier

CHAMPION = "champion"
_PAST = "acclimate.past_champions"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DEFAULT = Register()


@dataclass(frozen=True)
class Version:
    """One registered model.

    Attributes:
        name: Name of the model.
        number: Number, from 1.
        aliases: Aliases such as "champion".
        created: Time of registration, UTC.
        folder: Folder of its files.
        facts: Digests and figures, as text.
    """

    name: str
    number: int
    aliases: tuple[str, ...]
    created: datetime
    folder: Path
    facts: Mapping[str, str]


@checked
class Registry:
    """A store of registered models.

    >>> from acclimate import Registry, probe
    >>> from acclimate.registry.settings import Register
    >>> model = probe("efficientnet-lite0", "photos/", image_size=64)
    >>> registry = Registry(Register(store=Path("store"), key=Path("key.pem")))
    >>> version = registry.publish("leaf", model)
    >>> registry.promote("leaf", "latest").aliases
    ('champion',)
    >>> registry.load(version).classes == model.classes
    True

    Args:
        settings: Folder of the store, and the signing key; or the folder alone.
        create: Create the store if it does not exist.
    """

    def __init__(self, settings: Register | AnyPath = _DEFAULT, *, create: bool = True) -> None:
        if not isinstance(settings, Register):
            settings = Register(store=Path(settings))
        self.store = settings.store.resolve()
        self.signer = SIGNERS[settings.signer](settings.key)
        self.client = open_database(self.store, create=create)

    def publish(
        self,
        name: str,
        classifier: "Classifier",
        *,
        facts: Mapping[str, str] | None = None,
        documents: Mapping[str, Any] | None = None,
    ) -> Version:
        """Copies a model into the store, signs it, and gives it the next number.

        A model that is already in the store keeps its number.

        Args:
            name: Name of the model: letters, digits, dots, dashes and underscores.
            classifier: The model.
            facts: Short texts for listings, such as the test accuracy.
            documents: JSON files to store and sign with it, name to value.

        Returns:
            The version.

        Raises:
            ModelFileError: The name is not valid.
            OutputError: The store cannot be written.
        """
        _check_name(name)
        with store_errors(self.store), locked(self.store):
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
        with atomic_folder(Path(folder)) as part:
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
        """The names of the models in the store."""
        found = _pages(self.client.search_registered_models)
        # An interrupted publication leaves a name without versions.
        return sorted(model.name for model in found if self._find(model.name))

    def versions(self, name: str) -> list[Version]:
        """The versions of a model, oldest first.

        Args:
            name: Name of the model.

        Returns:
            The versions.

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
        """Finds one version by number or alias.

        Args:
            name: Name of the model.
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
            f"{name} has no version {reference!r}, only {', '.join(numbers + aliases)}, latest.",
            where=self.store,
        )

    def champion(self, name: str) -> int | None:
        """The number of the champion, or None if no version was promoted."""
        return next((v.number for v in self.versions(name) if CHAMPION in v.aliases), None)

    def promote(self, name: str, reference: str) -> Version:
        """Verifies a version and makes it the champion.

        Args:
            name: Name of the model.
            reference: Number, alias or "latest".

        Returns:
            The champion.

        Raises:
            NotTrusted: The signature does not match.
        """
        with store_errors(self.store), locked(self.store):
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
        """Makes the previous champion the champion again.

        Args:
            name: Name of the model.

        Returns:
            The champion.

        Raises:
            ModelFileError: There is no previous champion.
            NotTrusted: The signature does not match.
        """
        with store_errors(self.store), locked(self.store):
            self.versions(name)
            past = self._past_champions(name)
            if not past:
                raise ModelFileError(f"{name} has no previous champion.", where=self.store)
            version = self.version(name, str(past[-1]))
            self.verify(version)
            self.client.set_registered_model_alias(name, CHAMPION, str(version.number))
            self._set_past_champions(name, past[:-1])
            return self.version(name, str(version.number))

    def verify(self, version: Version) -> None:
        """Checks the signature of a version, and that the folder has the listed model.

        Args:
            version: The version.

        Raises:
            NotTrusted: The files were changed.
        """
        self.load(version)

    def load(self, version: Version) -> "Classifier":
        """Verifies a version and loads its classifier from the very bytes that were verified.

        Args:
            version: The version.

        Returns:
            The classifier.

        Raises:
            NotTrusted: The files were changed.
        """
        return self._loaded(version, self._read(version))

    def _read(self, version: Version) -> dict[str, bytes]:
        """The files of a version, verified, name to content."""
        if not version.folder.is_dir():
            raise NotTrusted("the folder of the version is missing.", where=version.folder)
        return self.signer.verify(version.folder)

    def _loaded(self, version: Version, files: Mapping[str, bytes]) -> "Classifier":
        # Imported here: it imports PyTorch, which listing versions does not need.
        from acclimate.models.classifier import Classifier
        from acclimate.models.model_folder import ModelFolder

        found = Classifier.from_content(ModelFolder(version.folder, files))
        if found.digest != version.facts.get("digest"):
            raise NotTrusted(
                "the folder has a signed model, but another version.", where=version.folder
            )
        return found

    def copy(self, version: Version, folder: AnyPath) -> None:
        """Verifies a version and writes its files and their signature to another folder."""
        files = self._read(version)
        self._loaded(version, files)
        with atomic_folder(Path(folder)) as part:
            for name, content in files.items():
                (part / name).parent.mkdir(parents=True, exist_ok=True)
                (part / name).write_bytes(content)

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
        # Only the record of the model has the aliases.
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
            # Relative to the store, which may have been moved or mounted elsewhere.
            folder=inside(self.store / "models", tags.get("folder", created.name)),
            facts=tags,
        )

    def _past_champions(self, name: str) -> list[int]:
        tags = self.client.get_registered_model(name).tags
        return [int(n) for n in json.loads(tags.get(_PAST, "[]"))]

    def _set_past_champions(self, name: str, numbers: list[int]) -> None:
        self.client.set_registered_model_tag(name, _PAST, json.dumps(numbers))


def _pages(search: Callable[..., Any], *query: str) -> list[Any]:
    """All results of a search in MLflow, which returns one page at a time."""
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
            f"{name!r} is not a valid model name.",
            hint="Use letters, digits, dots, dashes and underscores, 64 at most.",
        )
