"""Signs folders: a manifest of all digests, and a signature of the manifest.

Source: OpenSSF Model Signing, https://github.com/sigstore/model-transparency, through its library.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import click
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from model_signing import hashing, manifest, signing, verifying

from acclimate.errors import DataError, NotTrusted, OutputError, reason
from acclimate.files import write_atomic, writing_errors
from acclimate.regular_files import read_folder

SIGNATURE = "signature.sigstore.json"
MAX_BYTES = 16 << 30
"""Of all files of a signed folder."""


class Signer(Protocol):
    """Signs a folder and verifies it."""

    def sign(self, folder: Path) -> None:
        """Writes the signature into the folder."""

    def verify(self, folder: Path) -> dict[str, bytes]:
        """The content of a signed folder; NotTrusted if anything in it has changed."""


class KeySigner:
    """Signs with an elliptic-curve key on this machine, without network access.

    The private key is stored outside the store, so that write access to the store is not enough to
    sign. Signatures are verified with the public key beside the private key, never with a key from
    the store.

    Args:
        key: Private key in PEM; None for the user's key, which is created on first use.
    """

    def __init__(self, key: Path | None = None) -> None:
        self.private = key or Path(click.get_app_dir("acclimate")) / "signing-key.pem"
        self.public = self.private.with_suffix(".pub.pem")

    def sign(self, folder: Path) -> None:
        """Signs every file in the folder.

        Args:
            folder: The folder; the signature is added as one more file.

        Raises:
            OutputError: The key is not valid or cannot be created.
        """
        self._ensure_key()
        with writing_errors(folder):
            signer = signing.Config().use_elliptic_key_signer(private_key=self.private)
            signer.set_hashing_config(_whole(folder)).sign(folder, folder / SIGNATURE)

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
        self._check_public_key()
        try:
            verifier = verifying.Config().use_elliptic_key_verifier(public_key=self.public)
            verifier.set_hashing_config(_OfContent(files)).verify(folder, folder / SIGNATURE)
        except Exception as error:  # the library raises ValueError, its own and cryptography's
            raise NotTrusted(
                f"the signature does not match ({reason(error)}).",
                where=folder,
                hint="A file was changed, added or removed after signing, or another key "
                "signed it.",
            ) from error
        return files

    def _check_public_key(self) -> None:
        if self.public.is_file():
            return
        if not self.private.is_file():
            raise NotTrusted(
                "the public key to verify with is missing.",
                where=self.public,
                hint="Put the signer's public key there, or give a key with --key.",
            )
        # Another process has just created the key, or was killed in between.
        self._write_public(self.private.read_bytes())

    def _ensure_key(self) -> None:
        """Creates the key if there is none, and its public half if that is missing."""
        if not self.private.is_file():
            if self.public.is_file():
                raise OutputError(
                    "the private key to sign with is missing; this machine can only verify.",
                    where=self.private,
                    hint="Give another key with --key.",
                )
            self._create_private()
        self._write_public(self.private.read_bytes())

    def _create_private(self) -> None:
        """Makes a private key that appears whole; of several processes, the first one's is kept."""
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        with writing_errors(self.private):
            self.private.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # mkstemp's files are unreadable for others before the first byte is written.
            handle, name = tempfile.mkstemp(prefix=".key.", dir=self.private.parent)
            try:
                with os.fdopen(handle, "wb") as stream:
                    stream.write(pem)
                    stream.flush()
                    os.fsync(stream.fileno())
                with suppress(FileExistsError):
                    os.link(name, self.private)  # unlike a rename, it replaces no key
            finally:
                Path(name).unlink()

    def _write_public(self, pem: bytes) -> None:
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError) as error:
            raise OutputError(
                "not an unencrypted private key in PEM format.", where=self.private
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise OutputError(
                "not an elliptic-curve key.",
                where=self.private,
                hint="Create one with: openssl ecparam -name prime256v1 -genkey -noout -out KEY.",
            )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        if not self.public.is_file() or self.public.read_bytes() != public:
            write_atomic(self.public, public)


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
