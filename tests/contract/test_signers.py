"""What every signer does: it signs, it verifies, and the least change is found."""

import os
import shutil

import pytest

from acclimate.errors import NotTrusted
from acclimate.registry import signing
from acclimate.registry.signing import SIGNATURE, SIGNERS

FILES = {
    "model.json": b'{"classes": ["a", "b"]}',
    "model.onnx": bytes(range(256)) * 40,
    "empty": b"",
    ".hidden": b"seen all the same",
    "deep/er/note.txt": b"far down",
}


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@pytest.fixture(params=SIGNERS)
def signed(request, tmp_path):
    """A signer, and a folder that it signed."""
    signer = SIGNERS[request.param](tmp_path / "keys" / "key.pem")
    folder = tmp_path / "model"
    write(folder, FILES)
    signer.sign(folder)
    return signer, folder


def one_byte(folder):
    content = bytearray((folder / "model.onnx").read_bytes())
    content[5000] ^= 1
    (folder / "model.onnx").write_bytes(content)


def swapped(folder):
    (folder / "model.json").rename(folder / "kept")
    (folder / "model.onnx").rename(folder / "model.json")
    (folder / "kept").rename(folder / "model.onnx")


def linked(folder):
    (folder / "model.json").rename(folder.parent / "outside.json")
    (folder / "model.json").symlink_to(folder.parent / "outside.json")


def piped(folder):
    (folder / "model.json").unlink()
    os.mkfifo(folder / "model.json")


def resigned(folder):
    """What somebody does who can write into the store but has not got the key."""
    one_byte(folder)
    (folder / SIGNATURE).unlink()
    SIGNERS["key"](folder.parent / "stranger.pem").sign(folder)


CHANGES = {
    "one changed byte": one_byte,
    "one byte more": lambda f: (f / "model.json").write_bytes(FILES["model.json"] + b"\n"),
    "one changed hidden file": lambda f: (f / ".hidden").write_bytes(b"changed"),
    "one changed file far down": lambda f: (f / "deep/er/note.txt").write_bytes(b"changed"),
    "one renamed file": lambda f: (f / "model.onnx").rename(f / "weights.onnx"),
    "one renamed folder": lambda f: (f / "deep").rename(f / "steep"),
    "two files that changed places": swapped,
    "one removed file": lambda f: (f / "model.json").unlink(),
    "one removed empty file": lambda f: (f / "empty").unlink(),
    "one extra file": lambda f: write(f, {"extra.py": b"import os"}),
    "one extra empty file": lambda f: write(f, {"__init__.py": b""}),
    "one extra hidden file": lambda f: write(f, {".extra": b"x"}),
    "one extra .gitattributes": lambda f: write(f, {".gitattributes": b"* text"}),
    "one extra .gitignore": lambda f: write(f, {".gitignore": b"*"}),
    "one extra file in .git": lambda f: write(f, {".git/hooks/run": b"rm -rf"}),
    "one extra file in .github": lambda f: write(f, {".github/run.yml": b"on: push"}),
    "one extra file in a new folder": lambda f: write(f, {"more/extra": b"x"}),
    "one extra empty folder": lambda f: (f / "more").mkdir(),
    "one extra pipe": lambda f: os.mkfifo(f / "pipe"),
    "a file that became a pipe": piped,
    "one extra link": lambda f: (f / "link").symlink_to(f / "model.json"),
    "a file that became a link": linked,
    "a signature of nothing": lambda f: (f / SIGNATURE).write_bytes(b"{}"),
    "a signature that is no JSON": lambda f: (f / SIGNATURE).write_bytes(b"\xff\x00"),
    "no signature": lambda f: (f / SIGNATURE).unlink(),
    "another key": resigned,
}


def test_every_signer_is_tried_with_every_change():
    assert sorted(SIGNERS) == ["key"]
    assert len(CHANGES) == 26


def test_what_was_signed_is_verified_again_and_again(signed):
    signer, folder = signed
    signer.verify(folder)
    signer.verify(folder)
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == {
        *FILES,
        SIGNATURE,
    }


def test_what_was_verified_is_what_was_read(signed, monkeypatch):
    """Whoever exchanges the folder after it was read changes nothing of what is used."""
    signer, folder = signed
    read = signing.read_folder

    def exchanged(place, limit):
        found = read(place, limit)
        one_byte(folder)
        return found

    monkeypatch.setattr(signing, "read_folder", exchanged)
    files = signer.verify(folder)
    assert {name: files[name] for name in FILES} == FILES
    with pytest.raises(NotTrusted):
        signer.verify(folder)


def test_signing_changes_no_file(signed):
    _, folder = signed
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES


def test_a_signed_folder_may_be_moved_and_copied(signed):
    signer, folder = signed
    shutil.copytree(folder, folder.with_name("copy"))
    signer.verify(folder.with_name("copy"))
    moved = folder.rename(folder.with_name("moved"))
    signer.verify(moved)
    one_byte(moved)
    with pytest.raises(NotTrusted):
        signer.verify(moved)


def test_signing_anew_after_a_change_fits_again(signed):
    signer, folder = signed
    one_byte(folder)
    with pytest.raises(NotTrusted):
        signer.verify(folder)
    signer.sign(folder)
    signer.verify(folder)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_not_trusted(signed, change):
    signer, folder = signed
    CHANGES[change](folder)
    with pytest.raises(NotTrusted) as caught:
        signer.verify(folder)
    assert caught.value.exit_code == 3
    assert caught.value.where == str(folder)


def test_the_signature_of_one_folder_does_not_fit_another(signed, tmp_path):
    signer, folder = signed
    other = tmp_path / "other"
    write(other, {**FILES, "model.json": b"another"})
    shutil.copy(folder / SIGNATURE, other)
    with pytest.raises(NotTrusted):
        signer.verify(other)
