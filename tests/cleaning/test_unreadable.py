import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from acclimate.cleaning.settings import Clean
from acclimate.cleaning.unreadable import unreadable
from acclimate.context import Context
from acclimate.data.dataset import SCHEMA
from acclimate.data.sources.read import read
from acclimate.files import digest_bytes

LOOKED_AT = [
    "digest", "width", "height", "format", "mode", "orientation", "pixels", "brightness",
    "contrast", "sharpness", "entropy", "color", "thumbnail", "phash", "phash_details",
]  # fmt: skip


def photo(seed, width=40, height=30):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def turned(image):
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(image, "JPEG", exif=exif)


def bomb(width, height):
    """A PNG's header that promises many pixels, and no pixels."""

    def chunk(name, content):
        crc = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + crc

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")


JPEG, PNG = encoded(photo(1), "JPEG"), encoded(photo(2), "PNG")
ODD = b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\2\0\0\0\1x\0\0\0\0\0\0\0"

FILES = {
    "good.jpg": (JPEG, None),
    "good.png": (PNG, None),
    "PNG inside.jpg": (encoded(photo(3), "PNG"), None),
    "grey.png": (encoded(photo(4).convert("L"), "PNG"), None),
    "16 bit.png": (encoded(Image.fromarray(np.full((30, 40), 4660, np.uint16)), "PNG"), None),
    "palette.gif": (encoded(photo(5).convert("P"), "GIF"), None),
    "clear palette.png": (encoded(photo(6).convert("P"), "PNG", transparency=0), None),
    "RGBA.png": (encoded(photo(7).convert("RGBA"), "PNG"), None),
    "CMYK.jpg": (encoded(photo(8).convert("CMYK"), "JPEG"), None),
    "moving.gif": (encoded(photo(9), "GIF", save_all=True, append_images=[photo(10)]), None),
    "turned.jpg": (turned(photo(11, 30, 40)), None),
    "odd EXIF.jpg": (encoded(photo(12), "JPEG", exif=ODD), None),
    "Gänseblümchen 🌼 (1).jpg": (encoded(photo(13), "JPEG"), None),
    "empty.jpg": (b"", "file is empty (0 bytes)"),
    "text.jpg": (b"<html>not found</html>", "file is not an image"),
    "cut.jpg": (JPEG[: len(JPEG) // 2], "image is truncated or broken"),
    "cut.png": (PNG[: len(PNG) // 2], "image is truncated or broken"),
    "bomb.png": (bomb(10_000, 10_000), "image has 100 megapixels, over the limit of 80"),
    "big bomb.png": (bomb(50_000, 50_000), "image has 2,500 megapixels, over the limit of 80"),
    "notes.txt": (b"mine", "not an image file (.txt)"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One class with a file of every kind, and one good class beside it."""
    folder = tmp_path_factory.mktemp("unreadable") / "photos"
    (folder / "mixed").mkdir(parents=True)
    (folder / "good").mkdir()
    for name, (content, _) in FILES.items():
        (folder / "mixed" / name).write_bytes(content)
    photo(99).save(folder / "good" / "1.png")
    return folder


@pytest.fixture(scope="module")
def seen(folder):
    return unreadable(read(folder), Clean(), Context())


def row_of(dataset, path):
    return dataset.table.slice(dataset.paths.index(path), 1).to_pylist()[0]


def reasons(dataset):
    found = zip(dataset.paths, dataset.table["reasons"].to_pylist(), strict=True)
    return {path: said for path, said in found if said}


@pytest.mark.parametrize(("name", "reason"), [(n, r) for n, (_, r) in FILES.items()], ids=FILES)
def test_every_file_is_judged_and_a_bad_one_says_why(tmp_path, name, reason):
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / name).write_bytes(FILES[name][0])
    photo(99).save(tmp_path / "mixed" / "z.png")
    dataset = unreadable(read(tmp_path), Clean(), Context())
    row = row_of(dataset, f"mixed/{name}")
    assert row["reasons"] == ([] if reason is None else [reason])
    assert row["keep"] == (reason is None)
    assert row_of(dataset, "mixed/z.png")["keep"]


def test_bad_files_never_stop_the_others(seen):
    assert reasons(seen) == {f"mixed/{n}": [r] for n, (_, r) in FILES.items() if r is not None}
    assert int(seen.keep.sum()) == 14
    assert len(seen) == 21


def test_a_good_file_tells_its_digest_and_its_upright_size(seen):
    for name, (content, reason) in FILES.items():
        if reason is not None:
            continue
        row = row_of(seen, f"mixed/{name}")
        assert row["digest"].hex() == digest_bytes(content)
        assert (row["width"], row["height"]) == (40, 30), name


def test_a_bad_file_has_no_size(seen):
    for name, (_, reason) in FILES.items():
        if reason is not None:
            row = row_of(seen, f"mixed/{name}")
            assert (row["width"], row["height"]) == (None, None)


def test_rows_stay_in_their_order_and_nothing_else_changes(seen, folder):
    before = read(folder)
    looked_at = [*LOOKED_AT, "keep", "reasons"]
    assert seen.table.drop_columns(looked_at).equals(before.table.drop_columns(looked_at))
    assert seen.table.schema.equals(SCHEMA)


def test_a_file_that_is_gone_since_it_was_listed_is_told(tmp_path):
    (tmp_path / "a").mkdir()
    for i in range(3):
        photo(i).save(tmp_path / "a" / f"{i}.png")
    listed = read(tmp_path)
    (tmp_path / "a" / "1.png").unlink()
    assert reasons(unreadable(listed, Clean(), Context())) == {
        "a/1.png": ["cannot be read (No such file or directory)"]
    }


def test_a_listed_folder_is_no_image(tmp_path):
    (tmp_path / "folder.png").mkdir()
    photo(0).save(tmp_path / "a.png")
    (tmp_path / "list.csv").write_text("path,label\na.png,x\nfolder.png,x\n")
    dataset = unreadable(read(tmp_path / "list.csv"), Clean(), Context())
    assert reasons(dataset) == {"folder.png": ["cannot be read (Is a directory)"]}


def test_the_bounds_are_the_users(tmp_path):
    (tmp_path / "a").mkdir()
    photo(0).save(tmp_path / "a" / "small.png")
    Image.new("RGB", (1600, 1000)).save(tmp_path / "a" / "wide.png")
    (tmp_path / "a" / "heavy.png").write_bytes(PNG + bytes(1 << 20))
    settings = Clean(max_megapixels=1, max_file_mb=1)
    assert reasons(unreadable(read(tmp_path), settings, Context())) == {
        "a/heavy.png": ["file is larger than 1 MB"],
        "a/wide.png": ["image has 2 megapixels, over the limit of 1"],
    }


def test_what_was_left_out_before_keeps_its_reason_and_is_not_opened(tmp_path):
    (tmp_path / "a").mkdir()
    photo(0).save(tmp_path / "a" / "1.png")
    photo(1).save(tmp_path / "a" / "2.png")
    before = read(tmp_path).with_columns({"keep": [False, True], "reasons": [["mine"], []]})
    after = unreadable(before, Clean(), Context())
    assert after.keep.tolist() == [False, True]
    assert reasons(after) == {"a/1.png": ["mine"]}
    assert after.table["digest"].null_count == 1


def test_a_second_look_keeps_what_the_first_one_saw(seen):
    dropped = seen.with_columns({"keep": [False] * len(seen)})
    again = unreadable(dropped, Clean(), Context())
    assert again.table.equals(dropped.table)


def test_wrong_suffixes_and_animations_are_counted_and_the_content_decides(tmp_path):
    folder = tmp_path / "photos" / "rose"
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_bytes(encoded(photo(1), "PNG"))
    (folder / "b").write_bytes(encoded(photo(2), "JPEG"))
    (folder / "c.image").write_bytes(encoded(photo(3), "PNG"))
    (folder / "d.jpeg").write_bytes(encoded(photo(4), "JPEG"))
    (folder / "e.gif").write_bytes(
        encoded(photo(5), "GIF", save_all=True, append_images=[photo(6)])
    )
    dataset = unreadable(read(folder.parent), Clean(), Context())
    assert dataset.keep.all()
    formats = ["PNG", "JPEG", "PNG", "JPEG", "GIF"]
    assert dataset.table["format"].to_pylist() == formats
    assert [note for note in dataset.notes if "suffix" in note or "animation" in note] == [
        "clean: 3 images have another suffix than the content, which decides: 1 x .jpg is PNG, "
        "1 x no suffix is JPEG, 1 x .image is PNG",
        "clean: 1 image is an animation, of which the first picture is used",
    ]
