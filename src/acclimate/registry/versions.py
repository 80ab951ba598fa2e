"""Numbered, signed versions of models, as the log of their store says."""

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acclimate.arguments import checked
from acclimate.errors import ModelFileError, NotTrusted, near_names
from acclimate.files import AnyPath, atomic_folder
from acclimate.registry.audit_log import PROMOTE, REGISTER, ROLLBACK, AuditLog, History
from acclimate.registry.database import locked, open_database, store_errors
from acclimate.registry.mirror import CHAMPION, Mirror
from acclimate.registry.reference import check_name
from acclimate.registry.settings import Register
from acclimate.registry.signing import MAX_BYTES, SIGNERS
from acclimate.registry.version import RECORD_FILE, as_json, parent_of
from acclimate.registry.version import Version as Version
from acclimate.regular_files import read_folder

if TYPE_CHECKING:
    from acclimate.models.classifier import Classifier

log = logging.getLogger("acclimate")
_DEFAULT = Register()


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
        self.allow_unsigned = settings.allow_unsigned
        self.client = open_database(self.store, create=create)
        self._log, self._mirror = AuditLog(self.store, self.signer), Mirror(self.client)
        with store_errors(self.store):
            self._mirror.check_log(self.store, self.history())

    def publish(
        self,
        name: str,
        classifier: "Classifier",
        *,
        facts: Mapping[str, str] | None = None,
        documents: Mapping[str, Any] | None = None,
        files: Mapping[str, bytes] | None = None,
        ancestors: Collection[str] = (),
    ) -> Version:
        """Copies a model into the store, signs it, and gives it the next number.

        A model that is already in the store keeps its number.

        Args:
            name: Name of the model: letters, digits, dots, dashes and underscores.
            classifier: The model.
            facts: Short texts for listings, such as the test accuracy.
            documents: JSON files to store and sign with it, name to value.
            files: Other files, name to content.
            ancestors: Digests of the models that it was made from.

        Returns:
            The version.

        Raises:
            ModelFileError: The name is not valid.
            OutputError: The store cannot be written.
        """
        check_name(name)
        more = {f"{n}.json": as_json(value) for n, value in (documents or {}).items()}
        with self.writing(name) as history:
            digest = classifier.digest
            for number, record in history.live(name).items():
                if record["digest"] == digest:
                    known = self._version(history, name, number)
                    self.verify(known)
                    return known
            number = max([0, *history.registered(name)]) + 1
            record = {
                "digest": digest,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "parent": parent_of(history, {*ancestors, classifier.card.parent}),
                "facts": {key: str(value) for key, value in (facts or {}).items()},
            }
            whole = {"name": name, "number": number, **record}
            content = {
                **classifier.files(), **more, **(files or {}), RECORD_FILE: as_json(whole),
            }  # fmt: skip
            with atomic_folder(self._folder(name, number)) as part:
                for file, data in content.items():
                    (part / file).write_bytes(data)
                self.signer.sign(part, content)
            history = self.append(history, REGISTER, name, number, record)
            return self._version(history, name, number)

    def history(self) -> History:
        """The log of the store, verified.

        Returns:
            Its entries, oldest first.

        Raises:
            NotTrusted: It was changed.
        """
        with self._distrusting():
            return self._log.read()
        return self._log.read(verified=False)

    def names(self) -> list[str]:
        """The names of the models in the store."""
        return self.history().names()

    def versions(self, name: str) -> list[Version]:
        """The versions of a model, oldest first.

        Args:
            name: Name of the model.

        Returns:
            The versions.

        Raises:
            ModelFileError: There is no such model.
        """
        check_name(name)
        history = self.history()
        found = [self._version(history, name, number) for number in sorted(history.live(name))]
        if not found:
            known = history.names()
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
            NotTrusted: The alias was moved without the log.
        """
        found = self.versions(name)
        if reference == CHAMPION:
            self._check_alias(name)
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
        with self.writing(name) as history:
            version = self.version(name, reference)
            self.verify(version)
            if history.champions(name)[-1:] != [version.number]:
                history = self.append(history, PROMOTE, name, version.number)
            return self._version(history, name, version.number)

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
        with self.writing(name) as history:
            self.versions(name)
            live = history.live(name)
            champions = history.champions(name)
            past = [n for n in champions[:-1] if n in live and n != champions[-1]]
            if not past:
                raise ModelFileError(f"{name} has no previous champion.", where=self.store)
            self.verify(self.version(name, str(past[-1])))
            history = self.append(history, ROLLBACK, name, past[-1])
            return self._version(history, name, past[-1])

    def verify(self, version: Version) -> None:
        """Checks the signature of a version, and that folder, log and database agree.

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
        # Imported here: it imports PyTorch, which listing versions does not need.
        from acclimate.models.classifier import Classifier
        from acclimate.models.model_folder import ModelFolder

        files = self.read(version)
        found = Classifier.from_content(ModelFolder(version.folder, files))
        if found.digest != version.facts["digest"]:
            with self._distrusting():
                raise NotTrusted(
                    "the folder has a signed model, but another version.", where=version.folder
                )
        return found

    def read(self, version: Version) -> dict[str, bytes]:
        """Verifies a version and returns its files.

        Args:
            version: The version.

        Returns:
            Name to content: the bytes that were verified.

        Raises:
            NotTrusted: The files were changed.
        """
        with self._distrusting():
            if not version.folder.is_dir():
                raise NotTrusted("the folder of the version is missing.", where=version.folder)
            files = self.signer.verify(version.folder)
            self._check_record(version, files)
            return files
        return read_folder(version.folder, MAX_BYTES)

    def copy(self, version: Version, folder: AnyPath) -> None:
        """Verifies a version and writes its files and their signature to another folder."""
        files = self.read(version)
        with atomic_folder(Path(folder)) as part:
            for name, content in files.items():
                (part / name).parent.mkdir(parents=True, exist_ok=True)
                (part / name).write_bytes(content)

    def _check_record(self, version: Version, files: Mapping[str, bytes]) -> None:
        """Compares what the signed folder and the database say of a version with the log."""
        history = self.history()
        record = history.live(version.name).get(version.number, {})
        whole = {"name": version.name, "number": version.number, **record}
        if files.get(RECORD_FILE) != as_json(whole):
            raise NotTrusted(
                "the folder has a signed model, but another version.", where=version.folder
            )
        fault = self._mirror.version_fault(history, version.name, version.number)
        if fault is not None:
            raise NotTrusted(
                f"the database {fault} of {version.name}/{version.number}.",
                where=self.store,
                hint="It was changed without acclimate: any promotion writes it again.",
            )

    def _check_alias(self, name: str) -> None:
        fault = self._mirror.alias_fault(self.history(), name)
        if fault is not None:
            with self._distrusting():
                raise NotTrusted(
                    f"the database {fault}.",
                    where=f"{self.store}: {name}@{CHAMPION}",
                    hint="It was moved without acclimate: promote a version by its number.",
                )

    @contextmanager
    def _distrusting(self) -> Iterator[None]:
        """Logs what is not trusted in place of raising it, if that is allowed."""
        try:
            yield
        except NotTrusted as error:
            if not self.allow_unsigned:
                raise
            log.warning(f"NOT VERIFIED, used all the same (--allow-unsigned): {error}")

    @contextmanager
    def writing(self, name: str) -> Iterator[History]:
        """Holds the lock of the store, after the database was made to say what the log says.

        Args:
            name: Name of the model that is written.

        Yields:
            History: The log.
        """
        with store_errors(self.store), locked(self.store):
            history = self._log.read()
            self._mirror.write(history, self._source, also=name)
            yield history

    def append(
        self,
        history: History,
        action: str,
        name: str,
        number: int,
        record: Mapping[str, Any] | None = None,
    ) -> History:
        """Appends a line to the log, and writes it to the database; only while it is held.

        Args:
            history: The log.
            action: What was done.
            name: Name of the model.
            number: Number of the version.
            record: What the version is, if it was registered.

        Returns:
            The longer log.
        """
        longer = self._log.append(history, action, name, number, record)
        self._mirror.write(longer, self._source, also=name)
        return longer

    def _version(self, history: History, name: str, number: int) -> Version:
        record = history.live(name)[number]
        champion = history.champions(name)[-1:] == [number]
        return Version(
            name=name,
            number=number,
            aliases=(CHAMPION,) if champion else (),
            created=datetime.fromisoformat(record["created"]),
            folder=self._folder(name, number),
            facts={**record["facts"], "digest": record["digest"]},
            parent=record["parent"],
        )

    def _folder(self, name: str, number: int) -> Path:
        # Not written anywhere: the store may be moved or mounted elsewhere.
        return self.store / "models" / name / str(number)

    def _source(self, name: str, number: int) -> str:
        return self._folder(name, number).as_uri()
