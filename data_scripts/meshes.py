"""Meshes of the geometry chapter: download them, or check those that are there.

    python data_scripts/meshes.py                      # into the data folder (DENSEBOOK_DATA, else settings.ini)
    python data_scripts/meshes.py --out FOLDER spot    # only spot, into FOLDER
    python data_scripts/meshes.py --check              # verify the sha256 of what is there; downloads nothing

Every file is pinned to a commit of a public repository; size and sha256 are verified after the download.

| file | licence | bytes | sha256 |
|---|---|---|---|
| spot/spot_triangulated.obj | public domain | 330624 | 0738b5e8608fed74e5e8c7aa8dd0af97b4b74f9f6cbf7aac84cd7e40b2e44a75 |
| spot/spot_texture.png | public domain | 78699 | cddabbae52a666173e7953e238b88340d285044dc20b36f8ed3f1a41db534fa5 |
| fish/fish.obj | public domain | 688242 | 9fb9b91389918ac8fddd11a44ca2d35350e200f92a2151b4e892841e49aaa158 |
| nefertiti/nefertiti-lowres.obj | public domain | 2479453 | 3ae65c1ec016d2903af36e2fff43c8dd7cd982cec45ce09fc57f18a5ee1c3ffb |
| penguin/penguin.obj | CC-BY-4.0 | 210024 | ff6c992f97ea34c1a1f6a9477a2bcd68148a60fae68797d85765f7730d5ee9f2 |
| wingnut/wingnut.obj | CC-BY-4.0 | 276709 | ff8d168e9cf43194d3821eef1f6efeac5149eed8b1578e6d97bc6a6aba95254a |
| boot/boot.obj | CC-BY-4.0 | 1330125 | d2337237da8cabc6584e1ea552cb334fea3122e372198508e3b6bbbc874eefa3 |
| plane/plane.obj | CC-BY-3.0 | 1452839 | cdf398872bd22c86a12ac65265aef1ea939af4332f8d259219fe7ea5a1cf272c |

Sources: spot from `data/spot.zip` of github.com/alecjacobson/common-3d-test-models at 8a4f8642acaf43f9cd7b67858a1502e1055ef202;
the others from `objects/` of github.com/odedstein/meshes at 835213277571d625722d25880c9c3010c6f45a5a.

Credits: spot and fish by Keenan Crane (public domain). odedstein-meshes (Oded Stein 2024): Nefertiti by Nora Al-Badri and Jan Nikolai
Nelles (public domain); penguin and wing nut by Oded Stein et al. (CC-BY 4.0); boot by inciprocal (CC-BY 4.0); plane by YahooJAPAN
(CC-BY 3.0); remeshed by Oded Stein.
"""

import sys

from densebook.data import script

NAMES = ("spot", "fish", "nefertiti", "penguin", "wingnut", "boot", "plane")

if __name__ == "__main__":
    sys.exit(script.main("meshes", "the meshes of the geometry chapter", NAMES))
