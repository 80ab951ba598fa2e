"""The key on this machine: made once, kept private, and nothing else is believed."""

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from acclimate.errors import NotTrusted, OutputError
from acclimate.registry.signing import SIGNATURE, KeySigner


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "model"
    place.mkdir()
    (place / "model.json").write_text("{}")
    return place


def write_key(path, key, password=None):
    locked = serialization.NoEncryption()
    if password is not None:
        locked = serialization.BestAvailableEncryption(password)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(encoding, form, locked))


def test_the_key_is_made_on_first_use_and_readable_by_its_owner_only(folder, tmp_path):
    signer = KeySigner(tmp_path / "keys" / "key.pem")
    assert not signer.private.exists()
    signer.sign(folder)
    assert stat.S_IMODE(signer.private.stat().st_mode) == 0o600
    assert stat.S_IMODE(signer.private.parent.stat().st_mode) & 0o077 == 0
    assert b"PUBLIC KEY" in signer.public.read_bytes()
    assert b"PRIVATE" not in signer.public.read_bytes()


def test_the_key_is_made_once_and_kept(folder, tmp_path):
    first = KeySigner(tmp_path / "key.pem")
    first.sign(folder)
    before = first.private.read_bytes()
    second = KeySigner(tmp_path / "key.pem")
    second.verify(folder)
    second.sign(folder)
    assert second.private.read_bytes() == before
    first.verify(folder)


def test_without_a_path_the_users_own_key_is_taken(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    KeySigner().sign(folder)
    KeySigner().verify(folder)
    assert (tmp_path / "config" / "acclimate" / "signing-key.pem").is_file()


def test_a_key_of_the_users_own_making_is_taken_and_gets_its_public_half(folder, tmp_path):
    key = ec.generate_private_key(ec.SECP384R1())
    write_key(tmp_path / "own.pem", key)
    KeySigner(tmp_path / "own.pem").sign(folder)
    KeySigner(tmp_path / "own.pem").verify(folder)
    public = serialization.load_pem_public_key((tmp_path / "own.pub.pem").read_bytes())
    assert public == key.public_key()


def test_the_public_half_alone_verifies_on_another_machine(folder, tmp_path):
    signer = KeySigner(tmp_path / "key.pem")
    signer.sign(folder)
    other = tmp_path / "machine" / "key.pem"
    other.parent.mkdir()
    other.with_suffix(".pub.pem").write_bytes(signer.public.read_bytes())
    KeySigner(other).verify(folder)
    assert not other.exists()


def test_without_a_public_key_nothing_is_trusted(folder, tmp_path):
    KeySigner(tmp_path / "key.pem").sign(folder)
    with pytest.raises(NotTrusted) as caught:
        KeySigner(tmp_path / "none.pem").verify(folder)
    assert str(caught.value) == (
        f"{tmp_path}/none.pub.pem: the public key to verify with is missing. "
        "Put the signer's public key there, or give a key with --key."
    )


def test_a_machine_that_only_verifies_makes_no_key_of_its_own(folder, tmp_path):
    KeySigner(tmp_path / "key.pem").sign(folder)
    (tmp_path / "key.pem").unlink()
    before = (tmp_path / "key.pub.pem").read_bytes()
    with pytest.raises(OutputError) as caught:
        KeySigner(tmp_path / "key.pem").sign(folder)
    assert str(caught.value) == (
        f"{tmp_path}/key.pem: the private key to sign with is missing; this machine can only "
        "verify. Give another key with --key."
    )
    assert (tmp_path / "key.pub.pem").read_bytes() == before
    KeySigner(tmp_path / "key.pem").verify(folder)


def test_a_public_half_that_is_not_there_yet_is_derived(folder, tmp_path):
    KeySigner(tmp_path / "key.pem").sign(folder)
    before = (tmp_path / "key.pub.pem").read_bytes()
    (tmp_path / "key.pub.pem").unlink()
    KeySigner(tmp_path / "key.pem").verify(folder)
    assert (tmp_path / "key.pub.pem").read_bytes() == before


def test_signers_that_start_at_once_share_one_key(tmp_path):
    folders = [tmp_path / f"model{n}" for n in range(8)]
    for place in folders:
        place.mkdir()
        (place / "model.json").write_text("{}")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(KeySigner(tmp_path / "keys" / "key.pem").sign, folders))
    for place in folders:
        KeySigner(tmp_path / "keys" / "key.pem").verify(place)
    assert {p.name for p in (tmp_path / "keys").iterdir()} == {"key.pem", "key.pub.pem"}


def test_a_public_key_in_the_folder_is_not_believed(folder, tmp_path):
    stranger = KeySigner(tmp_path / "stranger.pem")
    stranger.sign(folder)
    (folder / "key.pub.pem").write_bytes(stranger.public.read_bytes())
    own = KeySigner(tmp_path / "key.pem")
    (tmp_path / "mine").mkdir()
    own.sign(tmp_path / "mine")
    with pytest.raises(NotTrusted, match="the signature does not match"):
        own.verify(folder)


def test_what_is_not_signed_is_said_in_one_sentence(folder, tmp_path):
    with pytest.raises(NotTrusted) as caught:
        KeySigner(tmp_path / "key.pem").verify(folder)
    assert str(caught.value) == f"{folder}: the model is not signed."
    assert not (tmp_path / "key.pem").exists()


@pytest.mark.parametrize("kind", ["text", "public", "locked", "rsa"])
def test_a_file_that_is_no_such_key_is_refused_before_anything_is_signed(folder, tmp_path, kind):
    path = tmp_path / "key.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    if kind == "text":
        path.write_text("-----BEGIN NOTHING-----")
    elif kind == "public":
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        path.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    elif kind == "locked":
        write_key(path, key, b"secret")
    else:
        write_key(path, rsa.generate_private_key(public_exponent=65537, key_size=2048))
    with pytest.raises(OutputError) as caught:
        KeySigner(path).sign(folder)
    assert caught.value.exit_code == 2
    assert caught.value.where == str(path)
    assert not (folder / SIGNATURE).exists()


def test_a_key_that_cannot_be_made_is_one_sentence(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError) as caught:
        KeySigner(tmp_path / "file" / "key.pem").sign(folder)
    assert str(caught.value).startswith(f"{tmp_path}/file/key.pem: cannot write here (")


def test_a_replaced_key_brings_its_own_public_half(folder, tmp_path):
    KeySigner(tmp_path / "key.pem").sign(folder)
    first = KeySigner(tmp_path / "key.pem").public.read_bytes()
    write_key(tmp_path / "key.pem", ec.generate_private_key(ec.SECP256R1()))
    KeySigner(tmp_path / "key.pem").sign(folder)
    KeySigner(tmp_path / "key.pem").verify(folder)
    assert KeySigner(tmp_path / "key.pem").public.read_bytes() != first
