"""Radiance maps that light the book's scenes: download them, or check those that are there.

    python data_scripts/hdri.py                    # into the data folder (DENSEBOOK_DATA, else settings.ini)
    python data_scripts/hdri.py --out FOLDER park  # only park, into FOLDER
    python data_scripts/hdri.py --check            # verify the sha256 of what is there; downloads nothing

Every file is pinned to a version; size and sha256 are verified after the download. Equirectangular, linear radiance.

| name | file | licence | bytes | sha256 |
|---|---|---|---|---|
| studio | studio.exr | CC0-1.0 | 110735 | 08038ed9159c24bb732d2218dafa09cef2abaa44f9ce11ec511d87c842d88fad |
| park | park.exr | CC0-1.0 | 157842 | 00e78fd8fe0ac81f73eb3682b1a4e2e1b909148f1b06d1e52e771d4fec3d02a1 |
| city | city.exr | CC0-1.0 | 133404 | 82847b3f3e2073d16647be2eb5712dc0f7e37ddc9480a1d45f2270fe8cd048f6 |
| forest | forest.exr | CC0-1.0 | 312862 | 6fff311b5f3dad0910d8f334a6d9d88218ffd873d72c679ee1b7e4bccfa140e3 |
| lobby | lobby.exr | CC0-1.0 | 158693 | 55b54fc7b4efc5e9fef27529208d4abe9614839307f40490b135ce75aa08b72c |
| night | night.exr | CC0-1.0 | 154431 | 9509f1b917dbb4c98d63b92e9fd12fb79e3376d17ec3186e2de39543e32ce5ff |
| sunset | sunset.exr | CC0-1.0 | 148357 | d09a4d7581f5454f13c3da3c323a231d00a34e60200de7654a895d2d41a7ceb7 |
| office | env_home_office_full_lights.hdr | CC0-1.0 | 2097216 | 8a042668e539f929c041b1ac99418f486c2c54752533855fe774a679e1cee8bd |

Sources: `office` from `tutorials/environment_maps/` of github.com/RobotLocomotion/models at
4723170e1c8ee8bc59c342bb5c491ab8f263f1fb. The others, by Poly Haven, are in the package @pmndrs/assets 1.7.0 (npm/@pmndrs/assets) as
scripts that hold them in base64; jsDelivr serves them, the download decodes them (nothing of a script is run).
They are half floats in lossy compression, which leaves values below 0 beside bright lamps: `densebook.data.read_hdr` makes those 0.
"""

import sys

from densebook.data import script

NAMES = ("studio", "park", "city", "forest", "lobby", "night", "sunset", "office")

if __name__ == "__main__":
    sys.exit(script.main("hdri", "the radiance maps", NAMES))
