"""The ICT face model, packed: download its OBJ files and write faces_ict/ict_facekit_light.npz, or check the one that is there.

    python data_scripts/faces_ict.py                     # into the data folder (DENSEBOOK_DATA, else settings.ini)
    python data_scripts/faces_ict.py --out FOLDER        # into FOLDER/faces_ict
    python data_scripts/faces_ict.py --objs CHECKOUT     # from OBJ files already there; downloads nothing
    python data_scripts/faces_ict.py --check             # verify the sha256 of every array of what is there

Source: FaceXModel/ of github.com/ICT-VGL/ICT-FaceKit at da5f95a607f5e6b37755b38d3385d7f2853732e5, MIT licence,
(c) 2020 USC Institute for Creative Technologies (Li et al., Learning Formation of Physically-Based Face Attributes, 2020).
158 OBJ files, about 400 MB, are fetched one after the other; none is kept. The npz has 11.6 MB.

What is packed: the skin and the eyeballs (vertices 0-14061 and 21451-24590 of 26,719), polygons cut into triangles as fans, the
offset of each of 100 identity modes and 57 expressions from the neutral face as int16 with one scale a mode (largest error
2e-5 cm), the vertices of the 68 Multi-PIE landmarks. Lengths are centimetres. The packing is deterministic: SHA256 below is
what each array must hash to.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from densebook.core import settings
from densebook.core.errors import InputError
from densebook.core.files import atomic_path, sha256
from densebook.data import registry

REPOSITORY, COMMIT = "ICT-VGL/ICT-FaceKit", "da5f95a607f5e6b37755b38d3385d7f2853732e5"
FILE = "faces_ict/ict_facekit_light.npz"
NEUTRAL = "generic_neutral_mesh"
NEUTRAL_SHA256 = "eedbc2576d8e5ea57f55255b8f98263213a1efb5431d8bfceed1d7aef10271f9"
MOST_BYTES = 8_000_000  # of one OBJ file
VERTICES = 26719
KEPT = np.r_[0:14062, 21451:24591]
PARTS = {  # first polygon, last + 1
    "face": (0, 9230),
    "head_neck": (9230, 11144),
    "mouth_socket": (11144, 13226),
    "eye_sockets": (13226, 14034),
    "eyeballs": (21496, 24692),
}
BOTH_SIDES = (
    "PupilDilate browDown browInnerUp browOuterUp cheekPuff cheekRaiser cheekSquint eyeBlink eyeLookDown eyeLookIn eyeLookOut eyeLookUp "
    "eyeSquint eyeWide mouthDimple mouthFrown mouthLowerDown mouthPress mouthSmile mouthStretch mouthUpperUp noseSneer"
).split()
MIDDLE = (
    "jawForward jawLeft jawOpen jawRight mouthClose mouthFunnel mouthLeft mouthPucker mouthRight mouthRollLower mouthRollUpper "
    "mouthShrugLower mouthShrugUpper"
).split()
EXPRESSIONS = sorted([f"{name}_{side}" for name in BOTH_SIDES for side in "LR"] + MIDDLE)
IDENTITIES = [f"identity{k:03d}" for k in range(100)]
LANDMARKS = (
    1225, 1888, 1052, 367, 1719, 1722, 2199, 1447, 966, 3661, 4390, 3927, 3924, 2608, 3272, 4088, 3443,
    268, 493, 1914, 2044, 1401, 3615, 4240, 4114, 2734, 2509, 978, 4527, 4942, 4857, 1140, 2075, 1147, 4269, 3360,
    1507, 1542, 1537, 1528, 1518, 1511, 3742, 3751, 3756, 3721, 3725, 3732, 5708, 5695, 2081, 0, 4275, 6200, 6213, 6346,
    6461, 5518, 5957, 5841, 5702, 5711, 5533, 6216, 6207, 6470, 5517, 5966,
)  # fmt: skip
SHA256 = {
    "neutral": "c266b00b42dc383bb103ac669ffba44ce209e56934ae09a43ede308765215531",
    "identity_q": "b1f620c80b474e86237354386504a4887597f66f6cf6c77a41afb46d3fe0682f",
    "identity_scale": "7d0400ef598b1537a85a3a9a2ff47abeecbb70782f0f334692281d0a2aa6d02f",
    "expression_q": "424282ad140691d6002cfab107957352a70ea4b34930f64bd24923ab4a29784f",
    "expression_scale": "a61115fdbeeb06ab0f7677743f71d651aa47cc9c8b6e5d0a38f8325f133597fe",
    "expression_names": "f765d08d8ace2d1d9e3a80183025846354524b54bbd9b637e61240f3bfe33e8a",
    "faces": "cee325587661199d10035fceb06ff747b32036b358f7a9596b9b4bf53badfaa2",
    "uv": "674f7051e2e8e91b010adb7024185b2c9b4de2f3af7c18c9188a5803abc0f456",
    "faces_uv": "a60be75b0f7bab4951aaa03c12bab59d7f413d2cc490c00e256f9eeaad63e06e",
    "face_part": "5b3db93c4c6c3a75fdb49e890f6933f2efcaa23f52e2adb09565d311bde98663",
    "part_names": "cec12ffde701379c4a4bc050b31ab483298aa5eeb047935ab5d1cda08a21690a",
    "landmarks68": "30a436b0d5c87c13d04a43803ea1d85964cdf497fff34614ddeeee6d28373f7e",
    "narrow_face_vertices": "79708b3e1fcf4005e39f4db0973084bebf74e2d9b9e60247510f5e58ce176cb7",
    "face_vertices": "80d55c2de71bd54381b9d3a17ade61714e2fd84fbb77c51e75edde9a4762d39b",
}


def read_vertices(path: Path) -> np.ndarray:
    """The vertices of an OBJ file, float64; raises InputError when they are not as many as the model has."""
    try:
        with open(path, encoding="ascii") as file:
            found = np.array([line.split()[1:4] for line in file if line.startswith("v ")], dtype=np.float64)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as OBJ ({error}); fetch it again") from error
    if found.shape != (VERTICES, 3):
        raise InputError(f"{path} has vertices of shape {found.shape}, not {(VERTICES, 3)}; is it of ICT-FaceKit at {COMMIT[:7]}?")
    return found


def read_polygons(path: Path) -> tuple[np.ndarray, list[list[tuple[int, int]]]]:
    """Texture coordinates, and the corners of each polygon as (vertex, texture coordinate), from 0."""
    uv, polygons = [], []
    with open(path, encoding="ascii") as file:
        for line in file:
            if line.startswith("vt "):
                uv.append([float(word) for word in line.split()[1:3]])
            elif line.startswith("f "):
                polygons.append([tuple(int(i) - 1 for i in corner.split("/")[:2]) for corner in line.split()[1:]])
    return np.array(uv), polygons


def triangles(polygons: list[list[tuple[int, int]]]) -> tuple[np.ndarray, np.ndarray]:
    """Corners (F, 3, 2) of the kept parts cut into fans, and the part of each."""
    corners, part = [], []
    for number, (first, last) in enumerate(PARTS.values()):
        for polygon in polygons[first:last]:
            fan = [(polygon[0], polygon[k], polygon[k + 1]) for k in range(1, len(polygon) - 1)]
            corners += fan
            part += [number] * len(fan)
    return np.array(corners), np.array(part, dtype=np.uint8)


def quantize(offset: np.ndarray) -> tuple[np.ndarray, np.float32]:
    """Offsets as int16 with one scale: offset = q * scale to half a scale."""
    scale = np.float32(np.abs(offset).max() / 32767)
    return np.round(offset / scale).astype(np.int16), scale


def pack(obj: Callable[[str], Path]) -> dict[str, np.ndarray]:
    """The arrays of the npz in their order; `obj(name)` gives the path of an OBJ file, which may be gone at the next call."""
    path = obj(NEUTRAL)
    neutral, (uv, polygons) = read_vertices(path), read_polygons(path)
    corners, part = triangles(polygons)
    used, faces_uv = np.unique(corners[..., 1], return_inverse=True)
    neutral = neutral.astype(np.float32)[KEPT]

    def modes(names: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
        quantized = [quantize(read_vertices(obj(name))[KEPT] - neutral) for name in names]
        return np.stack([q for q, _ in quantized]), np.array([s for _, s in quantized], dtype=np.float32)

    identity_q, identity_scale = modes(IDENTITIES)
    expression_q, expression_scale = modes(EXPRESSIONS)
    return {
        "neutral": neutral,
        "identity_q": identity_q,
        "identity_scale": identity_scale,
        "expression_q": expression_q,
        "expression_scale": expression_scale,
        "expression_names": np.array(EXPRESSIONS),
        "faces": np.searchsorted(KEPT, corners[..., 0]).astype(np.int32),
        "uv": uv[used].astype(np.float32),
        "faces_uv": faces_uv.reshape(-1, 3).astype(np.int32),
        "face_part": part,
        "part_names": np.array(list(PARTS)),
        "landmarks68": np.array(LANDMARKS, dtype=np.int32),
        "narrow_face_vertices": np.array(6706, dtype=np.int32),
        "face_vertices": np.array(9409, dtype=np.int32),
    }


def check(path: Path) -> dict[str, str]:
    """array -> 'ok' or what is wrong with it. Raises InputError for a file that cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            digests = {name: hashlib.sha256(np.ascontiguousarray(arrays[name]).tobytes()).hexdigest() for name in arrays.files}
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); run this without --check") from error
    states = {name: f"has sha256 {digests.get(name, '')[:12]}..., not {digest[:12]}..." for name, digest in SHA256.items()}
    states |= {name: "ok" for name, digest in SHA256.items() if digests.get(name) == digest}
    return states | {name: "missing" for name in SHA256 if name not in digests}


def fetcher(scratch: Path, base_url: str) -> Callable[[str], Path]:
    """A function that downloads one OBJ file, always to the same place."""

    def fetch(name: str) -> Path:
        target = scratch / "model.obj"
        print(name, end=" ", flush=True)
        registry._http(f"{base_url}/{REPOSITORY}/{COMMIT}/FaceXModel/{name}.obj", target, MOST_BYTES, progress=False)
        if name == NEUTRAL and sha256(target) != NEUTRAL_SHA256:
            raise InputError(f"{name}.obj has sha256 {sha256(target)[:12]}..., not {NEUTRAL_SHA256[:12]}...; check the source")
        return target

    return fetch


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """The npz, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 when the npz is there and right, 1 when an array is not, 2 when it could not be made or read."""
    parser = argparse.ArgumentParser(description="Pack or check the ICT face model.")
    parser.add_argument("--out", metavar="FOLDER", help="data folder (default: DENSEBOOK_DATA, else that of settings.ini)")
    parser.add_argument("--objs", metavar="FOLDER", help="FaceXModel of a checkout: pack its files, download nothing")
    parser.add_argument("--check", action="store_true", help="verify what is there; download nothing")
    parser.add_argument("--base-url", metavar="URL", default=registry.BASE_URL, help="a mirror (default: %(default)s)")
    options = parser.parse_args(arguments)
    path = (Path(options.out).expanduser() if options.out else settings.data_folder()) / FILE
    try:
        if not options.check:
            with tempfile.TemporaryDirectory(prefix="densebook-") as scratch:
                fetch = fetcher(Path(scratch), options.base_url.rstrip("/"))
                local = Path(options.objs or "").expanduser()
                arrays = pack((lambda name: local / f"{name}.obj") if options.objs else fetch)
            write(path, arrays)
        states = check(path)
    except (InputError, OSError) as error:
        print(f"faces_ict: {error}", file=sys.stderr)
        return 2
    for name, state in states.items():
        print(f"{path.name}/{name}: {state}")
    return 0 if all(state == "ok" for state in states.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
