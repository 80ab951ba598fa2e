import base64
import io
import os
import re
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from acclimate.data.images.decode import FORMATS, IMAGE_SUFFIXES, decode, read_image
from acclimate.data.images.preview import decode_preview
from acclimate.data.images.samples import PixelRules
from acclimate.data.settings import Decoding
from acclimate.errors import UnreadableImage

HERE = Path("photos/a.jpg")
RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 160, 60), (30, 60, 200), (230, 210, 40)


def quarters(width=48, height=32):
    """Another colour in each corner: shows what was turned, mirrored or recoloured."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    image.paste(YELLOW, (width // 2, height // 2, width, height))
    return image


def noise(width=120, height=90, seed=0):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def corners(image):
    """The colours a quarter in from each corner, in reading order."""
    width, height = image.size
    places = [(x, y) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    return [image.getpixel(place) for place in places]


def png_header(width, height):
    """A black and white PNG of any size in 60 bytes, without pixels."""

    def chunk(name, content):
        crc = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + crc

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def grey(color):
    return tuple([Image.new("RGB", (1, 1), color).convert("L").getpixel((0, 0))] * 3)


def see_through(mode):
    """The quarters, with the last one fully transparent."""
    image = quarters().convert(mode)
    alpha = Image.new("L", image.size, 255)
    alpha.paste(0, (24, 16, 48, 32))
    image.putalpha(alpha)
    return image


def palette_with_transparency():
    image = quarters().convert("P", palette=Image.Palette.ADAPTIVE, colors=8)
    return encoded(image, "PNG", transparency=image.getpixel((47, 31)))


def wide(kind):
    """16-bit grey, spread over the whole range."""
    samples = np.asarray(quarters().convert("L")).astype(np.uint16) * 257
    return encoded(Image.fromarray(samples), kind)


def animation(kind, **options):
    """The quarters, and two black frames after them."""
    black = [Image.new("RGB", (48, 32))] * 2
    return encoded(quarters(), kind, save_all=True, append_images=black, **options)


COLORS = [RED, GREEN, BLUE, YELLOW]
GREYS = [grey(color) for color in COLORS]
ON_WHITE = [*COLORS[:3], (255, 255, 255)]
GREYS_ON_WHITE = [*GREYS[:3], (255, 255, 255)]

KINDS = {
    "JPEG": (lambda: encoded(quarters(), "JPEG", quality=95), COLORS),
    "grey JPEG": (lambda: encoded(quarters().convert("L"), "JPEG", quality=95), GREYS),
    "CMYK JPEG": (lambda: encoded(quarters().convert("CMYK"), "JPEG", quality=95), COLORS),
    "progressive JPEG": (lambda: encoded(quarters(), "JPEG", quality=95, progressive=True), COLORS),
    "JPEG with a second picture": (lambda: animation("MPO", quality=95), COLORS),
    "PNG": (lambda: encoded(quarters(), "PNG"), COLORS),
    "grey PNG": (lambda: encoded(quarters().convert("L"), "PNG"), GREYS),
    "16-bit grey PNG": (lambda: wide("PNG"), GREYS),
    "16-bit grey TIFF": (lambda: wide("TIFF"), GREYS),
    "16-bit grey PGM": (lambda: wide("PPM"), GREYS),
    "RGBA PNG": (lambda: encoded(see_through("RGB"), "PNG"), ON_WHITE),
    "grey PNG with alpha": (lambda: encoded(see_through("L"), "PNG"), GREYS_ON_WHITE),
    "palette PNG": (
        lambda: encoded(quarters().convert("P", palette=Image.Palette.ADAPTIVE), "PNG"),
        COLORS,
    ),
    "palette PNG with transparency": (palette_with_transparency, ON_WHITE),
    "RGB PNG with a transparent color": (
        lambda: encoded(quarters(), "PNG", transparency=YELLOW),
        ON_WHITE,
    ),
    "1-bit PNG": (
        lambda: encoded(quarters().convert("L").point(lambda v: (v > 120) * 255, "1"), "PNG"),
        [(0, 0, 0), (0, 0, 0), (0, 0, 0), (255, 255, 255)],
    ),
    "GIF": (lambda: encoded(quarters(), "GIF"), COLORS),
    "animated GIF": (lambda: animation("GIF"), COLORS),
    "animated PNG": (lambda: animation("PNG"), COLORS),
    "animated WebP": (lambda: animation("WEBP"), COLORS),
    "TIFF of several pages": (lambda: animation("TIFF"), COLORS),
    "CMYK TIFF": (lambda: encoded(quarters().convert("CMYK"), "TIFF"), COLORS),
    "WebP": (lambda: encoded(quarters(), "WEBP", lossless=True), COLORS),
    "RGBA WebP": (lambda: encoded(see_through("RGB"), "WEBP", lossless=True), ON_WHITE),
    "BMP": (lambda: encoded(quarters(), "BMP"), COLORS),
    "PPM": (lambda: encoded(quarters(), "PPM"), COLORS),
    "AVIF": (lambda: encoded(quarters(), "AVIF", quality=95), COLORS),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_image_is_read_in_its_colors(kind):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    make, expected = KINDS[kind]
    content = make()
    image = decode(content, HERE)
    assert (image.mode, image.size) == ("RGB", (48, 32))
    # CMYK and lossy kinds move colours a little; a mistaken kind moves them by 50 and more.
    assert np.abs(np.subtract(corners(image), expected)).max() <= 12
    assert decode_preview(content, HERE)[:2] == (48, 32)


def test_every_format_is_among_the_kinds():
    seen = {
        Image.open(io.BytesIO(make())).format for name, (make, _) in KINDS.items() if name != "AVIF"
    }
    assert seen | {"AVIF", "HEIF"} == {*FORMATS, "MPO"}
    assert len(KINDS) == 27


def test_every_suffix_belongs_to_a_format():
    Image.init()
    known = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}
    assert known | {".avif", ".heic", ".heif", ".dcm"} >= IMAGE_SUFFIXES


HEIC = base64.b85decode(
    "0000SW^{RQXk}?*00000ZE0pPXk}?*ZE0a<0004fZDn*}000000000XXk=`10000000000aA{+70000000000000"
    "0000000B57=IV*mgE07O6l0RRC200001p#T8@0000000DXc001LtX>Mi!000000RR916=`l}WdZ;I000310BCk&F"
    "#rGn01j|zbZr0t000010002}X>f9I0002pX>en20001XXm(>m0RwOV0058x000009`FGC{rLC*01pFT0096PKmiN"
    "^|NjGU00093kN^M!000939=ZZRVE_RDDnbDP18@KU0|1Z!00RI30{|YNAb|yz>g1-mxCm%4AOHXZ10VnZ0{|gn00"
    "967L;=Bbz=;3=025<xY;ta6Y<K_x01W^JfB*mh6lrsCWdHyG00000KmY&$KmY&$C}V74Z~y=RFaQ7m0RR91AOHXW"
    "0ssI1@Bjb+0{{R2-~a#s0ssI25O8UDX#fBK00RgJ2mk;87-?{AVE_OC000000RRC7fdT^sga7~mf^B4BbN~PWb|?"
    "X_1~^*xw%^30|Nr(!K8N*F_yeRtlXGE*Jgr8KQ<b!_MfwLkj_P+?OW4Rc&pUXj4_?!!)11GWebez=lJ{CaoaB0+f"
    "RHcI$<e;c$$$P>eap6fmJ?DR_8RGR@;+@hDMlq93F`v-i(q_+Q~&ldfB%lp|Ns91)?Mn2Psillj{eAhyXAMXAo<!"
    "+cO_4g&X=vJ(|C_7dI;V76&)M(JvaaD&0QOHpL9vnf2kK$jY0n`;){`cc{*Fh8Z-V;R1i%mDevrJT4QS08nemtl}"
    "Vf9$K*qPc>mh7)PutCYrMF9^8abz1aAAr=eN*&lPoU4-ln@;Kmze8vm<PV%W$X8gXeWUMtxS&yAnO%_wRcJRhJa|"
    "`Y&1kJ8$yf8nP{Xp?^S<J{w5_vfE4T4VK|god?e9dW`z4;@LHk*0-%#o;U%L@e||!i)!!F`aXX6v45l6LYTTC?ef"
    "go!)bie`^r37xh?4$bxyL~H$uP"
)
"""The quarters, as a phone stores photos."""


def test_a_heic_photo_is_read_with_the_extra():
    pytest.importorskip("pi_heif")
    image = decode(HEIC, HERE)
    assert (image.mode, image.size) == ("RGB", (48, 32))
    assert np.abs(np.subtract(corners(image), COLORS)).max() <= 12
    with pytest.raises(UnreadableImage, match=r"over the limit of 0\.001"):
        decode(HEIC, HERE, limits=Decoding(max_megapixels=0.001))


def test_without_the_extra_a_heic_photo_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.setattr("acclimate.data.images.decode._formats", lambda: ("JPEG", "PNG"))
    with pytest.raises(UnreadableImage) as caught:
        decode(HEIC, HERE)
    assert str(caught.value) == (
        f"{HERE}: is a HEIC image: install the extra by pip install 'acclimate[heic]', or convert "
        "it to JPEG."
    )


def test_sixteen_bit_grey_keeps_all_its_tones():
    tones = np.arange(256, dtype=np.uint16).reshape(16, 16)
    image = decode(encoded(Image.fromarray(tones * 257), "PNG"), HERE)
    assert np.array_equal(np.asarray(image), np.repeat(tones[:, :, None], 3, axis=2))


TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def oriented(image, orientation, kind, **options):
    """An image stored as a camera held another way would store it."""
    turn = TURNS[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image.transpose(turn) if turn is not None else image, kind, exif=exif, **options)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", TURNS)
def test_a_turned_photo_stands_upright(kind, orientation):
    content = oriented(quarters(), orientation, kind)
    image = decode(content, HERE)
    assert image.size == (48, 32)
    assert np.abs(np.subtract(corners(image), COLORS)).max() <= 12
    assert decode_preview(content, HERE)[:2] == (48, 32)


def test_a_turned_sixteen_bit_image_stands_upright():
    samples = np.asarray(quarters().convert("L")).astype(np.uint16) * 257
    content = oriented(Image.fromarray(samples), 6, "PNG")
    assert corners(decode(content, HERE)) == GREYS


def test_an_upright_image_is_not_turned_again():
    image = decode(oriented(quarters(), 6, "PNG"), HERE)
    assert image.getexif().get(0x0112, 1) == 1


ODD_EXIF = {
    "garbage": b"Exif\0\0garbage here and there",
    "cut off": b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
    "pointing nowhere": b"Exif\0\0II*\0\xff\xff\0\0",
    "orientation of 9": b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\x09\0\0\0\0\0\0",
    "orientation in words": b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\2\0\0\0\1x\0\0\0\0\0\0\0",
}


@pytest.mark.parametrize("exif", ODD_EXIF.values(), ids=ODD_EXIF.keys())
def test_odd_exif_does_not_spoil_a_photo_and_nobody_is_warned(exif):
    content = encoded(quarters(), "JPEG", exif=exif)
    assert decode(content, HERE).size == (48, 32)
    assert decode_preview(content, HERE)[:2] == (48, 32)


JPEG = encoded(noise(), "JPEG")
PNG = encoded(noise(), "PNG")

BAD = {
    "no bytes": (b"", "file is empty (0 bytes)."),
    "text": (b"not an image", "file is not an image."),
    "a web page": (b"<!DOCTYPE html><html></html>", "file is not an image."),
    "an SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "file is not an image."),
    "DICOM": (
        bytes(128) + b"DICM" + bytes(100),
        "is a DICOM file: convert it to 16-bit PNG, such as by dcmj2pnm +on2 of DCMTK.",
    ),
    "an archive": (b"PK\x03\x04" + bytes(100), "file is not an image."),
    "EPS, which would run Ghostscript": (encoded(noise(), "EPS"), "file is not an image."),
    "PDF": (encoded(noise(), "PDF"), "file is not an image."),
    "icon": (encoded(noise(), "ICO"), "file is not an image."),
    "JPEG without its end": (JPEG[: len(JPEG) * 2 // 3], "image is truncated or broken."),
    "JPEG of a header": (JPEG[:700], "image is truncated or broken."),
    "PNG without its end": (PNG[: len(PNG) // 2], "image is truncated or broken."),
    "PNG with a broken stream": (
        PNG[:100] + bytes(200) + PNG[300:],
        "image is truncated or broken.",
    ),
    "PNG without pixels": (png_header(40, 30), "image is truncated or broken."),
    "100 megapixels": (
        png_header(10_000, 10_000),
        "image has 100 megapixels, over the limit of 80.",
    ),
    "400 megapixels": (
        png_header(20_000, 20_000),
        "image has 400 megapixels, over the limit of 80.",
    ),
    "4 terapixels": (
        png_header(2_000_000, 2_000_000),
        "image has 4,000,000 megapixels, over the limit of 80.",
    ),
    "floating point": (
        encoded(Image.new("F", (8, 8)), "TIFF"),
        "image has floating-point samples, whose range is not known.",
    ),
    "32 bits": (
        encoded(Image.fromarray(np.full((8, 8), 200, np.int32)), "TIFF"),
        "image has 32-bit samples, whose range is not known.",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("reader", [decode, decode_preview])
def test_a_bad_file_is_refused_with_its_reason(reader, content, message):
    with pytest.raises(UnreadableImage) as caught:
        reader(content, HERE)
    assert str(caught.value) == f"{HERE}: {message}"


def test_an_image_just_above_the_bound_is_not_said_to_be_at_it():
    with pytest.raises(UnreadableImage) as caught:
        decode_preview(png_header(12_000, 6_700), HERE)
    shown = re.search(r"image has ([\d.,]+) megapixels, over the limit of 80\.", str(caught.value))
    assert float(shown[1]) > 80


def test_the_bound_on_pixels_can_be_moved(tmp_path):
    content = encoded(noise(200, 150), "PNG")
    low = Decoding(max_megapixels=0.029)
    for reader in (decode, decode_preview):
        with pytest.raises(UnreadableImage, match=r"over the limit of 0\.029"):
            reader(content, HERE, limits=low)
        reader(content, HERE, limits=Decoding(max_megapixels=0.03))


def test_our_limit_counts_and_not_pillows(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    content = encoded(Image.new("1", (400, 300)), "PNG")
    with pytest.raises(
        UnreadableImage, match=r"image has 0\.120 megapixels, over the limit of 0\.1"
    ):
        decode(content, HERE, limits=Decoding(max_megapixels=0.1))
    limits = Decoding(max_megapixels=0.2)
    assert decode_preview(content, HERE, limits=limits)[:2] == (400, 300)


def test_a_bomb_is_refused_before_its_pixels_are_unpacked():
    content = encoded(Image.new("1", (10_000, 10_000)), "PNG")
    assert len(content) < 50_000
    with pytest.raises(UnreadableImage, match="image has 100 megapixels"):
        decode_preview(content, HERE)


def test_a_file_of_an_image_is_read(tmp_path):
    path = tmp_path / "die Rose 🌹.png"
    quarters().save(path)
    assert corners(read_image(path)) == COLORS


def test_a_pipe_with_the_name_of_an_image_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UnreadableImage, match=r"pipe\.png: is not a regular file\."):
        read_image(tmp_path / "pipe.png")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("missing.png", "No such file or directory"), ("folder.png", "Is a directory")],
)
def test_a_file_that_cannot_be_opened_is_refused_with_its_reason(tmp_path, name, reason):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UnreadableImage) as caught:
        read_image(tmp_path / name)
    assert str(caught.value) == f"{tmp_path / name}: cannot be read ({reason})."


def test_a_file_that_is_too_large_is_refused_unread(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(PNG + bytes(1 << 20))
    with pytest.raises(UnreadableImage) as caught:
        read_image(path, limits=Decoding(max_file_mb=1))
    assert str(caught.value) == f"{path}: file is larger than 1 MB."
    assert read_image(path, limits=Decoding(max_file_mb=2)).size == (120, 90)


@settings(max_examples=25, deadline=None)
@given(st.integers(40, 900), st.integers(40, 900), st.integers(16, 256))
def test_a_jpeg_read_at_a_fraction_stays_large_enough_and_looks_the_same(width, height, min_side):
    content = encoded(noise(width, height), "JPEG", quality=90)
    whole, part = decode(content, HERE), decode(content, HERE, min_side=min_side)
    assert whole.size == (width, height)
    assert min(part.size) >= min(min_side, *whole.size)
    assert part.width / part.height == pytest.approx(width / height, rel=0.1)
    view = [np.asarray(i.resize((16, 16), Image.Resampling.BOX), np.float32) for i in (whole, part)]
    assert np.abs(view[0] - view[1]).mean() < 20


def test_a_large_jpeg_is_read_at_an_eighth_for_a_small_network():
    content = encoded(noise(2400, 1600), "JPEG")
    assert decode(content, HERE, min_side=100).size == (300, 200)
    assert decode(content, HERE, min_side=101).size == (600, 400)
    assert decode(content, HERE).size == (2400, 1600)
    old = PixelRules(decoding=1)
    assert decode(content, HERE, min_side=200, rules=old).size == (300, 200)


def test_a_size_that_no_fraction_divides_is_read_whole():
    content = encoded(noise(2401, 1600), "JPEG")
    assert decode(content, HERE, min_side=100).size == (2401, 1600)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_fraction_of_a_turned_photo_stands_upright_too(orientation):
    content = oriented(quarters(960, 640), orientation, "JPEG")
    image = decode(content, HERE, min_side=100)
    assert image.width > image.height
    assert decode_preview(content, HERE)[:2] == (960, 640)
    assert np.abs(np.subtract(corners(image), COLORS)).max() <= 12


CUTS = {
    "JPEG": JPEG,
    "progressive": encoded(noise(), "JPEG", progressive=True),
    "PNG": PNG,
    "WEBP": encoded(noise(), "WEBP"),
    "GIF": encoded(noise(), "GIF"),
    "BMP": encoded(noise(), "BMP"),
    "TIFF": encoded(noise(), "TIFF", compression="tiff_lzw"),
}


def outcome(reader, content):
    """What a reader answers; anything but an answer or a refusal fails the test."""
    try:
        reader(content, HERE)
    except UnreadableImage as error:
        return error.message
    return "fine"


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(sorted(CUTS)), part=st.floats(0, 1, exclude_max=True))
def test_cleaning_refuses_a_cut_file_exactly_where_decoding_does(kind, part):
    content = CUTS[kind][: int(part * len(CUTS[kind]))]
    assert outcome(decode_preview, content) == outcome(decode, content)


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(sorted(CUTS)),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1),
    header_only=st.booleans(),
)
def test_damaged_bytes_end_in_an_image_or_a_refusal(kind, changes, header_only):
    content = bytearray(CUTS[kind])
    reach = 200 if header_only else len(content)
    for place, value in changes:
        content[int(place * reach)] = value
    assert all(outcome(reader, bytes(content)) for reader in (decode_preview, decode))


def test_decoding_in_threads_leaves_the_warning_filters_as_they_were():
    content = encoded(quarters(), "JPEG")
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        sizes = {image.size for image in pool.map(lambda _: decode(content, HERE), range(2000))}
    assert sizes == {(48, 32)}
    assert warnings.filters == before
