"""Bottles, pots and sprays of the registration chapter: download them, or check those that are there.

    python data_scripts/categories.py                      # into the data folder (DENSEBOOK_DATA, else settings.ini)
    python data_scripts/categories.py --out FOLDER sauce_bottle
    python data_scripts/categories.py --deb FILE           # those of the Debian package, from its .deb file
    python data_scripts/categories.py --check              # verify the sha256 of what is there; downloads nothing

Every file is pinned to a commit or version; size and sha256 are verified after the download. The chapter's other objects (bottle,
pot, camera, compact, drill, iodine) are in data_scripts/objects.py.

| name | file | licence | bytes | sha256 |
|---|---|---|---|---|
| adhesive_bottle | adhesive_bottle.glb | CC0-1.0 | 27880 | f3de30e968ecaade221d214f1cd4916f6222c189d6654fdab3aba69ba60bcffa |
| bleach_bottle_01 | bleach_bottle_01.glb | CC0-1.0 | 58408 | 0aa2fcd8cb1e0f654a87e6e5a822c79388db6213f29bee30d8e8b13e863cb87d |
| bleach_bottle_02 | bleach_bottle_02.glb | CC0-1.0 | 32224 | 97cd43413e590baf02ce5baf927e0285cdc784d28765743bc0db95b4fdfc6261 |
| cleaning_bottle_01 | cleaning_bottle_01.glb | CC0-1.0 | 47868 | ca2d464b2b5f45ac1f862028971ac6123fe7173a57a319de050c5c4a3e991461 |
| cleaning_bottle_02 | cleaning_bottle_02.glb | CC0-1.0 | 30148 | cc9dd26ba0463f0e19bbf15b43ed22cb0e3ebafe5bac168d87e0f6068d6f34a9 |
| cleaning_bottle_03 | cleaning_bottle_03.glb | CC0-1.0 | 52220 | 808b1194dc5f5f719f79c831738b08d57cfc245d4343390b4e3e65c2bc5fd28d |
| cleaning_bottle_04 | cleaning_bottle_04.glb | CC0-1.0 | 28724 | ce22e739295ddebfc56e2527348b9ab2fe7a51e804ac3d3607f47d104394ea8a |
| eye_drop_bottle | eye_drop_bottle.glb | CC0-1.0 | 21772 | d2e13ee6805318412de423017ed5b355921f859b6458ef963971a24af22605ba |
| pill_bottle | pill_bottle.glb | CC0-1.0 | 17232 | 66ee8dd5c98b28c977759949ce8d9e542e452f7aee9cb71e1fd0e1c0bfaf8665 |
| potion_bottle | potion_bottle.glb | CC0-1.0 | 48000 | a06fc661183e2dfe5de974fd6ef4527f2779fecc6be3a78782872f3671214bf3 |
| sauce_bottle | sauce_bottle.glb | CC0-1.0 | 15320 | 04dec958b28ab341e67059e7a30c6028307c5c0211f0425047bbc88c9b3db11e |
| whiskey_bottle | whiskey_bottle.glb | CC0-1.0 | 52028 | 2e62c4a20fba3939fc2146816ef342373da7c8e9e7870314df609765dd395d6c |
| beer_bottle | beer_bottle.obj | CC-BY-3.0 | 829685 | a13b3a734a000daf8bbeb0cbfc1ea0891f9b6583a62f0e25c9a5a50419dd559a |
| beer_bottle | beer_bottle.mtl | CC-BY-3.0 | 516 | 60ef00a7a27a5cbc56bbc0240a53a192ec4ca55090cae81107f707567e8d25b6 |
| beer_bottle | etiqueta_botella.png | CC-BY-3.0 | 7092 | a70397a8b7906b126e440b1944005eb0c4b432e71e0178f65dca1dc9a8bac2c6 |
| bath_bottle | com_bath.obj | CC-BY-3.0 | 79313 | 8246296701de764e7f5e60bf2d09fae2fbf6e689c63ddf7e75b966f3aa4fa67e |
| bath_bottle | com_bath.mtl | CC-BY-3.0 | 437 | 6ccb6ef4c076267b5b15422374b8d296ab91890ad03ac40a8801d38f4285ae90 |
| baby_bottle | mamadeira.obj | CC0-1.0 | 68226 | f227e89fcdc8ed9dd7d08b837bfdd150c3dec98917961dcb9f1bb0c4cc1f1507 |
| baby_bottle | mamadeira.mtl | CC0-1.0 | 454 | a55328414f0cd54df2580f2dbb33b6b37aa916bd673f9b626adc675ad197292e |
| water_bottle | medicoscopia_bottle2.obj | CC-BY-3.0 | 67408 | b82aea131eeadf4bab0c14b1d4943516ed343eb78ecdfc5f8a700981b7f7be9e |
| water_bottle | medicoscopia_bottle2.mtl | CC-BY-3.0 | 465 | bdd6582275c1eb811d7f2e3abcb9a8871a94d16f5ef2b68c754c8882cf14f712 |
| water_bottle | agua_scopiada.jpg | CC-BY-3.0 | 36727 | 0c210e3327a51433d039121205757d96b31fa9d60d16562a5848ae55feb2fa24 |
| water_bottle | ralletes_tap.jpg | CC-BY-3.0 | 6650 | 0b6c20d55e0a085945e68dc351d677258a541e5ae8ed21656938ed339751bcbc |
| red_wine_bottle | red-wine-bottle-01.obj | CC-BY-3.0-US | 174108 | b488f467634ce0ec207238f79d0c06619c0343766f74e3f6a40ed48335584ec0 |
| red_wine_bottle | red-wine-bottle-01.mtl | CC-BY-3.0-US | 411 | 9cc8853e16d14a1608c6b95e06f5594a067a58b720a78e55ca76207a2de63649 |
| red_wine_bottle | Beaujolais-Kator.jpg | CC-BY-3.0-US | 22550 | f6e4a66321487c7f2c4ff02718f6c8e8e2b43580a5060d9ec4a42f5d5788ec40 |
| labelled_wine_bottle | wine_bottle.obj | CC-BY-3.0 | 150510 | ec27fa841e654e55e6272ad0a2adc400676b9f7ef3ad0fd2b6b54f94a0479f7d |
| labelled_wine_bottle | wine_bottle.mtl | CC-BY-3.0 | 539 | 0bf0aec3b99f090e646e6f668bdb50f11f57fd1b4f084da2bb0a8c4ef1688681 |
| labelled_wine_bottle | etiq_botella.jpg | CC-BY-3.0 | 33360 | 879653ab2d7279d2ba5e19c781f413409d68ff6791c0445fbfe448035128ceaa |
| yogurt_bottle | yogurtBottle.obj | CC0-1.0 | 444220 | d23a274eaa1dee868baf355cac936417022d43c85e4e65a25b913b720ff552ab |
| yogurt_bottle | yogurtBottle.mtl | CC0-1.0 | 293 | 6e015aa0a1810b5fdf478eb2edafd333f3a62c38d8b09f282fe89202ff30e43b |
| roman_pottery_02 | roman_pottery_02.glb | CC0-1.0 | 26412 | b95a083018cc2a11ab72efe42ffcf7420dd9398d3e581f0080cbb9335fd23492 |
| roman_pottery_03 | roman_pottery_03.glb | CC0-1.0 | 21676 | 01867a7820a26a8368703cb8379573a291182eff117db0ced0be0312b4ec8e9c |
| roman_pottery_04 | roman_pottery_04.glb | CC0-1.0 | 24396 | 8d4bf353a9eedce214d652767d593332e53f68d400edb5857731d03388a5e69d |
| roman_pottery_05 | roman_pottery_05.glb | CC0-1.0 | 21804 | abbf6dff2c35ff6bb731739f22b84bfbbb03baa0d35494297889bb06b18384bb |
| roman_pottery_06 | roman_pottery_06.glb | CC0-1.0 | 16492 | fc251852a257ac1d5a7d70e9bcaad8a0f208baa549e84c24af2e91bfa11cb6e9 |
| cleaning_spray | cleaning_spray.glb | CC0-1.0 | 73268 | 9d2d80afc78cc2514a08e60ad16f6c32ebae2cc5fc9254a39dfac1388835be20 |
| soap_dispenser | soap_dispenser.glb | CC0-1.0 | 26388 | 5c9c1af9b2848a3d6d0089ea6a60b3141015d3e5ef00d1b0ef789ebd47825271 |
| spray_can | spray_can.glb | CC0-1.0 | 27628 | 15835792f02a91242fc83450a377f2eec7b57803993ad067be93747f2fcfae7c |
| fire_extinguisher | fireExtinguisher.obj | CC0-1.0 | 447475 | 1eb93f38ac88a45865c602e56ca807b234ea6221cd758bacafec0ece8dc08a99 |
| fire_extinguisher | fireExtinguisher.mtl | CC0-1.0 | 1137 | bb9215b25ed73235e786e5349348134673d6e2b0dc8cba79bde2d6809187c191 |
| fire_extinguisher | label.jpg | CC0-1.0 | 40396 | fa95e8895336ae2e54c90409d6d42988a46d5584614660e1bc5f767ac2b837ca |
| spray_bottle | spray-bottle.obj | CC-BY-3.0-US | 202709 | fcfa242f0eca1b74171924be58bb370626ff037d593ed56a7b0056817eb9d8f3 |
| spray_bottle | spray-bottle.mtl | CC-BY-3.0-US | 382 | 4037eb1f01e9361895c7af1f9f7b0bbdd4c0b5f9ba10b2b7a7faee2e2d476a7b |

Sources: on GitHub, M3-org/base-meshes at 2b944200d24c8a7caf698257a3047619d3ab9268, below `models/`. The others are in the Debian
package sweethome3d-furniture 1.8-1 (debian/sweethome3d-furniture, 120 MB): a person fetches it, for instance with
`apt-get download sweethome3d-furniture`, and gives it with --deb. Of it only the files listed are unpacked.

Credits: bath_bottle, water_bottle, labelled_wine_bottle by Scopia Visual Interfaces Systems, s.l. (scopia.es), CC-BY 3.0;
red_wine_bottle, spray_bottle by Andrew Kator and Jennifer Legaz, CC-BY 3.0 US; beer_bottle by poifox (BlendSwap), CC-BY 3.0. No credit
is required but kind: M3-org (The Base Mesh), Valdps and Tastykle3d (BlendSwap), Bastable.
"""

import sys

from densebook.data import script

NAMES = (
    "adhesive_bottle", "bleach_bottle_01", "bleach_bottle_02", "cleaning_bottle_01", "cleaning_bottle_02", "cleaning_bottle_03",
    "cleaning_bottle_04", "eye_drop_bottle", "pill_bottle", "potion_bottle", "sauce_bottle", "whiskey_bottle", "beer_bottle",
    "bath_bottle", "baby_bottle", "water_bottle", "red_wine_bottle", "labelled_wine_bottle", "yogurt_bottle", "roman_pottery_02",
    "roman_pottery_03", "roman_pottery_04", "roman_pottery_05", "roman_pottery_06", "cleaning_spray", "soap_dispenser",
    "spray_can", "fire_extinguisher", "spray_bottle",
)

if __name__ == "__main__":
    sys.exit(script.main("categories", "objects of the registration chapter", NAMES))
