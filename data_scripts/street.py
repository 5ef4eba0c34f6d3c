"""Objects of the streets of the SSZ chapter: download them, or check those that are there.

    python data_scripts/street.py                          # into the data folder (DENSEBOOK_DATA, else settings.ini)
    python data_scripts/street.py --out FOLDER building_a
    python data_scripts/street.py --deb FILE               # those of the Debian package, from its .deb file
    python data_scripts/street.py --check                  # verify the sha256 of what is there; downloads nothing

Every file is pinned to a commit or version; size and sha256 are verified after the download. Two more houses (building, house) are
in data_scripts/objects.py.

| name | file | licence | bytes | sha256 |
|---|---|---|---|---|
| person_boy | boyStanding.obj | CC-BY-3.0-US | 1519070 | 2834f2d15c89a8dcead7f01f49eff720324e211b1fa498951420fee73f76e5b5 |
| person_boy | boyStanding.mtl | CC-BY-3.0-US | 2347 | de0f87eaf64cf1cc895013a8230ce945dc6f4fd70364eae15caf321d9d0c244b |
| person_boy | Boy_Standing_0.jpg | CC-BY-3.0-US | 18210 | 46cd2f3d62cbb956610106c703ae7cc466fe4af423b007097b18bcea130eb8d6 |
| person_boy | Boy_Standing_1.jpg | CC-BY-3.0-US | 14019 | 709a8baa4fc2c64e23b995c0bf928bbf8ad2267a1159ba59f2cb587d5ed30a7b |
| person_boy | Boy_Standing_27.jpg | CC-BY-3.0-US | 18462 | 1c16e222d2a8a1470f358178a2e45366206f0cb1a3be6bb335ce50c7a96b3ab9 |
| person_boy | Boy_Standing_3.jpg | CC-BY-3.0-US | 13294 | 71b9a36024537cfa5da7991a83101f8cccc6cd0a0dece61d540e29820a68d243 |
| person_boy | Boy_Standing_33.jpg | CC-BY-3.0-US | 6201 | 1ecc19b1173637b20f3608a776067011b6357b71c8f6e67907bcf73ce2bc9e0d |
| person_boy | Boy_Standing_34.jpg | CC-BY-3.0-US | 6062 | 75d6a4e4e13e19e369eeecf35695171836b2411e1f0a13d40c530bc5e52e0074 |
| person_boy | Boy_Standing_35.jpg | CC-BY-3.0-US | 19669 | 54e765b9153c6ad4de3ee84007497e797899b6863ef50174651f9321b21a8ee4 |
| person_boy | Boy_Standing_4.jpg | CC-BY-3.0-US | 22943 | 33f744f526dc7e38ba6afdca3780ec5f1de50e7b2870d017cc2f2c0706c6572a |
| person_boy | Boy_Standing_Default_01.jpg | CC-BY-3.0-US | 41569 | 8a2ce31d7e7b3e624432aa29c0d27fe3d139a59efc1ab60407d5c5eacf6d1b04 |
| person_female01 | female01.obj | CC-BY-3.0-US | 1193504 | 7d925c49fc071aa0a657bf8bbbfe48e6fe6051dbe6c0f1314f8b01ed7183ce7c |
| person_female01 | female01.mtl | CC-BY-3.0-US | 497 | 7fed5956c1558da252e3f04f2462d5860db4f7b83bdf5b60b5ab81ac72d13d96 |
| person_female01 | female01_1.jpg | CC-BY-3.0-US | 42747 | 195d5eb73dec382a008a5e7ce821c046c519b8492c7392932ef79e80d82b7c26 |
| person_female01 | female01_11.jpg | CC-BY-3.0-US | 32539 | c20a0e24b537f752bd27b66c44ddf07a457b14a6bbaf4a98f28599c508812a90 |
| person_female01 | female01_5.jpg | CC-BY-3.0-US | 40459 | a2c1e1f31ea8d6a1e4b237fc62657559d6f298ff02ca1ea0dce21dc8c10e2953 |
| person_female02 | female02.obj | CC-BY-3.0-US | 1001526 | f280010f1646df7b754be4fd1111515465c42163a355afb4109f8477cc930025 |
| person_female02 | female02.mtl | CC-BY-3.0-US | 497 | 339987327da42172e5b279ec220b414383b57aa7c1f6763c85d92b490eed381e |
| person_female02 | female02_1.jpg | CC-BY-3.0-US | 96273 | ef57b974a38788c5fda7058970140a78667249817154a5ad42b1cbca7a7776e6 |
| person_female02 | female02_10.jpg | CC-BY-3.0-US | 24836 | 2170117384178588c9a5d92fb217764ca0f698268815d87ae9b1a29beae0462e |
| person_female02 | female02_2.jpg | CC-BY-3.0-US | 25240 | df41151f5069ece1e9674d7b7d042b6487f2261d26431be040ff994d6d1af6df |
| person_female03 | female03.obj | CC-BY-3.0-US | 1174905 | 7466c11fbba083adeb9d1d9861153b9c95bd8021035a705579e1c66cffd4d0be |
| person_female03 | female03.mtl | CC-BY-3.0-US | 497 | 3018042d8b66dc21c2d843515c37861ff82f6dffe49cf88e305ff59ed6f9cff2 |
| person_female03 | female03_1.jpg | CC-BY-3.0-US | 27790 | b8954fb244fbaf4f91a670f9824f8ac4669ee1583bc68d592e3f826f6895f27d |
| person_female03 | female03_13.jpg | CC-BY-3.0-US | 24836 | 2170117384178588c9a5d92fb217764ca0f698268815d87ae9b1a29beae0462e |
| person_female03 | female03_2.jpg | CC-BY-3.0-US | 36504 | b5d8ca7083bc3f56455c43be9daa851f3d951b4890baeca970a4da70ab1d27db |
| person_girl | girlStanding.obj | CC-BY-3.0-US | 1053120 | 57736dc2d35e56090f136230991775907c23c21f27316e258a315f88ea4edb4d |
| person_girl | girlStanding.mtl | CC-BY-3.0-US | 1988 | 2d99f2fc9a21e22532f5ffd05ba613a7d9062672e4fa824c438fcdb5fd82b0da |
| person_girl | Girl_Standing_107.jpg | CC-BY-3.0-US | 9963 | 9ec22b3c1736fce09d5d57286f953d38a5051579b7249f485e8c2c4a94594d9f |
| person_girl | Girl_Standing_108.jpg | CC-BY-3.0-US | 53166 | 06571fae085286ec5244febed4be6339284c147f4614b350435ea07963f3dddf |
| person_girl | Girl_Standing_109.jpg | CC-BY-3.0-US | 13227 | 396c6838066fa09551830131df282d2317f40c27a9ac10cdc0170675bdede219 |
| person_girl | Girl_Standing_110.jpg | CC-BY-3.0-US | 10387 | 4dd25f003d0ee6808a36fa3d8eb1c5e11904cd231f3b38487287d9e9fc33cd9b |
| person_girl | Girl_Standing_111.jpg | CC-BY-3.0-US | 20655 | f54895b99c5b23de90e3cc49d79ff44fecddd60f5d561fd67c0c58b04915e19a |
| person_girl | Girl_Standing_118.jpg | CC-BY-3.0-US | 31389 | 16b1df3d2ea7b2ab86b64fae0ec741f73cb001377314210c035db9c6604958e0 |
| person_girl | Girl_Standing_120.jpg | CC-BY-3.0-US | 18187 | c70d337f9b6203cc788eff4970cac680bc6300e06842b96be84a72c81d604110 |
| person_girl | Girl_Standing_122.jpg | CC-BY-3.0-US | 6348 | 6251b8357a2873a2609135d5b5947e4ddca2c5a047f4a11a89a9d2cdf9c28f41 |
| person_girl | Girl_Standing_123.jpg | CC-BY-3.0-US | 6779 | 8ff45c3a8a961c1cf61120baf80e3c350fb418aeff63b244915b833e2eb2b2a2 |
| person_male01 | male01.obj | CC-BY-3.0-US | 753112 | 90c6254054d5af94ce6547b284875eff1f19cd830107d375dd2ed86c3a86c5a2 |
| person_male01 | male01.mtl | CC-BY-3.0-US | 581 | a664c39add9fcaa54c06ca9a6f887bc96a9cd9859ad4cd8ec5ce25c0ef8b0d76 |
| person_male01 | male01_1.jpg | CC-BY-3.0-US | 211798 | 931f9e264f3d6b58641713ba343b89c6061177c506d82607f8a53a61f28c6cd6 |
| person_male01 | male01_10.jpg | CC-BY-3.0-US | 63143 | c2246189dc775e0d71956c8b968b3f92ce094ca60eb95957ce524275bdb00f33 |
| person_male01 | male01_2.jpg | CC-BY-3.0-US | 22542 | 7536a03711fda64b0721ae4bc01cd7f395b20735f2a4386db01d2d6f46badce1 |
| person_male01 | male01_27.jpg | CC-BY-3.0-US | 34497 | 95343fb963ca1197da300e2af570ac291e76d3aa6037121c04fc41a0247ed8f0 |
| person_male02 | male02.obj | CC-BY-3.0-US | 816568 | a56b38746a8fb62740da57d38ee4f6940c5a5fc588cbefac27c8cccd8dc508ba |
| person_male02 | male02.mtl | CC-BY-3.0-US | 489 | 880bf9936ae4c47ed961acf3d36b5a247631fd59c26e8e234471b8986b5774f4 |
| person_male02 | male02_1.jpg | CC-BY-3.0-US | 130731 | 672bbeb356bbe8a1e30790412573e6794fd2adf69ebc38bbdf090ab811141ab3 |
| person_male02 | male02_2.jpg | CC-BY-3.0-US | 21891 | 303095f93c5f72c65a744e4ab47fe967332a69ea4b4206b8cefcae13cf5a2291 |
| person_male02 | male02_6.jpg | CC-BY-3.0-US | 34307 | 3259a89133a08c2063a565b3eaaa442ba9b9521117ffdddc88d4ae7079b05803 |
| person_woman | mannequinBrunette.obj | CC-BY-3.0 | 1046756 | 772a811ba569e28896af44aadd443553c71c23e4a06d8451726bbd40aad3656f |
| person_woman | mannequinBrunette.mtl | CC-BY-3.0 | 4446 | 25b0951bba2d1c7e533565d3a6e36ae6455f6d733d2c1fc0ec72bff3add1cfbd |
| person_woman | BrownHair.jpg | CC-BY-3.0 | 28499 | facfb17457b5cf94ee6628a6a00e545cdef983320eb61a7f81ac622072044a0c |
| person_woman | eye-woman.jpg | CC-BY-3.0 | 4767 | 9139b8895c9343669a3180395a3d7d27b4c88f22b3b548ca125a366b254ecb2a |
| person_woman | eyelash.png | CC-BY-3.0 | 16977 | 13a7c8d327dc9dde113f2b942123a0dd07a10f68551c991b8d363605bca1a39e |
| person_woman | head_texture_brunette.jpg | CC-BY-3.0 | 14616 | 3b9e478e84a2502060362e0a240dadc9044d198a5092d910fc4888b0424d5274 |
| person_man | mannequinMale.obj | CC-BY-3.0 | 964272 | 09e03683a61c4ea326f2e97991ad70648e541d471d84dd8d6dc834d2d51ecf62 |
| person_man | mannequinMale.mtl | CC-BY-3.0 | 4430 | 1c46bc5a34518441c8324e982362ce31423dcd25f70210cf80c21a50a2c1d51a |
| person_man | eye-man.jpg | CC-BY-3.0 | 4940 | ec074d93e879100a59e8a58acca252cdc8c8a09938bc45833ec01830251d739f |
| person_man | hair-man.jpg | CC-BY-3.0 | 4400 | b9237591e24c2cb3e2c280a7c3aaf68c6d77cc97a6677c2059b2607800b5cb11 |
| person_man | head_texture_man.jpg | CC-BY-3.0 | 8855 | 29e51c6d9016bb64ecd17545056f0b4badc0da464e6ff9d181eb482e47aad581 |
| person_man | neck-man.jpg | CC-BY-3.0 | 1085 | abef4d46a80d2c6c771079437acfa14893abf5729b736ccb6fbeda1bdef16e2d |
| person_man | sneaker_texture.jpg | CC-BY-3.0 | 57412 | 2646c6409667d0c228ad43be5f8a3d5f2425132c3ba773cb6208d4571b2cbfe7 |
| car_chevrolet | chevrolet.obj | CC-BY-3.0 | 237108 | 6eb66139c583c7146d5ce7f44549f2f5903545ad635a2bb3d92bad9188f32d22 |
| car_chevrolet | chevrolet.mtl | CC-BY-3.0 | 1915 | 9563c7eb6d90610053951eac1538ba6fd100c2522c143b2e6686d30a28043b74 |
| car_chevrolet | chevrolet-texture-map.png | CC-BY-3.0 | 78914 | 6fe44b561e71513feb07710a3c8df360182272d2bdf35060ea641838a4565d7f |
| car_ford_focus | fordFocus.obj | CC-BY-3.0 | 2210711 | c4f4134e02ae69c86ae9385382fc940a452cf887484131d00213c2f10576b237 |
| car_ford_focus | fordFocus.mtl | CC-BY-3.0 | 1712 | d2964a426076db2b81e9cf1f7d21c240b9a4f09dd7172c6063ee500bdb34b29d |
| car_peugeot_308 | peugeot-308.obj | CC-BY-3.0 | 141943 | f6e3cdb2618c2c9e60ea595d168392598c10c4d3b351b860aefda9ea1b3a6c6a |
| car_peugeot_308 | peugeot-308.mtl | CC-BY-3.0 | 2719 | c095ad0c1879e5375a7338ac939268e3185960bfccb53eb8483ad5d1e95ace18 |
| car_peugeot_308 | peugeot-308-texture.jpg | CC-BY-3.0 | 42474 | fa645d8d5fe36fc49c58aeb9339d3dc2970473b505d41784a73cf3333297e6ef |
| car_renault_scenic | renault-scenic.obj | CC-BY-3.0 | 241363 | 3a42a55e2eb5de065e618974e1259556b2808b9ddcc3bdaf46182267c46e7d8c |
| car_renault_scenic | renault-scenic.mtl | CC-BY-3.0 | 2121 | f552d36cec245bc122937386e5687e96484fddc8991bc6458acbcc934997369b |
| car_renault_scenic | renault-scenic.jpg | CC-BY-3.0 | 49759 | 04c6f927d5fc7b6542f8cde8035c250c31c10b5c81eabd18fb108dd420888201 |
| car_seat_leon | seat_leon.obj | CC-BY-3.0 | 1064834 | 6935acd9be3834413effb95931c333021af7187ed9505ef3473c1fbfba3cdb4d |
| car_seat_leon | seat_leon.mtl | CC-BY-3.0 | 1993 | 3f91baec45bb23eaccf4bbef9394804a15d6c7e3dd24f38ec97f0521fd9e4be8 |
| car_seat_leon | faro1_leon.jpg | CC-BY-3.0 | 19506 | 6c22c8578a146a9a1d7c6028d8ecd252d992ee865ba0f00baa55f6cf152dc563 |
| car_seat_leon | llanta_y_logo.jpg | CC-BY-3.0 | 16746 | 0aad0ffe72b09d19670d018067399ad1dbea2161ee7b72fcd3d900d21800e097 |
| car_seat_leon | matricula_sencilla.jpg | CC-BY-3.0 | 1671 | 8f6f92d63bc7610d3724a7e5f4f3e5f4ed43f9c2d40fda62e42d570b45005eb1 |
| car_smart_car | smart-car.obj | CC-BY-3.0 | 229570 | 0e2eaaf79cd272deb167466bf742ec88b7ad2249135e215bd1d01e226dac7bd3 |
| car_smart_car | smart-car.mtl | CC-BY-3.0 | 2466 | 7cf123583dce7f97da7f1730c0c32854a0546298cb6020b5d81d570d83434db1 |
| car_smart_car | smart-uvmap-texture.png | CC-BY-3.0 | 81632 | 71edcde3e6d4772d10090c3315951b8f98b5a4bb1d9d71c4bb9f594899590bbf |
| car_suv | suv.obj | CC-BY-3.0 | 206226 | c4eb8c53887da596be1b4d17c65f5482e28839b848ec237932efe189a8dcafed |
| car_suv | suv.mtl | CC-BY-3.0 | 2065 | d6026586b15558b269978adb55c9dc52868bced10a0dc1fc6a11b348b4224015 |
| car_suv | suv-map.png | CC-BY-3.0 | 66371 | 47f632fa5e344debbe8e8dff47b6c889d01cbeff8a794eaff9326503284abbae |
| truck_peterbilt | peterbilt.obj | CC0-1.0 | 2754067 | 12f165cd8fd707a2632557739616dc917cd10acf9b6c3ced81afe0db33c869cc |
| truck_peterbilt | peterbilt.mtl | CC0-1.0 | 1825 | ee5ab89b0e422c5ab6831bcdcd17454777006d8ffde8ca49077d28e1adaf90f4 |
| truck_box | truck.obj | CC-BY-3.0 | 496332 | c5d3a08dab294a50e883c6ee88fe48471451c7ebb75dfb3adb91751004a8bfba |
| truck_box | truck.mtl | CC-BY-3.0 | 2148 | 3443d84cafac527a5a543990183d2b92681bcfcb14de761ab21f0e83fcc05111 |
| truck_box | truck-texture.jpg | CC-BY-3.0 | 37162 | a029290c7ad8b4833b0c362a20a8e5565fe0c9989c4158ddfdc9344dd4417534 |
| van_delivery | van.obj | CC-BY-3.0 | 222471 | 449ebdea08f6e6246bbf4f9e946f96f7fca805f2f7a4c855ed0e52899bce180e |
| van_delivery | van.mtl | CC-BY-3.0 | 1893 | 40967698bfa142d31a9f27372fb2a987fd685e10cd205453166a1c84e5c632a6 |
| van_delivery | texture-van.png | CC-BY-3.0 | 79300 | 104cb28e3b3676dd03ccc30a1f95ab75d3897d33e11ce73624caad899126f22f |
| bus_coach | bus.obj | CC-BY-3.0 | 246749 | ab4e15339210685b811cd6e8cd0c3efa51a2c26254ef64a082bc34c08bc2ccfd |
| bus_coach | bus.mtl | CC-BY-3.0 | 1729 | 469ff7d57071d0b61398fe6af8f624d7885c600cd32c014ada16cfb9c6bc87f8 |
| bus_coach | bus-texture.png | CC-BY-3.0 | 58018 | 9c7b46b63179e53802b85d8cb38333da1ef426b7ca4f77da4d9fbc60a388b795 |
| bus_city | cityBus.obj | CC-BY-3.0 | 480463 | 134ee1db71b393503daf417e77d37bc7311bf75a833231669dc1076f5c2e6727 |
| bus_city | cityBus.mtl | CC-BY-3.0 | 2373 | a37b524ca9792663c82ac84a3633876b9ef5f91583ed97ae4887c2604c01fffe |
| bus_city | texturesComplementsBus.jpg | CC-BY-3.0 | 50711 | 97ebb88ad12c170b0eab2724dfa55fbec91424a246b5a3b1d4ce3bed2ef2315a |
| building_a | building_A_withoutBase.gltf | CC0-1.0 | 3083 | 37389d47e4ddec9175c40d41a48e2c1d16a1c44146833ec73fef2710e0b6876e |
| building_a | building_A_withoutBase.bin | CC0-1.0 | 28820 | a0446a10d14c50267c3fa6be98104e8467171b57f288448a5d740e91666d5056 |
| building_a | citybits_texture.png | CC0-1.0 | 19885 | 6d2d9a5a13bce32209cd8c04572ab170504d68f34b1519165c9b0c41871e235b |
| building_b | building_B_withoutBase.gltf | CC0-1.0 | 3089 | 69b1e3d91479c8fe3134e385fef567603cecd2423a032f2a11b9f2deb7046458 |
| building_b | building_B_withoutBase.bin | CC0-1.0 | 38844 | 1fca25dd4b645058d55b069bbddc41fda2eea543a762237ed054f15bccbee34a |
| building_b | citybits_texture.png | CC0-1.0 | 19885 | 6d2d9a5a13bce32209cd8c04572ab170504d68f34b1519165c9b0c41871e235b |
| building_d | building_D_withoutBase.gltf | CC0-1.0 | 3090 | 40c07bd5026825a8cf95bf202b702fdb4858ae8a4f2236aa41a9db7a4fdd19ca |
| building_d | building_D_withoutBase.bin | CC0-1.0 | 55680 | 6342dbff9ee312838372b094bb65ae1d36c2382e95c1c49470e579e5eeac77d2 |
| building_d | citybits_texture.png | CC0-1.0 | 19885 | 6d2d9a5a13bce32209cd8c04572ab170504d68f34b1519165c9b0c41871e235b |
| building_e | building_E_withoutBase.gltf | CC0-1.0 | 3090 | 0b2ab5f634eaf0d45ccf5fe585b4a9269f1b8e5b9ab34a412bafca046087e609 |
| building_e | building_E_withoutBase.bin | CC0-1.0 | 62084 | 6403701c0185eeb53b60f76b359e99c47634c3240cd3e51f92aeeb472e7d341c |
| building_e | citybits_texture.png | CC0-1.0 | 19885 | 6d2d9a5a13bce32209cd8c04572ab170504d68f34b1519165c9b0c41871e235b |
| building_f | building_F_withoutBase.gltf | CC0-1.0 | 3090 | 7fe97913eb97fe868b440ac4f13ca60f4d36262624526bbcafcef94566016343 |
| building_f | building_F_withoutBase.bin | CC0-1.0 | 71192 | 1bed0be4aae8523a76c669c2a85794e16a64709b14ac03d10da03be721027c7f |
| building_f | citybits_texture.png | CC0-1.0 | 19885 | 6d2d9a5a13bce32209cd8c04572ab170504d68f34b1519165c9b0c41871e235b |
| building_g | building_G_withoutBase.gltf | CC0-1.0 | 3090 | 2a2dc998168a01bd34390d6fbb2a273e191c8b6e3258f4f3df09a37465ebf0e1 |
| building_g | building_G_withoutBase.bin | CC0-1.0 | 68880 | 34112472a38f23489211829312a8e9e994ca772ee814c5295e39c62b2d4ca376 |
| building_g | citybits_texture.png | CC0-1.0 | 19885 | 6d2d9a5a13bce32209cd8c04572ab170504d68f34b1519165c9b0c41871e235b |
| building_h | building_H_withoutBase.gltf | CC0-1.0 | 3089 | 51d6e3ecb8d12703163c806193787bff9c034931733ca7cd497568c1d62f1793 |
| building_h | building_H_withoutBase.bin | CC0-1.0 | 86880 | 310a8c61e9d0f29a0547a57c3aa1f3890c67cab554c5bd9cd5e0768f3c8499b7 |
| building_h | citybits_texture.png | CC0-1.0 | 19885 | 6d2d9a5a13bce32209cd8c04572ab170504d68f34b1519165c9b0c41871e235b |
| building_type_a | building-type-a.glb | CC0-1.0 | 98604 | 49f32e20b9dcd24b1c8f6d6488807b8c8cb684cbb595bfb0bb36ad903e470faa |
| building_type_a | colormap.png | CC0-1.0 | 11784 | 9b5de86078c25ef02351a80d35ff3c978693a1044565b73eedd9ae9b5b80665d |
| building_type_d | building-type-d.glb | CC0-1.0 | 147368 | a41cd28265b2b224e700373c3a8356562619699998b7fa4d70ed41de629a6731 |
| building_type_d | colormap.png | CC0-1.0 | 11784 | 9b5de86078c25ef02351a80d35ff3c978693a1044565b73eedd9ae9b5b80665d |
| building_type_e | building-type-e.glb | CC0-1.0 | 145512 | 9ec43994c8c332b1ae5b058d8b9646255831fd91047c1a35b1fc1ecae4c082fc |
| building_type_e | colormap.png | CC0-1.0 | 11784 | 9b5de86078c25ef02351a80d35ff3c978693a1044565b73eedd9ae9b5b80665d |
| building_type_j | building-type-j.glb | CC0-1.0 | 99512 | fbdce9cb6bb6cf60a861bab36a896403aff604afbf2cb2b86676ae6f49fa2de3 |
| building_type_j | colormap.png | CC0-1.0 | 11784 | 9b5de86078c25ef02351a80d35ff3c978693a1044565b73eedd9ae9b5b80665d |
| building_type_l | building-type-l.glb | CC0-1.0 | 109232 | 5f03bf2e65a3a795afc18f7e56a5da891908d59d937e660be8478b66905d2cee |
| building_type_l | colormap.png | CC0-1.0 | 11784 | 9b5de86078c25ef02351a80d35ff3c978693a1044565b73eedd9ae9b5b80665d |
| building_type_p | building-type-p.glb | CC0-1.0 | 109260 | 561b2eff15bd2bfe2799a8a049cafc70a1c7bfb6e35f3b2a4d95c8f4f376458c |
| building_type_p | colormap.png | CC0-1.0 | 11784 | 9b5de86078c25ef02351a80d35ff3c978693a1044565b73eedd9ae9b5b80665d |
| building_type_s | building-type-s.glb | CC0-1.0 | 103172 | 56dfd278f10bea2546cb0946f48659dde5876bc9ce100ea1fbe37c0cc94bf9e6 |
| building_type_s | colormap.png | CC0-1.0 | 11784 | 9b5de86078c25ef02351a80d35ff3c978693a1044565b73eedd9ae9b5b80665d |
| tree_acacia | acacia.obj | CC-BY-3.0 | 4967655 | 60ec636e04ab77ab35ed49146c22eba621efa60e50c130e5d30137388c1aec25 |
| tree_acacia | acacia.mtl | CC-BY-3.0 | 486 | f236988066fc3529dbb16d25f093b18ca9305f0ef74220059e5fc7242ec4fe3e |
| tree_acacia | leaves-for-twigs-combined.jpg | CC-BY-3.0 | 110148 | 47b271c8f30c76e9c0029e5bf4e7c01404e38010b7398b7d1045c414a388d89c |
| tree_cypress | cypress.obj | CC-BY-3.0 | 1065461 | 4354e51db95dcaebe613a58991d6fc90f531c0117a0afabe0d979651bb09e3f3 |
| tree_cypress | cypress.mtl | CC-BY-3.0 | 436 | e0ef0668a54a05c1bf76b317d2753101e7d98b27baa890b47e610e08764d3535 |
| tree_cypress | cypressLeaves.jpg | CC-BY-3.0 | 140586 | 91cfde0507c52d40d104874d7d881cb6f117c96ccd0dd90961a12ebd45adb014 |
| tree_cypress | cypressTrunk.jpg | CC-BY-3.0 | 76763 | df3d4dafd0615e3bfc9b98d6063557f79a34f86f80a20a5aecb1e0dc117efb4d |
| tree_palm | palm.obj | CC-BY-3.0 | 2288451 | ba5c32f39f8d91dfee7bade82798172247bedfa1faaf5f63161b9d7e4f97bb95 |
| tree_palm | palm.mtl | CC-BY-3.0 | 625 | 64acc3b0d9c4a4b21b3a2c385107e7f2b62fce1637596b345ebf02bf82bb800a |
| tree_palm | palmTexture.jpg | CC-BY-3.0 | 82693 | 7ef16dabc55fc6cd8a19acea6e0dc48846611cdb73a8a1f4d83ad825ff297b66 |
| tree_sycamore_maple | sycamoreMaple.obj | CC-BY-3.0 | 7575985 | 4477f5510da540a082a0b81d6518f041649737005ea509e1ba9b5590800acbb2 |
| tree_sycamore_maple | sycamoreMaple.mtl | CC-BY-3.0 | 476 | b551fa399bd61b2e5a179298cdcda3e3c6a0c6712e1979bac515f030acd21050 |
| tree_sycamore_maple | sycamoreMapleTexture.jpg | CC-BY-3.0 | 85672 | eb1920e2d4145bb0d4402493844442e1e19b4762a56a794806f863ee9452abef |
| bicycle_town | bicycle.obj | CC-BY-3.0 | 216150 | 7ec78fb33753b4045e217be227e18d7892e651441394a35150104a2f5adcebe6 |
| bicycle_town | bicycle.mtl | CC-BY-3.0 | 1526 | 13869456ae4110f595b907f2c35065f0b5db9ed64d2b7b4a59b96c4e79955ebe |
| bicycle_town | bicycle-texture.png | CC-BY-3.0 | 82709 | ce475936488cd1e4ea51c8c6eb788fbe53f61a0d2ed2190111b01ba3e678b289 |
| bicycle_bike | bike.obj | CC-BY-3.0 | 442175 | e94c54108268fc9292a3ba90953f3cd2480da0dc1e93846e194e0bcde1e93435 |
| bicycle_bike | bike.mtl | CC-BY-3.0 | 596 | 260d6a0a50e129c41194dc1f321a71932fa60b0a3f8c2cb1d928813b263edf1a |

Sources: on GitHub, KayKit-Game-Assets/KayKit-City-Builder-Bits-1.0 at 63976910ca04d16f0fc531b9c614244be8128713 and atomical/afps at
a948c6c3959f38620ea9a4e72cfbd548c68773d1 (Kenney's City Kit Suburban). The others are in the Debian package sweethome3d-furniture
1.8-1 (debian/sweethome3d-furniture, 120 MB): a person fetches it, for instance with `apt-get download sweethome3d-furniture`, and
gives it with --deb. Of it only the files listed are unpacked.

Credits: person_woman, person_man, car_chevrolet, car_peugeot_308, car_renault_scenic, car_seat_leon, car_smart_car, car_suv,
truck_box, van_delivery, bus_coach, bus_city, tree_acacia, tree_cypress, tree_palm, tree_sycamore_maple, bicycle_town by Scopia
Visual Interfaces Systems, s.l. (scopia.es), CC-BY 3.0; person_boy, person_female01, person_female02, person_female03, person_girl,
person_male01, person_male02 by Reallusion (reallusion.com), CC-BY 3.0 US; car_ford_focus by Ruff (BlendSwap), CC-BY 3.0; bicycle_bike
by Rodrigoalves123 (BlendSwap), CC-BY 3.0. No credit is required but kind: Kay Lousberg (KayKit), Kenney, Thomaswornall (BlendSwap).
"""

import sys

from densebook.data import script

NAMES = (
    "person_boy", "person_female01", "person_female02", "person_female03", "person_girl", "person_male01", "person_male02",
    "person_woman", "person_man", "car_chevrolet", "car_ford_focus", "car_peugeot_308", "car_renault_scenic", "car_seat_leon",
    "car_smart_car", "car_suv", "truck_peterbilt", "truck_box", "van_delivery", "bus_coach", "bus_city", "building_a", "building_b",
    "building_d", "building_e", "building_f", "building_g", "building_h", "building_type_a", "building_type_d", "building_type_e",
    "building_type_j", "building_type_l", "building_type_p", "building_type_s", "tree_acacia", "tree_cypress", "tree_palm",
    "tree_sycamore_maple", "bicycle_town", "bicycle_bike",
)

if __name__ == "__main__":
    sys.exit(script.main("street", "objects of streets", NAMES))
