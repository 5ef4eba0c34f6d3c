"""Pictures and radiance maps: what is read and written, against OpenCV and OpenEXR, and what is refused."""

import os
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from densebook.core.errors import InputError
from densebook.core.seeds import generator
from densebook.data import images


def refused(call, path, match):
    with pytest.raises(InputError, match=match) as caught:
        call(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def write(path, content: bytes):
    path.write_bytes(content)
    return path


# --- PNG and JPEG ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_png_round_trip(tmp_path, dtype):
    image = torch.rand(5, 7, 3, generator=generator(0), dtype=dtype)
    again = images.read_image(images.write_image(tmp_path / "new/a.png", image))
    assert again.dtype == torch.float32 and again.shape == image.shape
    step = 1.055 * 2.4 / 255 / 2  # half an 8-bit step where sRGB is steepest, near white
    assert (again - image).abs().max() < step
    assert torch.equal(images.read_image(images.write_image(tmp_path / "b.png", again)), again), "what came from 8 bits stays"
    wild = torch.tensor([[[-1.0, 0.5, 7.0]]], requires_grad=True)
    assert images.read_image(images.write_image(tmp_path / "c.png", wild))[0, 0, ::2].tolist() == [0, 1]


def test_png_equals_opencv(tmp_path):
    cv2 = pytest.importorskip("cv2")
    image = torch.rand(6, 4, 3, generator=generator(1))
    levels = cv2.imread(str(images.write_image(tmp_path / "a.png", image)))[..., ::-1] / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    assert np.allclose(images.read_image(tmp_path / "a.png"), linear, atol=1e-6)


@pytest.mark.parametrize(
    ("image", "match"),
    [
        (torch.zeros(4, 4), "shape"),
        (torch.zeros(4, 4, 4), "shape"),
        (torch.zeros(0, 4, 3), "not empty"),
        (torch.zeros(4, 4, 3, dtype=torch.uint8), "torch.uint8"),
        (torch.full((1, 1, 3), float("nan")), "not finite"),
    ],
)
def test_what_is_no_image_is_not_written(tmp_path, image, match):
    with pytest.raises(InputError, match=match):
        images.write_image(tmp_path / "a.png", image)
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written(tmp_path):
    good = torch.zeros(1, 1, 3)
    with pytest.raises(InputError, match="suffix '.jpg'"):
        images.write_image(tmp_path / "a.jpg", good)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        images.write_image(tmp_path / "file/a.png", good)


def huge_png(width: int, height: int) -> bytes:
    """A PNG whose header says that it is huge, with data for a few pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )


def test_bad_pictures(tmp_path):
    good = images.write_image(tmp_path / "good.png", torch.rand(9, 9, 3, generator=generator(2))).read_bytes()
    path = tmp_path / "a.png"
    refused(images.read_image, path, "no such file")
    refused(images.read_image, tmp_path, "no such file")
    for content in (
        b"",
        b"\x89PNG",
        good[:40],
        good[: len(good) // 2],
        b"GIF89a" + b"\0" * 50,
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"II*\0" + b"\0" * 50,
    ):
        refused(images.read_image, write(path, content), "no PNG or JPEG picture that can be read")
    refused(images.read_image, write(path, huge_png(8192, 4097)), "8192 x 4097 pixels; at most 33,554,432")
    refused(images.read_image, write(path, huge_png(20000, 20000)), "more pixels|20000 x 20000")
    refused(images.read_image, write(path, huge_png(2**31 - 1, 1)), "pixel")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=4)), max_size=4), st.integers(0, 400), st.sampled_from(["png", "exr", "hdr"])
)
def test_damaged_files_give_an_image_or_an_error(tmp_path, changes, cut, kind):
    good = goods(tmp_path)[kind]
    content = bytearray(good if cut > len(good) else good[: len(good) - cut])
    for at, new in changes:
        content[at : at + len(new)] = new
    path = write(tmp_path / f"m.{kind}", bytes(content))
    try:
        image = images.read_image(path) if kind == "png" else images.read_hdr(path)
    except InputError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
    else:
        assert image.ndim == 3 and image.shape[2] == 3 and image.isfinite().all()


def goods(folder) -> dict[str, bytes]:
    import OpenEXR

    light = torch.rand(6, 9, 3, generator=generator(3)).numpy()
    OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION}, {"RGB": light}).write(str(folder / "good.exr"))
    png = images.write_image(folder / "good.png", torch.from_numpy(light)).read_bytes()
    return {"png": png, "exr": (folder / "good.exr").read_bytes(), "hdr": rgbe(np.random.default_rng(0).integers(0, 256, (6, 9, 4)))}


# --- radiance maps ---


def rgbe(pixels: np.ndarray, runs: bool = True) -> bytes:
    """A Radiance file of (h, w, 4) bytes, flat or with rows of runs and literals."""
    height, width, _ = pixels.shape
    head = b"#?RADIANCE\nSOFTWARE=a test\nFORMAT=32-bit_rle_rgbe\n\n" + f"-Y {height} +X {width}\n".encode()
    if not runs:
        return head + pixels.astype(np.uint8).tobytes()
    rows = []
    for row in pixels.astype(np.uint8):
        rows.append(b"\2\2" + width.to_bytes(2, "big"))
        for plane in row.T:
            at = 0
            while at < width:
                same = 1
                while at + same < width and same < 127 and plane[at + same] == plane[at]:
                    same += 1
                rows.append(bytes([128 + same, plane[at]]) if same > 1 else bytes([1, plane[at]]))
                at += same
    return head + b"".join(rows)


def test_radiance_files(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (5, 300, 4))
    pixels[2] = pixels[2, 0]  # a row of one colour: long runs
    pixels[3, :, 3] = 0  # an exponent of 0 is black
    exact = pixels[..., :3] * 2.0 ** (pixels[..., 3:] - 136.0) * (pixels[..., 3:] > 0)
    for runs in (False, True):
        light = images.read_hdr(write(tmp_path / "a.hdr", rgbe(pixels, runs)))
        assert light.dtype == torch.float32 and np.array_equal(light.numpy(), exact.astype(np.float32))


def test_radiance_equals_opencv(tmp_path):
    cv2 = pytest.importorskip("cv2")
    light = np.random.default_rng(2).random((20, 40, 3)).astype(np.float32) ** 4 * 100
    light[5:9] = 3.0
    cv2.imwrite(str(tmp_path / "a.hdr"), light[..., ::-1])
    peer = cv2.imread(str(tmp_path / "a.hdr"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert np.array_equal(images.read_hdr(tmp_path / "a.hdr").numpy(), peer)


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_openexr_files(tmp_path, kind, alpha):
    OpenEXR = pytest.importorskip("OpenEXR")
    light = (np.random.default_rng(3).random((4, 6, 3)) * 100).astype(kind)
    light[1, 2, 0] = -3
    channels = {"RGBA": np.concatenate([light, np.ones((4, 6, 1), kind)], axis=2)} if alpha else {"RGB": light}
    OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION}, channels).write(str(tmp_path / "a.exr"))
    found = images.read_hdr(tmp_path / "a.exr")
    assert found.dtype == torch.float32 and np.array_equal(found.numpy(), light.clip(0).astype(np.float32))


def test_bad_openexr(tmp_path):
    OpenEXR = pytest.importorskip("OpenEXR")
    path, light = tmp_path / "a.exr", np.ones((4, 6), np.float32)

    def saved(header: dict, channels: dict) -> bytes:
        OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION} | header, channels).write(str(path))
        return path.read_bytes()

    refused(images.read_hdr, tmp_path / "no.exr", "no such file")
    refused(images.read_hdr, write(tmp_path / "a.png", b""), "no radiance map; known: .exr, .hdr")
    good = saved({}, {"RGB": np.stack([light] * 3, axis=2)})
    for content in (b"", b"v/1\x01", good[:60], good[:-1], b"#?RADIANCE\n"):
        refused(images.read_hdr, write(path, content), "OpenEXR")
    saved({}, {"Z": light})
    refused(images.read_hdr, path, "has channels Z and not RGB")
    saved({}, {"RGB": np.full((4, 6, 3), np.inf, np.float32)})
    refused(images.read_hdr, path, "not finite")
    at = good.index(b"dataWindow\0box2i\0") + len(b"dataWindow\0box2i\0") + 4
    for corners in ((0, 0, 2**20, 2**20), (0, 0, 2**31 - 1, 2**31 - 1), (5, 5, 0, 0), (-(2**31), -(2**31), 2**31 - 1, 2**31 - 1)):
        refused(images.read_hdr, write(path, good[:at] + struct.pack("<4i", *corners) + good[at + 16 :]), "pixels|OpenEXR")


def test_bad_radiance(tmp_path):
    path, pixels = tmp_path / "a.hdr", np.random.default_rng(4).integers(0, 256, (3, 20, 4))
    flat, runs = rgbe(pixels, False), rgbe(pixels)
    for content in (
        b"",
        b"#?RADIANCE\n",
        flat.replace(b"rle_rgbe", b"rle_xyze"),
        flat.replace(b"-Y", b"+Y"),
        b"\n" * 1000,
        b"#?RADIANCE\n" + b"a\n" * 5000,
    ):
        refused(images.read_hdr, write(path, content), "no header of a Radiance picture")
    for content in (flat[:-1], flat + b"x", runs[:-1], runs[:100]):
        refused(images.read_hdr, write(path, content), "cut off|leaves it")
    refused(images.read_hdr, write(path, flat.replace(b"-Y 3 +X 20", b"-Y 999999999 +X 999999999")), "pixels; from 1")
    refused(images.read_hdr, write(path, flat.replace(b"-Y 3 +X 20", b"-Y 0 +X 20")), "pixels; from 1")
    start = runs.index(b"\2\2")
    for bad in (b"\x94", b"\xff", b"\0"):  # a run one longer than the row, much longer, and none
        many = b"\2\2\0\x14" + (bad if bad != b"\x94" else b"\x95") + b"\7"
        refused(images.read_hdr, write(path, runs[:start] + many + runs[start + 6 :]), "run that leaves it")


@pytest.mark.parametrize("name", ["studio", "park", "office"])
def test_real_maps_equal_their_own_readers(name):
    if not os.environ.get("DENSEBOOK_DATA"):
        pytest.skip("DENSEBOOK_DATA is not set")
    import densebook.data

    path = densebook.data.get(name)
    if path.suffix == ".hdr":
        peer = pytest.importorskip("cv2").imread(str(path), -1)[..., ::-1]
    else:
        peer = pytest.importorskip("OpenEXR").File(str(path)).channels()["RGB"].pixels.astype(np.float32).clip(0)
    assert np.array_equal(images.read_hdr(path).numpy(), peer)
