"""Heads: exact signs and zeros, closed meshes, pictures that are albedo times shading, disjoint splits, files, scans."""

import math
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from densebook.core.errors import InputError
from densebook.core.seeds import generator
from densebook.data import heads as H
from densebook.geometry.mesh import Mesh, is_watertight, save, volume
from densebook.geometry.sphere_tracing import to_srgb

REAL = pytest.mark.skipif(not os.environ.get("DENSEBOOK_DATA"), reason="DENSEBOOK_DATA is not set")


@pytest.fixture(scope="module")
def toys():
    draw = generator(3)
    return [H.toy_head(draw) for _ in range(6)]


@pytest.fixture(scope="module")
def small():
    return H.make_heads(3, 32, generator(1), samples=(128, 128))


# --- toy heads ---


def test_toy_meshes_are_closed_in_frame_and_on_the_zero(toys):
    for head in toys:
        mesh = head.mesh(48)
        assert is_watertight(mesh) and float(volume(mesh)) > 0.1
        low, high = mesh.vertices.amin(0), mesh.vertices.amax(0)
        assert float(mesh.vertices.abs().max()) <= 0.9 and 0.85 < float(high[1] - low[1]) < 1.6
        assert float(head.sdf(mesh.vertices).abs().quantile(0.99)) < 2e-3
        assert ((mesh.colors >= 0) & (mesh.colors <= 1)).all()


def test_every_style_of_hair_has_a_closed_mesh_within_the_box(toys):
    for hair in H.HAIRS:
        head = H.ToyHead(toys[0].shape | {"hair": 0.05, "size": 1.04, "tall": 1.06, "wide": 1.18, "deep": 1.2}, toys[0].paint, hair)
        mesh = head.mesh(48)
        assert is_watertight(mesh) and float(mesh.vertices.abs().max()) < 0.9


def test_the_field_bounds_the_distance_from_below_where_it_matters(toys):
    """Outside, |sdf| is at most the distance to the surface, within some per cent; near it, half of it at least."""
    from densebook.geometry.sdf import MeshSDF

    for head in toys[:3]:
        mesh = head.mesh(80)
        points = H._around(mesh, 800, generator(0))
        field, exact = head.sdf(points), MeshSDF(mesh, sign="winding")(points)
        clear = exact.abs() > 0.01  # nearer than this the mesh's facets decide
        assert ((field < 0) == (exact < 0))[clear].all()
        outside = clear & (exact > 0)
        assert float((field / exact)[outside].quantile(0.95)) < 1.1
        near = outside & (exact < 0.1)
        assert float((field / exact)[near].quantile(0.05)) > 0.4


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10_000))
def test_both_float_types_agree_and_the_slope_is_autograds(seed):
    head = H.toy_head(generator(seed))
    points = (2 * torch.rand(64, 3, generator=generator(seed + 1), dtype=torch.float64) - 1) * 0.8
    one, two = head.sdf(points), head.sdf(points.float())
    assert one.dtype == torch.float64 and two.dtype == torch.float32
    assert torch.allclose(one.float(), two, atol=1e-4)
    assert head.sdf(points.view(8, 8, 3)).shape == (8, 8) and head.albedo(points.view(8, 8, 3)).shape == (8, 8, 3)
    x = points.clone().requires_grad_()
    (slope,) = torch.autograd.grad(head.sdf(x).sum(), x)
    assert slope.isfinite().all()
    step = 1e-6 * torch.nn.functional.normalize(torch.randn(64, 3, generator=generator(seed + 2), dtype=torch.float64), dim=-1)
    difference = (head.sdf(points + step) - head.sdf(points - step)) / 2e-6
    agrees = (difference - (slope * step * 1e6).sum(-1)).abs() < 1e-3
    assert agrees.double().mean() > 0.9  # the rest lies on seams, where the field has no slope


def test_heads_are_mirror_images_of_themselves_but_for_the_hairs_waves(toys):
    points = 2 * torch.rand(500, 3, generator=generator(5)) - 1
    mirrored = points * torch.tensor([-1.0, 1, 1])
    bald = H.ToyHead(toys[0].shape, toys[0].paint, "bald")
    assert torch.allclose(bald.sdf(points), bald.sdf(mirrored), atol=1e-5)


def test_depth_goes_with_width():
    """Otherwise no picture from the front could tell how deep a head is."""
    draw = generator(0)
    heads = [H.toy_head(draw).shape for _ in range(200)]
    table = torch.tensor([[h["wide"], h["deep"], h["tall"]] for h in heads])
    assert float(torch.corrcoef(table.T)[0, 1]) > 0.9
    assert float(table[:, 0].std() / table[:, 0].mean()) > 0.07


def test_expression_and_identity_are_apart():
    calm, moved = (H.toy_head(generator(4), expression=e) for e in (False, True))
    assert calm.paint == moved.paint and calm.hair == moved.hair
    assert {k for k in calm.shape if calm.shape[k] != moved.shape[k]} <= {"open", "smile", "awake", "gaze"}
    assert calm.shape["awake"] == 1 and calm.shape["smile"] == 0


def test_an_open_mouth_is_a_hole():
    shut = H.toy_head(generator(0), expression=False)
    wide = H.ToyHead(shut.shape | {"open": 0.06}, shut.paint, shut.hair)
    scale = torch.tensor([shut.shape["size"] * shut.shape[n] for n in ("wide", "tall", "deep")])
    inside = torch.tensor([0.0, -0.155 * shut.shape["long"] - 0.03, 0.29]) * scale
    assert float(shut.sdf(inside)) < 0 < float(wide.sdf(inside))


# --- the split ---


@pytest.mark.parametrize("factor", H.FACTORS)
def test_a_held_out_factor_takes_other_values(factor):
    train, test, single = (H._Dice(generator(0), split) for split in ("train", "test", factor))
    cells = {name: [u(0, 1, factor) * H._CELLS % 1 for _ in range(300)] for name, u in (("train", train), ("test", test), ("own", single))}
    assert max(cells["train"]) <= 0.75 + 1e-9 and min(cells["test"]) >= 0.75 - 1e-9 and min(cells["own"]) >= 0.75 - 1e-9
    other = H.FACTORS[(H.FACTORS.index(factor) + 1) % 4]
    assert min(single(0, 1, other) * H._CELLS % 1 for _ in range(300)) < 0.75, "only its own factor is held out"
    values = [train(2.0, 5.0, factor) for _ in range(300)]
    assert min(values) < 2.3 and max(values) > 4.6, "both splits span the whole range"


def test_choices_are_held_out_too():
    train, test = H._Dice(generator(0), "train"), H._Dice(generator(0), "test")
    names = list("abcdefgh")
    assert {train.choice(names, "skin", 3) for _ in range(200)} == set("abcde")
    assert {test.choice(names, "skin", 3) for _ in range(200)} == set("fgh")
    assert {train.choice(names) for _ in range(300)} == set(names)


def test_toy_identities_of_the_splits_never_meet():
    def widths(split):
        draw = generator(0)
        return torch.tensor([H.toy_head(draw, split).shape["wide"] for _ in range(100)])

    gap = (widths("train")[:, None] - widths("test")[None]).abs().min()
    assert float(gap) > 0
    cell = (widths("test") - 0.84) / 0.34 * H._CELLS % 1
    assert float(cell.min()) > 0.74


# --- pictures and samples ---


def test_a_picture_is_albedo_times_shading(small):
    assert small.images.shape == (3, 3, 32, 32) and small.points.shape == (3, 128, 3) and small.identity.tolist() == [0, 1, 2]
    assert all(t.dtype == torch.float32 for t in small[:-1])
    on = small.masks[:, None].expand_as(small.images) > 0
    product = to_srgb(small.albedo_images * small.shading_images)
    assert torch.allclose(small.images[on], product[on], atol=1e-6)
    assert (small.albedo_images[~on] == 0).all() and (small.shading_images[~on] == 0).all()
    for image, mask in zip(small.images, small.masks):
        background = image[:, mask == 0]
        assert (background == background[:, :1]).all(), "one colour"
    assert (0.1 < small.masks.mean((1, 2))).all() and (small.masks.mean((1, 2)) < 0.75).all()


def test_samples_are_on_the_surface_and_have_its_sign():
    draw, again = generator(7), generator(7)
    made = H.make_heads(1, 16, draw, samples=(256, 512))
    head = H.toy_head(again)
    assert float(head.sdf(made.surface[0]).abs().quantile(0.98)) < 1e-4
    assert torch.allclose(made.normals[0].norm(dim=-1), torch.ones(256), atol=1e-5)
    ahead, behind = head.sdf(made.surface[0] + 0.004 * made.normals[0]), head.sdf(made.surface[0] - 0.004 * made.normals[0])
    assert ((ahead > 0).float().mean() > 0.97) and ((behind < 0).float().mean() > 0.97), "normals point outward"
    assert ((head.sdf(made.points[0]) < 0) == (made.distances[0] < 0)).all()
    assert (0.1 < (made.distances[0] < 0).float().mean()) and ((made.distances[0] < 0).float().mean() < 0.6)
    assert torch.allclose(made.albedo[0], head.albedo(made.surface[0]))
    box = made.points[0, 384:]
    assert float(box.abs().max()) <= 1 and float(box.abs().mean()) == pytest.approx(0.5, abs=0.06), "a quarter lies anywhere"


def test_surface_points_seen_by_the_camera_fall_on_the_mask(small):
    for k in range(3):
        local = small.surface[k] @ small.cam_from_world[k, :3, :3].T + small.cam_from_world[k, :3, 3]
        uv = (local / local[:, 2:]) @ small.K[k].T
        assert (local[:, 2] > 1).all() and (uv[:, :2] > 0).all() and (uv[:, :2] < 32).all()
        column, row = uv[:, :2].long().unbind(1)
        grown = torch.nn.functional.max_pool2d(small.masks[k][None], 3, 1, 1)[0]
        assert grown[row, column].min() == 1


def test_the_generator_decides_everything(small):
    again = H.make_heads(3, 32, generator(1), samples=(128, 128))
    assert all(torch.equal(a, b) for a, b in zip(small, again))
    other = H.make_heads(1, 32, generator(2), samples=(128, 128))
    assert not torch.equal(other.images[0], small.images[0])


def test_given_lights_and_yaw_are_used():
    from densebook.render.shading import Ambient

    made = H.make_heads(2, 24, generator(0), samples=(8, 8), lights=[Ambient(0.5), [Ambient(0.2), Ambient(0.1)]], yaw=0.0)
    for shading, mask, level in zip(made.shading_images, made.masks, (0.5, 0.3)):
        assert torch.allclose(shading[:, mask > 0], torch.tensor(level))
    assert made.cam_from_world[:, 0, 2].abs().max() < 1e-6, "yaw 0: the camera's x axis is the world's"


def test_a_set_can_be_cut_and_moved(small):
    some = small.take([2, 0]).to(torch.float64)
    assert some.images.dtype == torch.float64 and some.identity.dtype == torch.int64 and some.identity.tolist() == [2, 0]
    assert torch.equal(some.points[0].float(), small.points[2])


def test_meshes_may_be_given():
    from densebook.data import toy

    ball = toy.icosphere(3, 0.5)
    made = H.make_heads(2, 24, generator(0), [ball, Mesh(ball.vertices, ball.faces, colors=ball.vertices * 0 + 0.25)], samples=(200, 400))
    assert torch.allclose(made.surface.norm(dim=-1), torch.tensor(0.5), atol=3e-3)
    assert torch.allclose(made.distances, made.points.norm(dim=-1) - 0.5, atol=4e-3)
    assert torch.allclose(made.normals, torch.nn.functional.normalize(made.surface, dim=-1), atol=2e-2)
    assert (made.albedo[0] == 1).all() and torch.allclose(made.point_albedo[1], torch.tensor(0.25))


def test_barycentrics_lead_back_to_the_point():
    corners = torch.randn(20, 3, 3, generator=generator(0))
    mesh = Mesh(corners.reshape(-1, 3), torch.arange(60).view(20, 3))
    weights = torch.rand(20, 3, generator=generator(1))
    weights = weights / weights.sum(1, keepdim=True)
    points = (corners * weights[..., None]).sum(1)
    assert torch.allclose(H._weights(mesh, points, torch.arange(20)), weights, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"count": 0}, "count is 0"),
        ({"count": 1, "size": 0}, "size is 0"),
        ({"count": 1, "samples": (0, 4)}, r"samples\[0\]"),
        ({"count": 1, "kind": "toys"}, "did you mean 'toy'"),
        ({"count": 1, "kind": []}, "kind holds no mesh"),
        ({"count": 1, "split": "testing"}, "split 'testing' is not known"),
    ],
)
def test_wrong_arguments_are_named(arguments, match):
    with pytest.raises(InputError, match=match) as caught:
        H.make_heads(**arguments)
    assert "\n" not in str(caught.value)


def test_wrong_points_and_resolutions_are_named(toys):
    for bad in (torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64), [0, 0, 0]):
        with pytest.raises(InputError, match="points is"):
            toys[0].sdf(bad)
    with pytest.raises(InputError, match="resolution is 8"):
        toys[0].mesh(8)


# --- files ---


def test_what_is_written_is_read(tmp_path, small):
    files = H.write_heads(tmp_path, small, 4)
    assert len(files) == 15 and all(p.is_file() for p in files) and files[0].name == "000004.png"
    back = H.read_heads(tmp_path)
    assert torch.equal(back.points, small.points) and torch.equal(back.distances, small.distances) and torch.equal(back.masks, small.masks)
    assert torch.equal(back.identity, small.identity) and torch.equal(back.K, small.K)
    assert float((back.images - small.images).abs().max()) <= 0.5 / 255 + 1e-6
    assert float((to_srgb(back.albedo_images) - to_srgb(small.albedo_images)).abs().max()) <= 0.5 / 255 + 1e-5
    assert torch.allclose(back.shading_images, small.shading_images, rtol=1e-3, atol=1e-4)
    assert torch.equal(H.read_heads(tmp_path, [6]).surface[0], small.surface[2])


def test_damaged_files_are_named(tmp_path, small):
    with pytest.raises(InputError, match="holds no samples"):
        H.read_heads(tmp_path)
    H.write_heads(tmp_path, small.take([0]))
    sample, picture = tmp_path / "samples/000000.npz", tmp_path / "images/000000.png"
    good = sample.read_bytes()
    for damage in (b"", b"no archive", good[: len(good) // 2]):
        sample.write_bytes(damage)
        with pytest.raises(InputError, match="000000.npz: cannot be read"):
            H.read_heads(tmp_path)
    sample.write_bytes(good)
    picture.write_bytes(picture.read_bytes()[:50])
    with pytest.raises(InputError, match="000000.png: cannot be read"):
        H.read_heads(tmp_path)
    H.write_heads(tmp_path, H.make_heads(1, 16, generator(0), samples=(128, 128)), 1)
    H.write_heads(tmp_path, small.take([0]))
    with pytest.raises(InputError, match="of head 1 has shape"):
        H.read_heads(tmp_path)


def test_scans_are_found_and_brought_into_the_frame(tmp_path):
    from PIL import Image

    from densebook.data import toy

    mesh = toy.textured_cube()
    for subject in ("anna", "bert"):
        (tmp_path / subject / "03_smile").mkdir(parents=True)
        bare = Mesh(mesh.vertices * 37 + 5, mesh.faces, uv=mesh.uv)
        save(bare, tmp_path / subject / "neutral.obj")
        Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / subject / "neutral.png")
        save(bare, tmp_path / subject / "03_smile" / "scan.obj")
    scans = H.read_scans(tmp_path)
    assert [(s.subject, s.expression) for s in scans] == [
        ("anna", "03_smile"),
        ("anna", "neutral"),
        ("bert", "03_smile"),
        ("bert", "neutral"),
    ]
    assert scans[1].texture.name == "neutral.png" and scans[0].texture is None
    found = scans[1].mesh()
    assert float(found.vertices[:, 1].max()) == pytest.approx(H.HEIGHT / 2, abs=1e-5) and float(found.vertices.mean(0).abs().max()) < 1e-5
    made = H.make_heads(1, 16, generator(0), [found], samples=(20, 20))
    assert torch.allclose(made.albedo, torch.tensor([1.0, 0.0, 0.0]), atol=1e-6)
    with pytest.raises(InputError, match="holds no SUBJECT"):
        H.read_scans(tmp_path / "anna" / "03_smile")


# --- real heads ---


@REAL
def test_real_heads_are_closed_framed_and_vary():
    draw = generator(0)
    heads = [H.real_head(draw) for _ in range(6)]
    for mesh in heads:
        assert is_watertight(mesh) and float(volume(mesh)) > 0.1
        assert float(mesh.vertices.abs().max()) < 0.9 and mesh.vertices.isfinite().all()
        height = float(mesh.vertices[:, 1].max() - mesh.vertices[:, 1].min())
        assert 0.95 < height < 1.35
        assert abs(float(mesh.vertices[:, 0].mean())) < 0.03
    widths = torch.tensor([float(m.vertices[:, 0].max()) for m in heads])
    assert float(widths.std()) > 0.01
    assert len({len(m.faces) for m in heads}) == 1, "one topology"


@REAL
def test_real_samples_are_outside_and_signed():
    from densebook.data.makehuman import PARTS
    from densebook.geometry import bvh

    draw = generator(2)
    mesh = H.real_head(draw)
    outer = H._outer(mesh)
    assert len(outer.faces) < len(mesh.faces) and PARTS.index("inside") not in outer.objects.unique()
    made = H.make_heads(1, 32, generator(0), [mesh], samples=(300, 300))
    lifted = made.surface[0] + 2e-3 * made.normals[0]
    inside = bvh.is_inside(bvh.build(mesh.triangles), lifted)
    assert float(inside.float().mean()) < 0.03, "samples lie on the outside"
    deep = torch.tensor([[0.0, 0.15, 0.0], [0.95, 0.95, 0.95]])
    assert bvh.is_inside(bvh.build(mesh.triangles), deep).tolist() == [True, False]


@REAL
def test_expression_moves_the_face_and_nothing_else():
    calm, moved = (H.real_head(generator(5), expression=e) for e in (False, True))
    assert all(torch.equal(a, b) for a, b in zip(calm.textures, moved.textures))
    shift = (calm.vertices - moved.vertices).norm(dim=1)
    back = calm.vertices[:, 2] < -0.1
    assert float(shift.max()) > 0.01 and float(shift[back].max()) < 0.5 * float(shift.max())


@REAL
def test_details_come_in_pairs_that_undo_each_other():
    from densebook.data import makehuman as M

    model = M._model(M._folder())
    details = M._details(tuple(model.names))
    assert len(details) > 80
    for key, (low, high) in details.items():
        assert high, key
        assert {n.partition("/")[0] for n in (*low, *high)} == {key.partition("/")[0]}
    assert details["ears/ear-scale-incr"] == (
        ("ears/l-ear-scale-decr", "ears/r-ear-scale-decr"),
        ("ears/l-ear-scale-incr", "ears/r-ear-scale-incr"),
    )


@REAL
def test_macro_weights_are_a_blend_and_units_are_held_out():
    from densebook.data import makehuman as M

    names = tuple(M._model(M._folder()).names)
    for split, held in (("train", False), ("expression", True)):
        u = H._Dice(generator(1), split)
        for _ in range(30):
            macro = [w for n, w in M.identity(u, names).items() if n.startswith("macrodetails/")]
            assert sum(macro) == pytest.approx(1, abs=1e-6) and min(macro) > 0
            for name in M.expression(u, names):
                assert name.removeprefix("faceunits/").startswith(M.HELD_UNITS) == held


@REAL
def test_ict_heads_are_closed_and_in_frame():
    mesh = H.ict_head(generator(0))
    assert is_watertight(mesh) and float(volume(mesh)) > 0.1 and float(mesh.vertices.abs().max()) < 0.9
    assert ((mesh.colors >= 0) & (mesh.colors <= 1)).all()


def test_without_data_the_error_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setenv("DENSEBOOK_DATA", str(tmp_path))
    with pytest.raises(InputError, match="densebook data get makehuman"):
        H.real_head()
    with pytest.raises(InputError, match="faces_ict.py"):
        H.ict_head()


def test_a_polygon_test_agrees_with_angles():
    from densebook.data.makehuman import within_loop

    turn = torch.arange(12) * (2 * math.pi / 12)
    loop = torch.stack([0.5 * turn.cos(), 0.3 * turn.sin(), torch.ones(12)], 1)
    directions = torch.tensor([[0.0, 0, 1], [0.4, 0, 1], [0.0, 0.35, 1], [0.0, 0.2, -1], [0.6, 0, 1], [-0.2, -0.1, 2]])
    assert within_loop(directions, loop).tolist() == [True, True, False, False, False, True]


def test_cuda_answers_as_the_cpu(toys):
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    points = 2 * torch.rand(200, 3, generator=generator(0)) - 1
    assert torch.allclose(toys[0].sdf(points.cuda()).cpu(), toys[0].sdf(points), atol=1e-5)
    assert torch.allclose(toys[0].albedo(points.cuda()).cpu(), toys[0].albedo(points), atol=1e-4)
