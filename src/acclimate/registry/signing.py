"""Signatures over whole folders: a manifest of digests, and a signature over that.

Source: OpenSSF Model Signing, https://github.com/sigstore/model-transparency, through its library.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import click
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from model_signing import hashing, signing, verifying

from acclimate.errors import NotTrusted, OutputError, reason
from acclimate.files import write_atomic, writing_errors

SIGNATURE = "signature.sigstore.json"


class Signer(Protocol):
    """Signs a folder and verifies it."""

    def sign(self, folder: Path) -> None:
        """Writes the signature into the folder."""

    def verify(self, folder: Path) -> None:
        """Raises NotTrusted when a byte, a name or the number of files has changed."""


class KeySigner:
    """An elliptic-curve key on this machine. Works without a network.

    The private key stays outside the store: whoever can write there cannot sign. The public key
    that verifies is the one beside the private key, never one found in the store.

    Args:
        key: Private key in PEM; the user's own, made on first use, when None.
    """

    def __init__(self, key: Path | None = None) -> None:
        self.private = key or Path(click.get_app_dir("acclimate")) / "signing-key.pem"
        self.public = self.private.with_suffix(".pub.pem")

    def sign(self, folder: Path) -> None:
        """Signs every file in the folder.

        Args:
            folder: Gets one more file, the signature.

        Raises:
            OutputError: The key is missing or cannot be made.
        """
        self._ensure_key()
        with writing_errors(folder):
            signer = signing.Config().use_elliptic_key_signer(private_key=self.private)
            signer.set_hashing_config(_whole(folder)).sign(folder, folder / SIGNATURE)

    def verify(self, folder: Path) -> None:
        """Checks every file in the folder against the signature.

        Args:
            folder: As it was signed.

        Raises:
            NotTrusted: There is no signature or no key, or they do not fit the files.
        """
        if not (folder / SIGNATURE).is_file():
            raise NotTrusted("model is not signed.", where=folder)
        if not self.public.is_file():
            raise NotTrusted(
                "there is no public key to verify with.",
                where=self.public,
                hint="Put the signer's public key there, or give the key with --key.",
            )
        try:
            verifier = verifying.Config().use_elliptic_key_verifier(public_key=self.public)
            verifier.set_hashing_config(_whole(folder)).verify(folder, folder / SIGNATURE)
        except Exception as error:  # the library raises ValueError, its own and cryptography's
            raise NotTrusted(
                f"signature does not fit ({reason(error)}).",
                where=folder,
                hint="A file was changed, added or removed since it was signed, or another key "
                "signed it.",
            ) from error

    def _ensure_key(self) -> None:
        if self.private.is_file():
            self._write_public(self.private.read_bytes())
            return
        with writing_errors(self.private):
            self.private.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            key = ec.generate_private_key(ec.SECP256R1())
            pem = key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            # Made unreadable for others before the first byte is in it.
            handle = os.open(self.private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as stream:
                stream.write(pem)
        self._write_public(pem)

    def _write_public(self, pem: bytes) -> None:
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError) as error:
            raise OutputError(
                "file is not an unencrypted private key in PEM.", where=self.private
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise OutputError(
                "key is not of an elliptic curve.",
                where=self.private,
                hint="Make one with: openssl ecparam -name prime256v1 -genkey -noout -out KEY.",
            )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        if not self.public.is_file() or self.public.read_bytes() != public:
            write_atomic(self.public, public)


def _whole(folder: Path) -> hashing.Config:
    """Every file counts: by default the library would let a `.gitattributes` be added."""
    return hashing.Config().set_ignored_paths(paths=[folder / SIGNATURE], ignore_git_paths=False)


SIGNERS: dict[str, Callable[[Path | None], Signer]] = {"key": KeySigner}
"""Name to a signer, given the private key's path or None for the user's own."""
