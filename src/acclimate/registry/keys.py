"""The files of a signing key: private half, public half, and other keys that are trusted."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from acclimate.errors import NotTrusted, OutputError, reason
from acclimate.files import digest_bytes, write_atomic, writing_errors

_ALGORITHM = ec.ECDSA(hashes.SHA256())


class KeyFiles:
    """An elliptic-curve key in files, and the public keys that are trusted beside it.

    `key.pem` has `key.pub.pem` beside it, and the folder `key.trusted` with public keys (PEM) of
    former keys and of other signers.

    Args:
        private: Private key in PEM; None for the user's key. It is created on first use.
    """

    def __init__(self, private: Path | None) -> None:
        self.private = private or Path(click.get_app_dir("acclimate")) / "signing-key.pem"
        self.public = self.private.with_suffix(".pub.pem")
        self.trusted = self.private.with_suffix(".trusted")

    def ensure(self) -> None:
        """Creates the key if there is none, and its public half if that is missing.

        Raises:
            OutputError: The key is not valid, cannot be created, or is of another machine.
        """
        if not self.private.is_file():
            # Looked at again: another process may have created both since.
            if self.public.is_file() and not self.private.is_file():
                raise OutputError(
                    "the private key to sign with is missing; this machine can only verify.",
                    where=self.private,
                    hint="Give another key with --key.",
                )
            with _new_key(self.private) as part, suppress(FileExistsError):
                os.link(part, self.private)  # unlike a rename, it replaces no key
        self._write_public()

    def public_keys(self) -> list[Path]:
        """The files of all trusted public keys, the own one first.

        Returns:
            At least one path.

        Raises:
            NotTrusted: There is none.
        """
        if self.private.is_file() and not self.public.is_file():
            # Another process has just created the key, or was killed in between.
            self._write_public()
        others = sorted(self.trusted.glob("*.pem")) if self.trusted.is_dir() else []
        found = [path for path in (self.public, *others) if path.is_file()]
        if not found:
            raise NotTrusted(
                "the public key to verify with is missing.",
                where=self.public,
                hint="Put the signer's public key there, or give a key with --key.",
            )
        return found

    def rotate(self) -> None:
        """Replaces the key by a new one. What the old one signed is trusted as before.

        Raises:
            OutputError: There is no key, or it cannot be replaced.
        """
        if not self.private.is_file():
            raise OutputError("there is no key to replace.", where=self.private)
        self._write_public()
        old = self.public.read_bytes()
        write_atomic(self.trusted / f"{digest_bytes(old)[:16]}.pub.pem", old)
        with _new_key(self.private) as part:
            part.replace(self.private)
        self._write_public()

    def sign_bytes(self, content: bytes) -> str:
        """A signature of some bytes, as hexadecimal digits."""
        self.ensure()
        return self._load_private().sign(content, _ALGORITHM).hex()

    def verify_bytes(self, content: bytes, signature: str) -> bool:
        """Whether a trusted key made a signature of some bytes."""
        for path in self.public_keys():
            try:
                key = serialization.load_pem_public_key(path.read_bytes())
                assert isinstance(key, ec.EllipticCurvePublicKey)
            except (ValueError, AssertionError) as error:
                raise NotTrusted(
                    "not an elliptic-curve public key in PEM format.", where=path
                ) from error
            with suppress(InvalidSignature, ValueError):
                key.verify(bytes.fromhex(signature), content, _ALGORITHM)
                return True
        return False

    def _load_private(self) -> ec.EllipticCurvePrivateKey:
        try:
            key = serialization.load_pem_private_key(self.private.read_bytes(), password=None)
        except (ValueError, TypeError) as error:
            raise OutputError(
                f"not an unencrypted private key in PEM format ({reason(error)}).",
                where=self.private,
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise OutputError(
                "not an elliptic-curve key.",
                where=self.private,
                hint="Create one with: openssl ecparam -name prime256v1 -genkey -noout -out KEY.",
            )
        return key

    def _write_public(self) -> None:
        public = (
            self._load_private()
            .public_key()
            .public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        if not self.public.is_file() or self.public.read_bytes() != public:
            write_atomic(self.public, public)


@contextmanager
def _new_key(place: Path) -> Iterator[Path]:
    """A file with a new private key beside the place for it, written whole."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with writing_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # mkstemp's files are unreadable for others before the first byte is written.
        handle, name = tempfile.mkstemp(prefix=".key.", dir=place.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(pem)
                stream.flush()
                os.fsync(stream.fileno())
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)
