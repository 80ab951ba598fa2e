"""Archives from anybody: what is good is read as a folder is, what is hostile writes nothing."""

import gzip
import io
import shutil
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from acclimate.cleaning.clean import clean
from acclimate.data.settings import Source
from acclimate.data.sources import archive_reader, unpacked
from acclimate.data.sources.read import read
from acclimate.errors import DataError

NAMES = tuple(f"{label}/{i}.png" for label in ("rose", "daisy") for i in range(4))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own, to see what is written there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for number, name in enumerate(NAMES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return folder


def packed(photos, kind, *, around):
    base = {"root_dir": photos.parent, "base_dir": photos.name} if around else {"root_dir": photos}
    return photos.parent / shutil.make_archive(str(photos.parent / "photos"), kind, **base)


def refusal(path, **source):
    with pytest.raises(DataError) as caught:
        read(path, Source(**source))
    return str(caught.value)


def unpacked_files(cache):
    return [p for p in (cache / "acclimate").rglob("*") if p.is_file() and p.suffix != ".lock"]


@pytest.mark.parametrize("around", [True, False], ids=["with the folder", "without"])
@pytest.mark.parametrize("kind", ["zip", "tar", "gztar", "bztar", "xztar"])
def test_an_archive_reads_as_its_folder(photos, kind, around):
    dataset = clean(read(packed(photos, kind, around=around)))
    assert sorted(dataset.paths) == sorted(NAMES)
    assert dataset.digest == clean(read(photos)).digest


def test_an_archive_with_splits_reads_as_its_folder(photos):
    for split in ("train", "test"):
        shutil.copytree(photos, photos.parent / "split" / split)
    dataset = read(packed(photos.parent / "split", "zip", around=True))
    assert dataset.counts("test") == {"daisy": 4, "rose": 4}


def test_an_archive_of_one_split_keeps_it(photos):
    shutil.copytree(photos, photos.parent / "only" / "train")
    assert read(packed(photos.parent / "only", "zip", around=False)).counts("train")["rose"] == 4


def test_an_archive_is_unpacked_once_and_reads_the_same(photos, monkeypatch):
    path = packed(photos, "zip", around=True)
    before = path.read_bytes()
    first = read(path)
    monkeypatch.setattr(archive_reader, "_unpack", None)  # a second time would fail
    assert read(path).digest == first.digest
    assert path.read_bytes() == before


def test_an_archive_unpacked_anew_is_the_same_data(photos, cache):
    path = packed(photos, "tar", around=True)
    first = read(path).digest
    shutil.rmtree(cache)
    assert read(path).digest == first


def a_zip(folder, name, content=b"x", mode=None):
    path = folder / "bad.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("rose/0.png", b"good")
        info = zipfile.ZipInfo(name)
        info.compress_type = zipfile.ZIP_DEFLATED
        if mode is not None:
            info.external_attr = mode << 16
        file.writestr(info, content)
    return path


def a_tar(folder, name, kind=tarfile.REGTYPE, target=""):
    path = folder / "bad.tar"
    with tarfile.open(path, "w") as file:
        for member, of in (("rose/0.png", tarfile.REGTYPE), (name, kind)):
            info = tarfile.TarInfo(member)
            info.type, info.linkname = of, target if of != tarfile.REGTYPE else ""
            file.addfile(info, io.BytesIO(b""))
    return path


OUT = "a name that leads out of the folder"
ROOTED = "a name that starts at the root of a disk"
ODD = "a name with a backslash or a control character"
BAD_NAMES = {
    "../evil.png": OUT,
    "rose/../../evil.png": OUT,
    "..\\evil.png": OUT,
    "/etc/evil.png": ROOTED,
    "C:/evil.png": ROOTED,
    "\\\\host\\evil.png": ROOTED,
    "rose\\evil.png": ODD,
    "rose/e\nvil.png": ODD,
    "a/" * 40 + "evil.png": "a name that is too long or too deep",
    "x" * 300 + ".png": "a name that is too long or too deep",
}


@pytest.mark.parametrize("make", [a_zip, a_tar])
@pytest.mark.parametrize(("name", "fault"), BAD_NAMES.items())
def test_a_name_that_leads_elsewhere_refuses_the_archive(tmp_path, cache, make, name, fault):
    path = make(tmp_path, name)
    assert refusal(path) == (
        f"{path}: archive holds {name[:200]!r}, {fault}. Nothing was unpacked. "
        "Do not use archives from people you do not trust."
    )
    assert unpacked_files(cache) == []
    assert not list(tmp_path.parent.glob("evil.png"))


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "a device or a pipe"),
        (tarfile.FIFOTYPE, "a device or a pipe"),
    ],
)
def test_links_and_devices_in_a_tar_refuse_it(tmp_path, cache, kind, fault):
    assert f"'rose/1.png', {fault}. " in refusal(a_tar(tmp_path, "rose/1.png", kind, "/etc/passwd"))
    assert unpacked_files(cache) == []


@pytest.mark.parametrize(
    ("mode", "fault"), [(0o120777, "a link"), (0o020666, "a device or a pipe")]
)
def test_links_and_devices_in_a_zip_refuse_it(tmp_path, cache, mode, fault):
    assert f", {fault}. " in refusal(a_zip(tmp_path, "rose/1.png", b"/etc/passwd", mode))
    assert unpacked_files(cache) == []


def test_much_hidden_in_little_is_refused_before_it_fills_the_disk(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(unpacked, "MIN_SIZE_LIMIT", 1 << 20)
    path = a_zip(tmp_path, "rose/1.bmp", bytes(20 << 20))
    assert path.stat().st_size < 30_000
    assert refusal(path).startswith(f"{path}: archive unpacks to more than ")
    assert unpacked_files(cache) == []


def test_a_zip_that_lies_about_its_sizes_is_refused_all_the_same(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(unpacked, "MIN_SIZE_LIMIT", 1 << 20)
    path = a_zip(tmp_path, "rose/1.bmp", bytes(20 << 20))
    content = path.read_bytes().replace((20 << 20).to_bytes(4, "little"), b"\x05\0\0\0")
    path.write_bytes(content)
    refusal(path)
    assert unpacked_files(cache) == []


def test_a_gzip_bomb_is_refused(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(unpacked, "MIN_SIZE_LIMIT", 1 << 20)
    path = tmp_path / "bomb.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        info = tarfile.TarInfo("rose/1.bmp")
        info.size = 30 << 20
        file.addfile(info, io.BytesIO(bytes(info.size)))
    assert "archive unpacks to more than " in refusal(path)
    assert unpacked_files(cache) == []


@pytest.mark.parametrize("kind", ["pax", "gnu"])
def test_a_header_that_claims_gigabytes_is_refused_before_it_is_read(tmp_path, cache, kind):
    """Python's tarfile reads such a header into memory, all of it."""
    path = tmp_path / "bomb.tar.gz"
    info = tarfile.TarInfo("././@PaxHeader" if kind == "pax" else "././@LongLink")
    info.type = tarfile.XHDTYPE if kind == "pax" else tarfile.GNUTYPE_LONGNAME
    info.size = 3 << 30
    with gzip.open(path, "wb") as stream:
        stream.write(info.tobuf(tarfile.GNU_FORMAT) + bytes(8 << 20))
    told = refusal(path)
    assert "archive is damaged or of an unsupported kind (a header of 3,221," in told
    assert unpacked_files(cache) == []


@pytest.mark.parametrize("name", ["photos.tar.gz", "photos.tgz", "photos.tar"])
def test_a_tar_is_read_whatever_its_name_says_of_compression(photos, name):
    path = packed(photos, "xztar", around=True)
    assert len(read(path.rename(path.with_name(name)))) == 8


def test_the_bound_is_a_setting(photos):
    path = packed(photos, "zip", around=True)
    assert "archive unpacks to more than 0 MB" in refusal(path, max_unpacked_gb=1e-9)


def test_a_flood_of_empty_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacked, "_MIN_FILE_LIMIT", 50)
    path = tmp_path / "flood.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        for number in range(2_000):
            file.addfile(tarfile.TarInfo(f"rose/{number}.png"))
    assert "files, too many for its size." in refusal(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["rose/0.png", "rose/0.PNG"])
def test_a_name_that_stands_twice_is_refused(tmp_path, name):
    path = a_zip(tmp_path, name)
    assert refusal(path) == f"{path}: archive holds {name!r} twice. Pack it again."


def test_a_file_that_is_also_a_folder_is_told(tmp_path):
    assert "archive is damaged or of an unsupported kind" in refusal(
        a_zip(tmp_path, "rose/0.png/1.png")
    )


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz", "a.tar.xz"])
@pytest.mark.parametrize("content", [b"", b"no archive at all", b"PK\x03\x04 and no more"])
def test_a_damaged_archive_is_told(tmp_path, cache, name, content):
    (tmp_path / name).write_bytes(content)
    assert refusal(tmp_path / name).startswith(f"{tmp_path / name}: ")
    assert unpacked_files(cache) == []


def test_a_cut_off_archive_is_told_and_leaves_nothing(photos, cache):
    for kind in ("zip", "gztar"):
        path = packed(photos, kind, around=True)
        path.write_bytes(path.read_bytes()[:-300])
        assert "archive is damaged" in refusal(path)
    assert unpacked_files(cache) == []


def test_a_broken_byte_inside_is_told(photos, cache):
    path = packed(photos, "zip", around=True)
    with zipfile.ZipFile(path) as file:
        place = file.getinfo("photos/rose/2.png").header_offset + 60
    content = bytearray(path.read_bytes())
    content[place] ^= 255
    path.write_bytes(content)
    assert "archive is damaged" in refusal(path)
    assert unpacked_files(cache) == []


def test_a_zip_behind_a_password_is_told(tmp_path):
    path = a_zip(tmp_path, "rose/1.png")
    content = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.rindex(mark) + flags] |= 1
    path.write_bytes(content)
    assert ", a file behind a password. " in refusal(path)


def test_the_damages_cover_what_deflate_raises():
    assert issubclass(zlib.error, archive_reader._READ_ERRORS)
