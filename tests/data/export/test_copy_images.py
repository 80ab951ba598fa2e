"""The clean copy: the same labels and splits, nothing of who took the photo."""

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from acclimate.cleaning.clean import clean
from acclimate.data.export.copy_images import _class_folders, copy_images
from acclimate.data.export.strip_metadata import kind_of, without_metadata
from acclimate.data.images.decode import read_image
from acclimate.data.sources.read import read
from acclimate.errors import OutputError, UnreadableImage

LABELS = ("rose", "daisy")


def paint(path, number, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(number)
    small = Image.fromarray(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8))
    small.resize((48, 32), Image.Resampling.BICUBIC).save(path, **options)


@pytest.fixture
def photos(tmp_path):
    """Two classes, JPEG with GPS and turned by EXIF, PNG with text, one broken file."""
    folder = tmp_path / "photos"
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "SECRET-DESCRIPTION"
    exif.get_ifd(0x8825)[1] = "SECRET-GPS"
    for number, label in enumerate(LABELS):
        for i in range(4):
            paint(folder / label / f"{i}.jpg", 10 * number + i, exif=exif, quality=95)
        paint(folder / label / "old" / "0.jpg", 100 + number)
        paint(folder / label / "p.png", 200 + number)
    (folder / "rose" / "broken.png").write_bytes(b"no image")
    return folder


@pytest.fixture
def dataset(photos):
    return clean(read(photos))


def test_the_copy_has_a_folder_for_each_split_and_class(dataset, tmp_path):
    assert copy_images(dataset, tmp_path / "copy") == 12
    names = sorted(p.relative_to(tmp_path / "copy") for p in (tmp_path / "copy").rglob("*.*"))
    pictures = [name for name in names if name.suffix in (".jpg", ".png")]
    assert len(pictures) == 12
    assert {len(name.parts) for name in pictures} == {3}
    assert {name.parts[0] for name in pictures} == {"train", "val", "test"}
    assert {name.parts[1] for name in pictures} == set(LABELS)


def test_the_copy_reads_back_with_the_same_labels_splits_and_classes(dataset, tmp_path):
    copy_images(dataset, tmp_path / "copy")
    back = clean(read(tmp_path / "copy"))
    assert back.classes == dataset.classes
    assert back.notes == dataset.notes
    for split in ("train", "val", "test"):
        assert back.counts(split) == dataset.counts(split)


def test_nothing_of_exif_gps_or_text_is_left_and_photos_stand_upright(dataset, photos, tmp_path):
    assert b"SECRET-GPS" in (photos / "rose" / "0.jpg").read_bytes()
    copy_images(dataset, tmp_path / "copy")
    turned = 0
    for path in (tmp_path / "copy").rglob("*.*"):
        if path.suffix in (".jpg", ".png"):
            assert b"SECRET" not in path.read_bytes()
            with Image.open(path) as image:
                assert not image.getexif()
                assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
                turned += image.size == (32, 48)
    assert turned == 8


def test_a_lossless_copy_has_the_very_pixels_that_training_sees(dataset, tmp_path):
    copy_images(dataset, tmp_path / "copy", lossless=True)
    before = sorted(read_image(dataset.path(r)).tobytes() for r in dataset.rows())
    after = sorted(read_image(p).tobytes() for p in (tmp_path / "copy").rglob("*.png"))
    assert before == after


def uploads(folder):
    """One class of files of many kinds, each with metadata, one of them turned by EXIF."""
    exif, turned = Image.Exif(), Image.Exif()
    exif[0x010E] = turned[0x010E] = "SECRET-DESCRIPTION"
    turned[0x0112] = 6
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "SECRET-TEXT")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    paint(folder / "0.jpg", 0, exif=exif, icc_profile=profile, comment=b"SECRET")
    paint(folder / "1.jpeg", 1, exif=exif, progressive=True, quality=60)
    paint(folder / "2.jpg", 2, exif=turned, quality=60, icc_profile=profile)
    paint(folder / "3.png", 3, exif=exif, pnginfo=text)
    paint(folder / "4.webp", 4, exif=exif, xmp=b"SECRET-XMP")
    paint(folder / "5.webp", 5, exif=exif, lossless=True)
    paint(folder / "6.webp", 6, exif=turned, lossless=True)
    paint(folder / "7.bmp", 7)
    paint(folder / "8.mpo", 8, format="MPO", save_all=True, append_images=[Image.new("L", (9, 9))])
    (folder / "8.mpo").rename(folder / "8.jpg")
    paint(folder / "9.jpg", 9, format="PNG")
    ring = Image.new("RGBA", (48, 32), (255, 255, 255, 0))
    ring.paste((250, 250, 250, 255), (9, 9, 30, 20))
    ring.save(folder / "icon.png")
    samples = np.random.default_rng(0).integers(0, 65_536, (32, 48), dtype=np.uint16)
    Image.fromarray(samples).save(folder / "scan.png")
    return folder


def test_files_that_need_nothing_keep_their_kind_and_their_pixels_bit_by_bit(tmp_path):
    dataset = clean(read(uploads(tmp_path / "a")))
    assert copy_images(dataset, tmp_path / "copy") == 12
    copies = {p.stem: p for p in (tmp_path / "copy").rglob("*.*") if p.suffix != ".csv"}
    opened = {stem: Image.open(path) for stem, path in copies.items()}
    kinds = {stem: image.format for stem, image in opened.items()}
    assert kinds == {
        **dict.fromkeys(["0", "1", "2", "8"], "JPEG"),
        **dict.fromkeys(["3", "7", "9", "icon", "scan"], "PNG"),
        **dict.fromkeys(["4", "5", "6"], "WEBP"),
    }
    assert {s: p.suffix for s, p in copies.items()} == {
        stem: {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}[kind] for stem, kind in kinds.items()
    }
    for path in dataset.root.iterdir():
        copy = copies[path.stem]
        assert b"SECRET" not in copy.read_bytes()
        assert not opened[path.stem].getexif()
        before, after = (np.asarray(read_image(p), int) for p in (path, copy))
        assert np.abs(before - after).max() <= (16 if path.stem == "2" else 0), path.name
        if path.suffix != ".bmp":
            assert copy.stat().st_size <= 1.1 * path.stat().st_size, path.name
    assert opened["0"].info["icc_profile"] == opened["2"].info["icc_profile"]
    assert (opened["icon"].mode, opened["scan"].mode) == ("RGBA", "I;16")
    for image in opened.values():
        image.close()


def test_a_copy_of_a_copy_is_the_same_file(tmp_path):
    copy_images(clean(read(uploads(tmp_path / "a"))), tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("*.*"):
        if kind_of(path.read_bytes()):
            assert without_metadata(path.read_bytes()) == path.read_bytes()


def test_an_image_of_four_inks_becomes_rgb(tmp_path):
    paint(tmp_path / "a" / "0.jpg", 0)
    with Image.open(tmp_path / "a" / "0.jpg") as image:
        image.convert("CMYK").save(tmp_path / "a" / "0.jpg", quality=90)
    copy_images(clean(read(tmp_path / "a")), tmp_path / "copy")
    (twin,) = (tmp_path / "copy").rglob("0.jpg")
    with Image.open(twin) as image:
        assert image.mode == "RGB"
    assert twin.stat().st_size <= 2 * (tmp_path / "a" / "0.jpg").stat().st_size


def test_a_jpeg_copy_looks_the_same(dataset, tmp_path):
    copy_images(dataset, tmp_path / "copy")
    row = dataset.paths.index("rose/1.jpg")
    (twin,) = (tmp_path / "copy").glob("*/rose/1.jpg")
    before, after = (np.asarray(read_image(p), int) for p in (dataset.path(row), twin))
    assert np.abs(before - after).mean() < 2


def test_the_users_files_stay_as_they_are(dataset, photos, tmp_path):
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in photos.rglob("*.*") if p.is_file()}
    copy_images(dataset, tmp_path / "copy")
    after = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in photos.rglob("*.*") if p.is_file()}
    assert after == before


def test_a_place_that_is_taken_is_refused(dataset, tmp_path):
    place = tmp_path / "mine"
    place.mkdir()
    (place / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="already exists"):
        copy_images(dataset, place)
    with pytest.raises(OutputError, match="already exists"):
        copy_images(dataset, place / "notes.txt")
    assert [p.name for p in place.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("inside", ["", "copy", "rose/copy", "../photos/x"])
def test_a_place_inside_the_data_is_refused(dataset, photos, inside):
    with pytest.raises(OutputError):
        copy_images(dataset, photos / inside)
    assert not (photos / "copy").exists()


def test_a_failure_on_the_way_leaves_nothing(dataset, photos, tmp_path):
    (photos / "rose" / "2.jpg").write_bytes(b"broken since")
    with pytest.raises(UnreadableImage):
        copy_images(dataset, tmp_path / "copy")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photos"]


def test_a_jpeg_with_stray_bytes_between_its_parts_is_encoded_again(tmp_path):
    photos = tmp_path / "photos"
    for number, label in enumerate(LABELS):
        for i in range(4):
            paint(photos / label / f"{i}.jpg", 10 * number + i, quality=95)
    place = photos / "rose" / "0.jpg"
    content = place.read_bytes()
    end = 4 + int.from_bytes(content[4:6], "big")  # of the first segment
    place.write_bytes(content[:end] + b"\x00\x01\x02" + content[end:])
    original = np.asarray(read_image(place), int)
    assert copy_images(clean(read(photos)), tmp_path / "copy") == 8
    (copied,) = (tmp_path / "copy").glob("*/rose/0.jpg")
    assert b"\x00\x01\x02\xff" not in copied.read_bytes()[: end + 8]
    assert np.abs(np.asarray(read_image(copied), int) - original).mean() < 3


ODD = ("../up", "a/b", "a\\b", "..", "a:b", "A", "a", "nul\x01l", "daisy", " ", "x" * 300)


def test_odd_labels_stay_in_the_folder_and_come_back_as_they_were(tmp_path):
    home = tmp_path / "home"
    with_label = []
    for number, label in enumerate(ODD[:-2]):
        for i in range(3):
            paint(home / f"{number}-{i}.png", 10 * number + i)
            with_label.append((f"{number}-{i}.png", label))
    with (home / "list.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([("path", "label"), *with_label])
    dataset = clean(read(home / "list.csv"))
    copy_images(dataset, tmp_path / "copy")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy", "home"]
    assert read(tmp_path / "copy").classes == dataset.classes


@given(st.sets(st.text(min_size=1, max_size=6), max_size=12))
def test_classes_get_folders_of_their_own_whatever_their_names(names):
    folders = _class_folders(tuple(sorted(names)))
    assert len({name.casefold() for name in folders.values()}) == len(names)
    for name in folders.values():
        assert name not in ("", ".", "..")
        assert not set(name) & set('/\\:*?"<>|\0')
