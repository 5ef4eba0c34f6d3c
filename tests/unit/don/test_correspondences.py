"""Correspondences: closed forms of planes and affine motions, slow twins, hidden surfaces, planted wrong matches."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from densebook.core.errors import InputError
from densebook.data import caps as C
from densebook.don import correspondences as D
from densebook.geometry import poses
from densebook.geometry.mesh import Mesh
from densebook.render.cameras import Camera, look_at
from densebook.render.rasterizer import rasterize
from densebook.testing import assert_close, assert_grad

dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
BILINEAR = {"interpolation": v2.InterpolationMode.BILINEAR, "fill": -1.0}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def caps():
    return C.toy_caps(3, seed=1)


@pytest.fixture(scope="module")
def views(caps):
    return C.render_views(caps, 15, (96, 128), 4)


def camera_at(eye, size=(60, 80), dtype=torch.float64, target=(0.0, 0.0, 0.0)):
    K = torch.tensor([[90.0, 0, size[1] / 2], [0, 90.0, size[0] / 2], [0, 0, 1]], dtype=dtype)
    return Camera(K, look_at(torch.tensor(eye, dtype=dtype), target), size)


def sheet(height=0.0, half=0.5, dtype=torch.float64):
    """A square at y = height, seen from above and below."""
    corners = torch.tensor([[-half, height, -half], [-half, height, half], [half, height, half], [half, height, -half]], dtype=dtype)
    return Mesh(corners, torch.tensor([[0, 1, 2], [0, 2, 3]]))


def seen(mesh, camera):
    return rasterize(mesh, camera, backend="torch").depth


# Sampling


@given(count=st.integers(1, 30), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_samples_are_different_pixel_centres_on_the_mask(count, seed):
    mask = torch.rand(9, 13, generator=seeded(seed)) < 0.5
    mask[0] = True
    count = min(count, int(mask.sum()))
    uv = D.sample_mask(mask, count, seeded(seed))
    assert uv.shape == (count, 2) and len(uv.unique(dim=0)) == count
    assert mask[uv[:, 1].long(), uv[:, 0].long()].all() and (uv % 1 == 0.5).all()
    assert torch.equal(uv, D.sample_mask(mask, count, seeded(seed)))


def test_samples_are_uniform():
    mask = torch.zeros(4, 10, dtype=torch.bool)
    mask[1, 2:8] = True
    draw, hits = seeded(), torch.zeros(10)
    for _ in range(600):
        hits[D.sample_mask(mask, 2, draw)[:, 0].long()] += 1
    assert ((hits[2:8] - 200).abs() < 50).all() and hits.sum() == 1200


@pytest.mark.parametrize(
    ("mask", "word"),
    [
        (torch.zeros(4, 5, dtype=torch.bool), "0 pixels"),
        (torch.ones(2, 2, dtype=torch.bool), "4 pixels"),
        (torch.ones(4, 5), "booleans"),
        (torch.ones(1, 4, 5, dtype=torch.bool), "booleans"),
    ],
)
def test_masks_without_enough_are_refused(mask, word):
    with pytest.raises(InputError, match=word):
        D.sample_mask(mask, 9)


# The moved copy


def affine_of(angle, shift, scale):
    """The transform, and the closed form of where it takes (u, v): turn and scale about the middle, then shift."""

    def transform(stack):
        return v2.functional.affine(stack, angle, list(shift), scale, [0.0], **BILINEAR)

    c, s, t = scale * math.cos(math.radians(angle)), scale * math.sin(math.radians(angle)), torch.tensor(shift, dtype=torch.float64)

    def goes_to(uv, size):
        middle = torch.tensor([size[1] / 2, size[0] / 2], dtype=torch.float64)
        R = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
        return (uv.double() - middle) @ R.T + middle + t

    return transform, goes_to


@dtypes
@given(angle=st.floats(-180, 180), du=st.integers(-20, 20), dv=st.integers(-20, 20), scale=st.floats(0.7, 1.4))
@settings(deadline=None, max_examples=15)
def test_matches_of_an_affine_copy_are_exact(dtype, angle, du, dv, scale):
    image, mask = torch.rand(3, 48, 64, generator=seeded(), dtype=dtype), torch.ones(48, 64, dtype=torch.bool)
    transform, goes_to = affine_of(angle, (du, dv), scale)
    _, shown, grid = D.augment(image, mask, seeded(), transform)
    uv_a = D.sample_mask(mask, 200, seeded(1)).to(dtype)
    uv_b, found = D.match_grid(grid, uv_a)
    truth = goes_to(uv_a, (48, 64))
    assert_close(uv_b[found].double(), truth[found], atol=2e-2 if dtype == torch.float32 else 1e-8)
    v, u = torch.meshgrid(torch.arange(48) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    assert torch.equal(shown, grid[0].isfinite())
    assert_close(goes_to(grid[:, shown].T, (48, 64)), torch.stack([u[shown], v[shown]], 1).double(), atol=5e-3 if dtype == torch.float32 else 1e-9)
    well_inside = ((truth > 2) & (truth < torch.tensor([62, 46]))).all(1)
    well_known = ((uv_a > 2) & (uv_a < torch.tensor([62, 46]))).all(1)
    assert found[well_inside & well_known].all()
    assert not found[((truth < -0.2) | (truth > torch.tensor([64.2, 48.2]))).any(1)].any()


def test_pixel_zero_does_not_collide_with_what_is_outside():
    image, mask = torch.rand(3, 40, 40, generator=seeded()), torch.ones(40, 40, dtype=torch.bool)
    transform, goes_to = affine_of(30.0, (12, 5), 0.8)
    _, _, grid = D.augment(image, mask, seeded(), transform)
    assert grid.isnan().any() and not (grid[:, grid[0].isfinite()] < 0.4).any()
    corner = torch.tensor([[0.5, 0.5]])
    uv, found = D.match_grid(grid, corner)
    assert_close(uv.double(), goes_to(corner, (40, 40)), atol=0.6)
    near = (grid - 0.5).abs().amax(0) < 1
    assert near.sum() <= 5  # not the hundreds of pixels that are outside


def test_image_and_mask_go_the_way_of_the_grid(views):
    image, mask = views.rgb[0].double(), views.mask[0]
    moved, shown, grid = D.augment(image, mask, seeded(3), v2.RandomPerspective(0.4, p=1.0, **BILINEAR))
    u, v = grid[:, shown]
    origin = torch.stack([u / 128 * 2 - 1, v / 96 * 2 - 1], -1)
    for picture, there in ((image, moved), (mask[None].double(), torch.ones(1, 96, 128, dtype=torch.float64))):
        sampled = torch.nn.functional.grid_sample(picture[None], origin[None, None], align_corners=False, padding_mode="border")[0, :, 0]
        if len(picture) == 3:
            assert_close(there[:, shown], sampled, atol=1e-6)
        else:
            assert (sampled > 0.5).all()
    fixed = torch.full_like(image, 0.25)
    again, shown_again, _ = D.augment(image, mask, seeded(3), v2.RandomPerspective(0.4, p=1.0, **BILINEAR), background=fixed)
    assert (again[:, ~shown_again] == 0.25).all()


def test_copies_follow_from_the_generator_and_leave_the_global_one_alone(views):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = D.augment(views.rgb[0], views.mask[0], seeded(7))
    assert torch.equal(torch.get_rng_state(), before)
    second = D.augment(views.rgb[0], views.mask[0], seeded(7))
    assert torch.equal(first[0], second[0]) and torch.equal(first[2].nan_to_num(-1), second[2].nan_to_num(-1))
    draw = seeded(7)
    copies = [D.augment(views.rgb[0], views.mask[0], draw)[2].nan_to_num(-1) for _ in range(4)]
    assert len({float(c.sum()) for c in copies}) > 1


def test_copies_refuse_what_does_not_fit(views):
    with pytest.raises(InputError, match=r"mask has shape \(96, 120\)"):
        D.augment(views.rgb[0], views.mask[0, :, :120])
    with pytest.raises(InputError, match="booleans"):
        D.augment(views.rgb[0], views.mask[0].float())
    with pytest.raises(InputError, match="background"):
        D.augment(views.rgb[0], views.mask[0], background=torch.zeros(3, 4, 4))


def test_grid_without_anything_and_of_another_shape():
    uv, found = D.match_grid(torch.full((2, 5, 6), torch.nan), torch.rand(4, 2))
    assert uv.isnan().all() and not found.any()
    with pytest.raises(InputError, match="grid_b"):
        D.match_grid(torch.zeros(3, 5, 6), torch.rand(4, 2))
    single = torch.full((2, 5, 6), torch.nan)
    single[:, 2, 3] = torch.tensor([4.5, 1.5])
    assert not D.match_grid(single, torch.tensor([[4.5, 1.5]]))[1].any()  # one pixel has no slope


# Depth


@dtypes
def test_depth_between_pixels_is_exact_on_a_plane(dtype):
    camera = camera_at((0.3, 0.9, 0.4), dtype=dtype)
    depth = seen(sheet(half=5.0, dtype=dtype), camera)
    uv = torch.rand(200, 2, generator=seeded(), dtype=dtype) * torch.tensor([78.0, 58.0]) + 1
    _, directions = camera.rays()
    local = torch.cat([uv, torch.ones_like(uv[:, :1])], 1) @ torch.linalg.inv(camera.K).T
    world = local @ camera.cam_from_world[:3, :3]
    truth = -camera.center[1] / world[:, 1]
    assert_close(D.depth_at(depth, uv), truth, rtol=1e-5 if dtype == torch.float32 else 1e-9)


def test_depth_beside_an_edge_is_that_of_the_pixel():
    depth = torch.full((6, 8), 2.0)
    depth[:, 4:] = 1.0
    depth[5] = 0
    uv = torch.tensor([[4.0001, 2.5], [3.9, 2.5], [2.5, 4.9], [2.5, 5.1], [-0.1, 2.0], [8.0, 2.0], [2.0, 2.0]])
    assert D.depth_at(depth, uv).tolist() == [1.0, 2.0, 2.0, 0.0, 0.0, 0.0, 2.0]


@dtypes
@given(u=st.floats(0, 80), v=st.floats(0, 60), z=st.floats(0.1, 10))
@settings(deadline=None, max_examples=20)
def test_lift_undoes_projection(dtype, u, v, z):
    camera = camera_at((0.3, 0.5, 2.0), dtype=dtype)
    uv, depth = torch.tensor([[u, v]], dtype=dtype), torch.tensor([z], dtype=dtype)
    image = D.lift(uv, depth, camera.K) @ camera.K.T
    assert_close(image[:, :2] / image[:, 2:], uv, atol=1e-4 if dtype == torch.float32 else 1e-10)
    world = poses.transform(poses.inverse(camera.cam_from_world), D.lift(uv, depth, camera.K))
    assert_close(world, camera.unproject(uv, depth), atol=1e-5 if dtype == torch.float32 else 1e-10)


# Two views


@dtypes
def test_matches_of_a_plane_obey_its_homography(dtype):
    a, b = camera_at((0.2, 1.0, 0.3), dtype=dtype), camera_at((-0.4, 1.2, 0.1), dtype=dtype)
    mesh = sheet(half=0.3, dtype=dtype)
    depth_a, depth_b = seen(mesh, a), seen(mesh, b)
    uv_a = D.sample_mask(depth_a > 0, 150, seeded()).to(dtype)
    uv_b, visible = D.match_depth(uv_a, depth_a, a, b, depth_b)
    flat = torch.eye(4, dtype=dtype)[:, [0, 2, 3]]  # x, z, 1 of the plane y = 0
    H = (b.K @ (b.cam_from_world @ flat)[:3]) @ torch.linalg.inv(a.K @ (a.cam_from_world @ flat)[:3])
    truth = torch.cat([uv_a, torch.ones_like(uv_a[:, :1])], 1) @ H.T
    assert visible.double().mean() > 0.95
    assert_close(uv_b[visible], (truth[:, :2] / truth[:, 2:])[visible], atol=2e-3 if dtype == torch.float32 else 1e-8)


def test_a_view_matches_itself(views):
    uv = D.sample_mask(views.mask[0], 100, seeded())
    found, visible = D.match_depth(uv, views.depth[0], views.camera(0), views.camera(0), views.depth[0])
    assert visible.all()
    assert_close(found, uv, atol=1e-3)


def test_what_is_hidden_or_outside_is_not_visible():
    a, b = camera_at((0.01, 1.0, 0.0)), camera_at((0.5, 1.0, 0.0))
    floor, roof = sheet(half=0.3), sheet(height=0.4, half=0.1)
    both = Mesh(torch.cat([floor.vertices, roof.vertices]), torch.cat([floor.faces, roof.faces + 4]))
    uv = D.sample_mask(seen(floor, a) > 0, 400, seeded()).double()
    uv_b, visible = D.match_depth(uv, seen(floor, a), a, b, seen(both, b))  # the roof came later
    point = a.unproject(uv, D.depth_at(seen(floor, a), uv))
    shade = (point - b.center) * (0.6 / (1 - point[:, 1:2]))  # where the ray from B passes the roof's height
    shaded = (shade + b.center)[:, [0, 2]].abs().amax(1) < 0.1
    inside = ((uv_b > 1) & (uv_b < torch.tensor([79.0, 59.0]))).all(1)
    sure = inside & (((shade + b.center)[:, [0, 2]].abs().amax(1) - 0.1).abs() > 0.01) & (point.abs().amax(1) < 0.28)
    assert torch.equal(visible[sure], ~shaded[sure]) and shaded[sure].any()
    away = camera_at((0.5, 1.0, 0.0), target=(2.0, 1.0, 0.0))
    assert not D.match_depth(uv, seen(floor, a), a, away, seen(floor, away))[1].any()
    none = D.match_depth(torch.tensor([[0.5, 0.5]], dtype=torch.float64), seen(roof, a), a, b, seen(both, b))
    assert not none[1].any()  # no depth there


def test_the_other_side_of_a_thin_sheet_is_not_a_match():
    a, b = camera_at((0.1, 1.0, 0.2)), camera_at((0.1, -1.0, 0.2))
    mesh = sheet(half=0.3)
    uv = D.sample_mask(seen(mesh, a) > 0, 100, seeded())
    assert not D.match_depth(uv, seen(mesh, a), a, b, seen(mesh, b))[1].any()
    beside = camera_at((0.3, 0.9, 0.1))
    assert D.match_depth(uv, seen(mesh, a), a, beside, seen(mesh, beside))[1].double().mean() > 0.95


def test_depth_of_another_size_is_refused(views):
    uv = torch.tensor([[3.5, 3.5]])
    for wrong, name in (((views.depth[0, :4], views.depth[1]), "depth_a"), ((views.depth[0], views.depth[1, :4]), "depth_b")):
        with pytest.raises(InputError, match=name):
            D.match_depth(uv, wrong[0], views.camera(0), views.camera(1), wrong[1])


# Two instances


def test_one_instance_matches_alike_by_depth_and_by_surface(views, caps):
    for i, j in ((0, 3), (1, 4), (2, 8)):
        uv = D.sample_mask(views.mask[i], 200, seeded(i))
        by_depth, seen_by_depth = D.match_depth(uv, views.depth[i], views.camera(i), views.camera(j), views.depth[j])
        by_surface, seen_by_surface = D.match_surface(uv, views, i, j, caps)
        both = seen_by_depth & seen_by_surface
        assert_close(by_depth[both], by_surface[both], atol=2e-3)
        assert (seen_by_depth != seen_by_surface).double().mean() < 0.05


def test_matches_across_instances_show_the_same_place(views, caps):
    centers = caps.vertices[:, caps.faces].mean(2)
    total = 0
    for i, j in ((0, 1), (0, 7), (4, 8), (2, 6)):
        uv_a = D.sample_mask(views.mask[i], 200, seeded(j))
        uv_b, visible = D.match_surface(uv_a, views, i, j, caps)
        (u, v), (x, y) = uv_a[visible].long().T, uv_b[visible].long().T
        face_a, face_b = views.face[i, v, u].long(), views.face[j, y, x].long()
        assert (face_b >= 0).all()
        apart = (centers[0, face_a] - centers[0, face_b]).norm(dim=1)  # on one and the same cap
        assert (apart < 0.015).double().mean() > 0.97
        total += int(visible.sum())
    assert total > 100


def test_the_outside_is_not_seen_from_inside(caps):
    above = C.render_views(caps, 3, (96, 128), 2, elevation=(0.9, 0.9))
    both = C.join_views([above, C.render_views(caps, 3, (96, 128), 2, elevation=(-1.2, -1.2))])
    for k in range(3):
        uv = D.sample_mask(both.mask[k], 200, seeded())
        pair = both.depth[k], both.camera(k), both.camera(k + 3), both.depth[k + 3]
        for visible in (D.match_surface(uv, both, k, k + 3, caps, tolerance=0.01)[1], D.match_depth(uv, *pair, tolerance=0.01)[1]):
            assert visible.double().mean() < 0.12  # the sides near the rim; without asking for the side, more than half


def test_surface_matches_need_faces_and_the_right_caps(views, caps):
    blind = C.Views(**{f: getattr(views, f) if f != "face" else torch.full_like(views.face, -1) for f in views.__dataclass_fields__})
    uv = D.sample_mask(views.mask[0], 5, seeded())
    with pytest.raises(InputError, match="no face"):
        D.match_surface(uv, blind, 0, 1, caps)
    with pytest.raises(InputError, match="instance 2 but caps has 1"):
        D.match_surface(uv, views, 0, 1, C.toy_caps(1))


# Pairs


@pytest.mark.parametrize("cross", [False, True])
def test_pairs_hold_what_the_slow_way_finds(views, caps, cross):
    batch = D.pairs(views, 12, 40, caps if cross else None, seeded(2))
    assert len(batch) == 12 and batch.uv_a.shape == batch.uv_b.shape == (12, 40, 2) and batch.valid.double().mean() > 0.7
    assert (batch.a != batch.b).all()
    assert torch.equal(views.instance[batch.a] == views.instance[batch.b], torch.full((12,), not cross))
    for k, (i, j) in enumerate(zip(batch.a.tolist(), batch.b.tolist())):
        uv_a, uv_b, valid = batch.uv_a[k], batch.uv_b[k], batch.valid[k]
        if cross:
            found, visible = D.match_surface(uv_a, views, i, j, caps)
        else:
            found, visible = D.match_depth(uv_a, views.depth[i], views.camera(i), views.camera(j), views.depth[j])
        assert visible[valid].all() and views.mask[i, uv_a[valid][:, 1].long(), uv_a[valid][:, 0].long()].all()
        assert_close(uv_b[valid], found[valid], atol=1e-3)
        assert (uv_b[~valid] == 0).all() and len(uv_a[valid].unique(dim=0)) == int(valid.sum())
    again = D.pairs(views, 12, 40, caps if cross else None, seeded(2))
    assert torch.equal(again.uv_b, batch.uv_b) and torch.equal(again.b, batch.b)
    assert batch.to(torch.float64).uv_a.dtype == torch.float64


def test_pairs_that_cannot_be_made_are_refused(views, caps):
    with pytest.raises(InputError, match="one instance twice"):
        D.pairs(views[:3], 2, 8, generator=seeded())
    with pytest.raises(InputError, match="two instances"):
        D.pairs(views[[0, 3]], 2, 8, caps, seeded())
    empty = C.Views(**{f: getattr(views, f) if f != "mask" else torch.zeros_like(views.mask) for f in views.__dataclass_fields__})
    with pytest.raises(InputError, match="masks are empty"):
        D.pairs(empty, 2, 8, generator=seeded())
    for count, matches in ((0, 8), (2, 0), (2, 96 * 128)):
        with pytest.raises(InputError, match="count is"):
            D.pairs(views, count, matches)


def test_views_without_the_object_are_never_drawn(views):
    masks = views.mask.clone()
    masks[[0, 3, 6]] = False
    some = C.Views(**{f: getattr(views, f) if f != "mask" else masks for f in views.__dataclass_fields__})
    batch = D.pairs(some, 30, 8, generator=seeded())
    assert not set(batch.a.tolist() + batch.b.tolist()) & {0, 3, 6}


# Motions


@dtypes
def test_relative_pose_is_the_motion(dtype):
    xi = torch.tensor([[0.1, -0.2, 0.05, 0.4, -1.0, 0.3], [0.0, 0.1, 0.1, -2.0, 0.5, 0.1]], dtype=dtype)
    T, K = poses.exp(xi), camera_at((0.0, 0.0, 1.0), dtype=dtype).K
    points = torch.rand(2, 20, 3, generator=seeded(), dtype=dtype) * 0.3 + torch.tensor([0.0, 0.0, 2.0])
    moved = poses.transform(T, points - 2) + torch.tensor([0.0, 0.0, 3.0], dtype=dtype)
    project = [(x @ K.T)[..., :2] / x[..., 2:] for x in (points, moved)]
    found = D.relative_pose(project[0], points[..., 2], project[1], moved[..., 2], K)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    assert_close(poses.transform(found, points), moved, atol=tolerance)
    valid = torch.ones(2, 20, dtype=torch.bool)
    valid[:, 5:9] = False
    project[1][:, 5:9] += 30.0
    masked = D.relative_pose(project[0], points[..., 2], project[1], moved[..., 2], K, K, valid)
    assert_close(masked, found, atol=10 * tolerance)


def test_relative_pose_passes_gradients():
    points = torch.rand(6, 3, generator=seeded(), dtype=torch.float64) + torch.tensor([0.0, 0.0, 2.0])
    K = camera_at((0.0, 0.0, 1.0)).K
    uv = (points @ K.T)[:, :2] / points[:, 2:]
    target = uv + torch.randn(6, 2, generator=seeded(1), dtype=torch.float64)
    assert_grad(lambda a, z: D.relative_pose(a, z, target, points[:, 2], K)[:3], uv, points[:, 2])


def test_two_matches_are_too_few(views):
    uv, z, K = torch.rand(4, 2), torch.ones(4), views.K[0]
    with pytest.raises(InputError, match="2 matches count"):
        D.relative_pose(uv[:2], z[:2], uv[:2], z[:2], K)
    with pytest.raises(InputError, match="1 matches count"):
        D.relative_pose(uv, z, uv, z, K, valid=torch.tensor([True, False, False, False]))


def test_a_shifted_picture_is_no_motion_but_a_turned_one_is(views):
    K = views.K[0].double()
    uv = D.sample_mask(views.mask[0], 300, seeded()).double()
    z = D.depth_at(views.depth[0].double(), uv)

    def left_over(moved):
        T = D.relative_pose(uv, z, moved, z, K)
        return float((D.lift(moved, z, K) - poses.transform(T, D.lift(uv, z, K))).norm(dim=1).max())

    c, s = math.cos(0.7), math.sin(0.7)
    R = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    assert left_over((uv - K[:2, 2]) @ R.T + K[:2, 2]) < 1e-9
    assert left_over(uv + torch.tensor([20.0, 0.0])) > 2e-4
    z = torch.full_like(z, 0.6)  # of a flat picture, a shift is one
    assert left_over(uv + torch.tensor([20.0, 0.0])) < 1e-9


# Wrong matches


@dtypes
@given(share=st.floats(0, 0.5), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_planted_wrong_matches_are_found(dtype, share, seed):
    draw = seeded(seed)
    a = torch.rand(80, 3, generator=draw, dtype=torch.float64) * 0.25
    T = poses.exp(torch.randn(6, generator=draw, dtype=torch.float64))
    b = poses.transform(T, a) + 0.0005 * torch.randn(80, 3, generator=draw, dtype=torch.float64)
    planted = torch.arange(80) < int(80 * share)
    b[planted] += 0.05 * torch.nn.functional.normalize(torch.randn(80, 3, generator=draw, dtype=torch.float64), dim=1)[planted]
    found, wrong = D.find_wrong(a.to(dtype), b.to(dtype), generator=draw)
    assert torch.equal(wrong, planted)
    assert_close(found[:3, :3].double(), T[:3, :3], atol=0.02)


def test_wrong_matches_planted_into_a_pair_of_views_are_found(views):
    batch = D.pairs(views, 4, 60, generator=seeded(5))
    for k in range(4):
        ok = batch.valid[k]
        i, j = int(batch.a[k]), int(batch.b[k])
        uv_a, uv_b = batch.uv_a[k, ok], batch.uv_b[k, ok].clone()
        right = D.lift(uv_b, D.depth_at(views.depth[j], uv_b), views.K[j])
        uv_b[::4] = D.sample_mask(views.mask[j], len(uv_b[::4]), seeded(k))
        a = D.lift(uv_a, D.depth_at(views.depth[i], uv_a), views.K[i])
        b = D.lift(uv_b, D.depth_at(views.depth[j], uv_b), views.K[j])
        clearly = (b - right).norm(dim=1) > 0.012
        T, wrong = D.find_wrong(a, b, generator=seeded(k))
        assert wrong[clearly].all() and (wrong & ~clearly).double().mean() < 0.05 and clearly.sum() >= 3
        truth = views.cam_from_world[j] @ torch.linalg.inv(views.cam_from_world[i])
        assert_close(T, truth, atol=0.03)


def test_what_no_motion_explains_is_refused():
    a, b = torch.rand(30, 3, generator=seeded()), torch.rand(30, 3, generator=seeded(1))
    with pytest.raises(InputError, match="no motion fits"):
        D.find_wrong(a, b, tolerance=1e-4, generator=seeded())
    for x, y in ((a[:2], b[:2]), (a, b[:7])):
        with pytest.raises(InputError, match="3 or more"):
            D.find_wrong(x, y)
    T, wrong = D.find_wrong(a[:3], a[:3], generator=seeded())
    assert not wrong.any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_same_on_cuda(views, caps):
    there, hats = views.to("cuda"), caps.to("cuda")
    for c, d in ((None, None), (caps, hats)):
        one, two = D.pairs(views, 6, 30, c, seeded()), D.pairs(there, 6, 30, d, seeded())
        assert two.uv_b.is_cuda and torch.equal(one.a, two.a.cpu())
        same = one.valid & two.valid.cpu()
        assert same.double().mean() > 0.7
        assert_close(two.uv_b.cpu()[same], one.uv_b[same], atol=1e-2)
    image, mask, grid = D.augment(there.rgb[0], there.mask[0], seeded())
    uv, found = D.match_grid(grid, D.sample_mask(there.mask[0], 20, seeded()))
    assert image.is_cuda and uv.is_cuda and found.any()
