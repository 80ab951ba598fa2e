"""Signs folders: a manifest of all digests, and a signature of the manifest.

Source: OpenSSF Model Signing, https://github.com/sigstore/model-transparency, through its library.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from model_signing import hashing, manifest, signing, verifying

from acclimate.errors import DataError, NotTrusted, reason
from acclimate.files import writing_errors
from acclimate.registry.keys import KeyFiles
from acclimate.regular_files import read_folder

SIGNATURE = "signature.sigstore.json"
MAX_BYTES = 16 << 30
"""Of all files of a signed folder."""


class Signer(Protocol):
    """Signs a folder and verifies it."""

    def sign(self, folder: Path, files: Mapping[str, bytes] | None = None) -> None:
        """Writes the signature of some content, or of what the folder holds, into the folder."""

    def verify(self, folder: Path) -> dict[str, bytes]:
        """The content of a signed folder; NotTrusted if anything in it has changed."""

    def sign_bytes(self, content: bytes) -> str:
        """A signature of some bytes."""

    def verify_bytes(self, content: bytes, signature: str) -> bool:
        """Whether a signature is one of these bytes by a trusted key."""


class KeySigner:
    """Signs with an elliptic-curve key on this machine, without network access.

    The private key is stored outside the store, so that write access to the store is not enough to
    sign. Signatures are verified with the public key beside the private key and with those in its
    folder of trusted keys, never with a key from the store.

    Args:
        key: Private key in PEM; None for the user's key, which is created on first use.
    """

    def __init__(self, key: Path | None = None) -> None:
        self.keys = KeyFiles(key)
        self.private, self.public = self.keys.private, self.keys.public

    def sign(self, folder: Path, files: Mapping[str, bytes] | None = None) -> None:
        """Signs every file in the folder.

        Args:
            folder: The folder; the signature is added as one more file.
            files: Name to content of what was written there, which is signed whatever the folder
                holds by now; None to read the folder.

        Raises:
            OutputError: The key is not valid or cannot be created.
        """
        self.keys.ensure()
        with writing_errors(folder):
            signer = signing.Config().use_elliptic_key_signer(private_key=self.private)
            hashed = _whole(folder) if files is None else _OfContent(files)
            signer.set_hashing_config(hashed).sign(folder, folder / SIGNATURE)

    def verify(self, folder: Path) -> dict[str, bytes]:
        """Reads every file of a folder once, and checks what was read against the signature.

        Args:
            folder: The signed folder.

        Returns:
            Name to content, with the signature. Whoever uses the files uses these: those in the
            folder may be exchanged at any time.

        Raises:
            NotTrusted: There is no signature or no key, the files do not match them, or something
                in the folder is not a regular file.
        """
        try:
            files = read_folder(folder, MAX_BYTES)
        except (DataError, OSError) as error:
            raise NotTrusted(_fault(error, folder), where=folder) from error
        if SIGNATURE not in files:
            raise NotTrusted("the model is not signed.", where=folder)
        faults = []
        for key in self.keys.public_keys():
            try:
                verifier = verifying.Config().use_elliptic_key_verifier(public_key=key)
                verifier.set_hashing_config(_OfContent(files)).verify(folder, folder / SIGNATURE)
            except Exception as error:  # the library raises ValueError, its own and cryptography's
                faults.append(error)
            else:
                return files
        raise NotTrusted(
            f"the signature does not match ({reason(faults[0])}).",
            where=folder,
            hint="A file was changed, added or removed after signing, or another key signed it.",
        ) from faults[0]

    def sign_bytes(self, content: bytes) -> str:
        """A signature of some bytes; see `KeyFiles.sign_bytes`."""
        return self.keys.sign_bytes(content)

    def verify_bytes(self, content: bytes, signature: str) -> bool:
        """Whether a trusted key made a signature of some bytes."""
        return self.keys.verify_bytes(content, signature)


def _whole(folder: Path) -> hashing.Config:
    """Covers every file; by default the library ignores files of git such as `.gitattributes`."""
    return hashing.Config().set_ignored_paths(paths=[folder / SIGNATURE], ignore_git_paths=False)


def _fault(error: DataError | OSError, folder: Path) -> str:
    """Why a folder cannot be read, with the name of the file."""
    if isinstance(error, OSError):
        return f"the folder cannot be read ({reason(error)})."
    name = Path(error.where or folder).relative_to(folder)
    return error.message if name == Path() else f"{name.as_posix()!r} {error.message}"


class _OfContent(hashing.Config):  # type: ignore[misc]
    """Hashes content that was read already, in place of the files of a folder."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__()
        self._files = files

    def hash(self, model_path: Path, *, files_to_hash: object = None) -> manifest.Manifest:
        """The manifest of the content."""
        kind = manifest.SerializationType.from_args(
            {"method": "files", "hash_type": "sha256", "allow_symlinks": False}
        )
        items = [
            kind.new_item(name, manifest.hashing.Digest("sha256", hashlib.sha256(content).digest()))
            for name, content in self._files.items()
            if name != SIGNATURE
        ]
        return manifest.Manifest(model_path.name, items, kind)


SIGNERS: dict[str, Callable[[Path | None], Signer]] = {"key": KeySigner}
"""Name to a function of the private key's path, or None for the user's key, to a signer."""
