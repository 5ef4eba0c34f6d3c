"""Training, reconstruction, scores and photos of heads: closed forms on balls, laws, and files of every kind."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from densebook.core.errors import InputError
from densebook.data import heads as book_heads
from densebook.data import toy
from densebook.geometry import octree
from densebook.geometry.mesh import Mesh, join, load, save, transform
from densebook.phorhum import heads, networks
from densebook.render.cameras import Camera
from densebook.testing import assert_close


class Ball:
    """A field with colours: a ball, steeper than a distance by `steep`."""

    def __init__(self, radius: float = 0.5, steep: float = 1.0, center=(0.0, 0.0, 0.0)):
        self.radius, self.steep, self.center = radius, steep, torch.tensor(center)

    def __call__(self, points):
        return self.steep * ((points - self.center.to(points)).norm(dim=-1) - self.radius)

    def color(self, points):
        return points.clamp(-1, 1) / 2 + 0.5


@pytest.fixture(scope="module")
def few():
    return book_heads.make_heads(3, 32, torch.Generator().manual_seed(0), samples=(128, 128))


def small_net(seed: int = 0):
    return networks.PhorhumNet(0.0625, 3, 0.125, torch.Generator().manual_seed(seed))


def ball_truth(radius: float = 0.5, count: int = 4000):
    """A ball as a row of a HeadSet, seen from +z."""
    draw = torch.Generator().manual_seed(0)
    normals = torch.nn.functional.normalize(torch.randn(count, 3, generator=draw), dim=-1)
    box = 2 * torch.rand(count, 3, generator=draw) - 1
    camera = heads.frontal(16)
    blank = torch.zeros(3, 16, 16)
    return book_heads.HeadSet(
        blank, blank[0], blank, blank, camera.K, camera.cam_from_world, radius * normals, normals, torch.full_like(normals, 0.5),
        box, box.norm(dim=-1) - radius, torch.full_like(box, 0.5), torch.tensor(0),
    )  # fmt: skip


# What the network sees ----------------------------------------------------------------------------------------------


def test_compose_keeps_the_head_and_replaces_the_rest():
    image, mask = torch.rand(2, 3, 8, 8, dtype=torch.float64), torch.zeros(2, 8, 8, dtype=torch.float64)
    mask[:, 2:5, 3:6] = 1
    made = heads.compose(image, mask)
    assert made.dtype == torch.float64 and torch.equal(made[:, :, 2:5, 3:6], image[:, :, 2:5, 3:6])
    assert_close(made[:, :, 0, 0], torch.tensor(heads.BACKGROUND, dtype=torch.float64).expand(2, 3))


def test_mirror_is_its_own_inverse_and_keeps_cameras(few):
    off_centre = few.K.clone()
    off_centre[:, 0, 2] += 3.0
    few = few._replace(K=off_centre)
    there = heads.mirrored(few)
    back = heads.mirrored(there)
    for name in few._fields:
        assert_close(getattr(back, name), getattr(few, name), atol=1e-6)
    for K, T in zip(there.K, there.cam_from_world):
        Camera(K, T, (32, 32))  # raises for what is no camera
    for k in range(3):
        a, b = (Camera(h.K[k], h.cam_from_world[k], (32, 32)).project(h.surface[k])[0] for h in (few, there))
        assert_close(b[:, 0], 32 - a[:, 0], atol=1e-3)
        assert_close(b[:, 1], a[:, 1], atol=1e-3)


def test_batches_follow_the_seed_and_hold_other_points_each_time(few):
    a, b = (heads.draw_batch(few, 2, 16, torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(a, b))
    c = heads.draw_batch(few, 2, 16, torch.Generator().manual_seed(4), mirror=False)
    assert a.surface.shape == c.points.shape == (2, 16, 3) and not torch.equal(a.surface, c.surface)
    assert {tuple(p.tolist()) for p in c.surface[0]} <= {tuple(p.tolist()) for h in few.surface for p in h}


def test_seen_pixels_are_albedo_times_shading(few):
    pixels, seen = heads.seen_pixels(few)
    assert 0.1 < float(seen.float().mean()) < 0.6
    for k in range(3):
        uv = Camera(few.K[k], few.cam_from_world[k], (32, 32)).project(few.surface[k])[0]
        at = uv.floor().long().clamp(0, 31)
        direct = (few.albedo_images[k] * few.shading_images[k])[:, at[:, 1], at[:, 0]].T
        error = (pixels[k] - direct).abs().mean(1)[seen[k]]
        assert float(error.median()) < 0.03


# Losses and training ------------------------------------------------------------------------------------------------


class Shifted(torch.nn.Module):
    """A net whose field is the truth plus a constant, for every loss a known value."""

    def __init__(self, shift: float, albedo: float, light: float):
        super().__init__()
        self.shift, self.albedo, self.light, self.log_k = shift, albedo, light, torch.tensor(math.log(40.0))

    def encode(self, images):
        return networks.Encoding(images, torch.zeros(len(images), 16))

    def field(self, encoding, K, cam_from_world, points):
        d = points.norm(dim=-1) - 0.5 + self.shift
        return d, torch.full_like(points, self.albedo)

    def field_and_gradient(self, encoding, K, cam_from_world, points):
        d, a = self.field(encoding, K, cam_from_world, points)
        return d, a, torch.nn.functional.normalize(points, dim=-1)

    def shading_net(self, normals, code):
        return torch.full_like(normals, self.light)


def test_a_known_error_has_a_known_loss():
    batch = ball_truth()
    batch = book_heads.HeadSet(*(t[None] for t in batch))
    total, parts = heads.quick_loss(Shifted(0.1, 0.7, 1.0), batch)
    assert_close(parts["g1"], torch.tensor(0.1), atol=1e-6)
    assert_close(parts["d"], 0.05 * (0.1 / (batch.distances.abs() + 0.05)).mean(), atol=1e-6)
    assert float(parts["g2"]) < 1e-6 and float(parts["e"]) < 1e-10
    assert_close(parts["a"], torch.tensor((0.5 + 0.3) * 0.2), atol=1e-6)
    wanted = sum(heads.QUICK[n] * v for n, v in parts.items())
    assert_close(total, wanted)
    assert float(heads.quick_loss(Shifted(0.0, 0.5, 1.0), batch)[0]) < float(total)


def test_what_weighs_nothing_is_left_out(few):
    batch, net = heads.draw_batch(few, 2, 32, torch.Generator().manual_seed(0)), small_net()
    assert set(heads.quick_loss(net, batch, heads.COLORLESS)[1]) == {"d", "g1", "l", "g2", "e"}
    assert set(heads.quick_loss(net, batch, heads.UNSHADED)[1]) == {"d", "g1", "l", "g2", "e", "a"}
    assert set(heads.quick_loss(net, batch, heads.OCCUPANCY)[1]) == {"l"}
    total, _ = heads.quick_loss(net, batch)
    total.backward()
    for part in (net.feature_net, net.geometry_net, net.shading_net):
        assert any(p.grad is not None and float(p.grad.abs().max()) > 0 for p in part.parameters())


def test_training_learns_and_repeats(few):
    runs = []
    for _ in range(2):
        net = small_net()
        history = heads.train(net, few, 40, torch.Generator().manual_seed(1), batch=2, count=48)
        runs.append((history, net.state_dict()))
    (history, state), (other, again) = runs
    assert history == other and all(torch.equal(state[n], again[n]) for n in state)
    first, last = (sum(h["l"] for h in part) for part in (history[:5], history[-5:]))
    assert last < 0.9 * first and all(math.isfinite(v) for h in history for v in h.values())


def test_training_with_rays_is_the_thesis_loss(few):
    last = heads.train(small_net(), few, 1, torch.Generator().manual_seed(1), batch=2, count=32, rays=8, weights={})[-1]
    assert {"g", "e", "l", "a", "s"} <= set(last)


def test_no_heads_and_no_steps_are_refused(few):
    for wrong in ({"steps": 0}, {"batch": 0}, {"count": 0}):
        with pytest.raises(InputError, match="at least 1"):
            heads.train(small_net(), few, **({"steps": 1} | wrong), generator=torch.Generator())
    with pytest.raises(InputError, match="0 heads"):
        heads.train(small_net(), few.take(slice(0, 0)), 1, torch.Generator())


# Meshes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steep", [0.7, 1.0, 2.5])
def test_octree_gives_the_dense_mesh_with_a_measured_bound(steep):
    field = Ball(0.6, steep, (0.05, -0.1, 0.02))
    assert steep <= heads.slope(field) < 1.2 * steep
    mesh, stats = heads.extract_head(field, 40)
    dense, _ = octree.extract_dense(field, heads.BOUNDS, 40)
    assert octree.same_triangles(Mesh(mesh.vertices, mesh.faces), dense)
    assert stats.evaluations < 0.5 * stats.dense_evaluations
    assert_close(mesh.colors, field.color(mesh.vertices), atol=1e-6)


def test_crumbs_are_left_out():
    whole = toy.icosphere(2, 0.5)
    crumb = transform(toy.icosphere(1, 0.1), torch.tensor([[1.0, 0, 0, 0.8], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    kept = heads.largest_piece(join([crumb, whole]))
    assert len(kept.faces) == len(whole.faces) and float(kept.vertices.norm(dim=1).max()) < 0.501
    assert heads.largest_piece(whole) is whole


def test_a_field_without_surface_is_refused():
    with pytest.raises(InputError, match="no head"):
        heads.extract_head(Ball(-0.1), 16)
    with pytest.raises(InputError, match="square"):
        heads.encode_head(small_net(), torch.rand(3, 32, 24))


def test_reconstruct_is_the_field_of_the_picture(few):
    net, image = small_net(), heads.compose(few.images, few.masks)[0]
    camera = Camera(few.K[0], few.cam_from_world[0], (32, 32))
    field = heads.encode_head(net, image, camera)
    with torch.no_grad():
        direct = net.field(net.encode(image[None]), few.K[:1], few.cam_from_world[:1], few.points[:1])[0][0]
        assert_close(field(few.points[0]), direct, atol=1e-5)
    mesh = heads.reconstruct(net, image, camera, 24)
    assert mesh.colors is not None and float(mesh.colors.min()) >= 0 and float(mesh.colors.max()) <= 1
    with torch.no_grad():
        assert float(field(mesh.vertices).abs().mean()) < 0.01, "on the surface, to the cells' size"


# Scores -------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=10)
@given(st.floats(-0.2, 0.4))
def test_distance_to_samples_of_a_sphere(height):
    draw = torch.Generator().manual_seed(0)
    ball = torch.nn.functional.normalize(torch.randn(3000, 3, generator=draw, dtype=torch.float64), dim=-1)
    asked = (1 + height) * torch.nn.functional.normalize(torch.randn(200, 3, generator=draw, dtype=torch.float64), dim=-1)
    assert float((heads.to_samples(asked, ball, ball) - abs(height)).abs().mean()) < 0.006
    plain = torch.cdist(asked, ball).amin(1)
    assert bool((heads.to_samples(asked, ball, ball) <= plain + 1e-9).all())


def test_scores_of_a_ball_too_large():
    truth = ball_truth(0.5)
    mesh = toy.icosphere(4, 0.55)
    mesh = Mesh(mesh.vertices, mesh.faces, colors=torch.full_like(mesh.vertices, 0.6))
    found = heads.evaluate(mesh, truth)
    assert set(found) == set(heads.SCORES)
    assert found["p2s"] == pytest.approx(0.05, abs=0.003) and found["chamfer"] == pytest.approx(0.05, abs=0.003)
    assert found["normal"] < 2 and found["front"] < 2 and found["back"] < 2
    assert found["iou"] == pytest.approx((0.5 / 0.55) ** 3, abs=0.08)
    assert found["psnr"] == pytest.approx(20.0, abs=0.1)
    perfect = heads.evaluate(toy.icosphere(4, 0.5), truth)
    assert perfect["chamfer"] < 0.003 and perfect["iou"] > 0.95 and "psnr" not in perfect
    assert heads.average([found, found]) == pytest.approx(found)


def test_normals_turned_inside_out_count_as_180_degrees():
    ball = toy.icosphere(3, 0.5)
    assert heads.evaluate(Mesh(ball.vertices, ball.faces.flip(1)), ball_truth())["normal"] > 175


def test_mean_of_two_balls_lies_between():
    rows = [ball_truth(r, 1500) for r in (0.4, 0.6)]
    both = book_heads.HeadSet(*(torch.stack(c) for c in zip(*rows)))
    mesh = heads.mean_head(both, 80, torch.Generator().manual_seed(0), 32)
    radius = mesh.vertices.norm(dim=1)
    assert 0.38 < float(radius.mean()) < 0.62 and float(radius.std()) < 0.05
    assert_close(mesh.colors, torch.full_like(mesh.colors, 0.5), atol=1e-4)


def test_outline_tells_width_height_and_place():
    ball, camera = toy.icosphere(3, 0.5), heads.frontal(48)
    from densebook.render.differentiable import render

    true = Mesh(ball.vertices * torch.tensor([0.8, 1.15, 1.0]) + torch.tensor([0.05, -0.04, 0.0]), ball.faces)
    mask = render(true, camera, backend="torch").mask
    found = heads.fit_silhouette(ball, mask, camera, steps=40)
    low, high = found.vertices.amin(0), found.vertices.amax(0)
    assert_close((high - low)[:2], torch.tensor([0.8, 1.15]), atol=0.03)
    assert_close(((high + low) / 2)[:2], torch.tensor([0.05, -0.04]), atol=0.02)
    assert float((high - low)[2]) == pytest.approx(float((high - low)[0]), abs=1e-4), "depth follows the width"


# Light and files ----------------------------------------------------------------------------------------------------


def test_relighting_multiplies_albedo_by_light():
    ball = toy.icosphere(3, 0.5)
    white = Mesh(ball.vertices, ball.faces, colors=torch.full_like(ball.vertices, 0.8))
    sky = torch.zeros(16, 32, 3)
    sky[:, :, 0] = 1.0  # red from all sides
    picture = heads.relight(white, sky, size=32)
    assert picture.shape == (32, 32, 3)
    middle = picture[16, 16]
    assert float(middle[0]) > 0.7 and float(middle[1]) < 0.05
    with pytest.raises(InputError, match="no colours"):
        heads.relight(ball, sky)


def test_shaded_is_albedo_times_shading():
    net, ball = small_net(), toy.icosphere(2, 0.5)
    code = torch.rand(16, generator=torch.Generator().manual_seed(0))
    colored = Mesh(ball.vertices, ball.faces, colors=torch.full_like(ball.vertices, 0.5))
    from densebook.geometry.mesh import vertex_normals

    wanted = (0.5 * net.shading_net(vertex_normals(ball)[None], code[None])[0]).clamp(0, 1)
    assert_close(heads.shaded(net, colored, code).colors, wanted.detach())
    with pytest.raises(InputError, match="no colours"):
        heads.shaded(net, ball, code)


@pytest.mark.parametrize("suffix", ["glb", "ply", "obj"])
def test_other_programs_read_the_files(tmp_path, suffix):
    trimesh = pytest.importorskip("trimesh")
    mesh, _ = heads.extract_head(Ball(0.5), 24)
    path = save(mesh, tmp_path / f"head.{suffix}")
    theirs = trimesh.load(path, force="mesh", process=False)
    assert len(theirs.faces) == len(mesh.faces) and theirs.is_winding_consistent and theirs.volume > 0
    assert theirs.visual.kind == "vertex"
    assert_close(load(path).colors, mesh.colors, atol=0.01)


# Photos -------------------------------------------------------------------------------------------------------------


def portrait(size: int = 200, background=(150, 160, 150), shoulders: bool = False) -> Image.Image:
    picture = Image.new("RGB", (size, size), background)
    draw = ImageDraw.Draw(picture)
    s = size / 200
    if shoulders:
        draw.rectangle((85 * s, 120 * s, 115 * s, 170 * s), fill=(200, 140, 110))
        draw.ellipse((30 * s, 160 * s, 170 * s, 280 * s), fill=(40, 60, 120))
    draw.ellipse((65 * s, 35 * s, 135 * s, 135 * s), fill=(210, 150, 120))
    draw.ellipse((110 * s, 70 * s, 122 * s, 80 * s), fill=(20, 20, 20))  # one eye: left and right differ
    return picture


def prepared(tmp_path, picture, name="p.png", **options):
    picture.save(tmp_path / name, **options)
    return heads.prepare_photo(tmp_path / name, 64)


def test_a_photo_is_cut_centred_and_scaled(tmp_path):
    photo = prepared(tmp_path, portrait())
    assert photo.image.shape == (3, 64, 64) and photo.mask.shape == (64, 64)
    rows, columns = (photo.mask > 0.5).nonzero().unbind(1)
    assert int(rows.max() - rows.min()) + 1 == pytest.approx(0.7 * 64, abs=2)
    assert (float(rows.float().mean()) + 0.5, float(columns.float().mean()) + 0.5) == pytest.approx((32, 32), abs=1)
    assert_close(photo.image[:, 0, 0], torch.tensor(heads.BACKGROUND), atol=1e-3)
    assert_close(photo.image[:, 50, 32] * 255, torch.tensor([210.0, 150.0, 120.0]), atol=3)


def test_every_kind_of_file_gives_the_same_head(tmp_path):
    plain = prepared(tmp_path, portrait())
    lying = Image.Exif()
    lying[274] = 6
    turned = prepared(tmp_path, portrait().rotate(90, expand=True), "t.jpg", exif=lying, quality=95)
    alpha = portrait().convert("RGBA")
    cover = Image.new("L", alpha.size, 0)
    ImageDraw.Draw(cover).ellipse((65, 35, 135, 135), fill=255)
    alpha.putalpha(cover)
    cut = prepared(tmp_path, alpha, "a.png")
    large = prepared(tmp_path, portrait(1500), "l.jpg", quality=90)
    indexed = prepared(tmp_path, portrait().quantize(32), "i.png")
    for other in (turned, cut, large, indexed):
        assert float((other.image - plain.image).abs().mean()) < 0.03, other.notes
        assert float((other.mask - plain.mask).abs().mean()) < 0.02
    assert any("EXIF" in n for n in turned.notes) and any("alpha" in n for n in cut.notes)


def test_grey_of_8_and_16_bits(tmp_path):
    eight = prepared(tmp_path, portrait().convert("L"), "g.png")
    sixteen = Image.fromarray(np.asarray(portrait().convert("L")).astype(np.uint16) * 257)
    deep = prepared(tmp_path, sixteen, "d.png")
    assert_close(eight.image, deep.image, atol=0.01)
    assert all(any("grey" in n for n in p.notes) for p in (eight, deep))


def test_shoulders_are_cut_away(tmp_path):
    photo = prepared(tmp_path, portrait(shoulders=True))
    assert any("neck" in n for n in photo.notes)
    blue = (photo.image[2] > photo.image[0] + 0.1) & (photo.mask > 0.99)
    assert int(blue.sum()) == 0, "no jersey"
    assert int((photo.mask > 0.5).any(1).sum()) == pytest.approx(0.7 * 64, abs=2)


def test_transparency_that_cuts_nothing_out_is_left_alone(tmp_path):
    opaque = portrait().convert("RGBA")
    assert float((prepared(tmp_path, opaque, "o.png").mask - prepared(tmp_path, portrait()).mask).abs().max()) == 0


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Image.new("RGB", (100, 100), (90, 90, 90)), "no face-sized"),
        (lambda: portrait(20), "at least 32"),
        (lambda: Image.new("RGBA", (100, 100), (90, 90, 90, 0)), "no face-sized"),
        (lambda: Image.fromarray(np.random.default_rng(0).integers(0, 255, (100, 100, 3), dtype=np.uint8)), "no"),
        (lambda: portrait(400).crop((0, 0, 400, 120)).resize((400, 60)), "no"),
    ],
)
def test_what_shows_no_head_is_refused(tmp_path, make, word):
    make().save(tmp_path / "bad.png")
    with pytest.raises(InputError, match=word) as error:
        heads.prepare_photo(tmp_path / "bad.png")
    assert "\n" not in str(error.value) and str(tmp_path) not in str(error.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        heads.prepare_photo(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(InputError, match="cannot be read"):
        heads.prepare_photo(tmp_path / "text.png")
    portrait(300).save(tmp_path / "p.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "p.jpg").read_bytes()[:1500])
    with pytest.raises(InputError, match="cannot be read"):
        heads.prepare_photo(tmp_path / "cut.jpg")


def test_huge_photos(tmp_path, monkeypatch):
    monkeypatch.setattr(heads, "MOST_PIXELS", 60_000)
    portrait(1200).save(tmp_path / "huge.png")
    with pytest.raises(InputError, match="make it smaller"):
        heads.prepare_photo(tmp_path / "huge.png")
    monkeypatch.setattr(heads, "MOST_PIXELS", 8_000_000)
    portrait(4000).save(tmp_path / "huge.jpg", quality=80)
    assert heads.prepare_photo(tmp_path / "huge.jpg").image.shape == (3, 64, 64)


# Weights ------------------------------------------------------------------------------------------------------------


def test_weights_are_looked_for_in_order(tmp_path):
    def put(*parts):
        path = tmp_path.joinpath(*parts)
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
        return path

    data, runs = tmp_path / "data", tmp_path / "runs"
    with pytest.raises(InputError, match="densebook run phorhum/62_heads"):
        heads.find_weights(None, data, runs)
    put("runs", "phorhum", "62_heads", "smoke", "heads.safetensors")
    with pytest.raises(InputError, match="no trained weights"):
        heads.find_weights(None, data, runs)
    cpu = put("runs", "phorhum", "62_heads", "cpu", "heads.safetensors")
    assert heads.find_weights(None, data, runs) == cpu
    real = put("runs", "phorhum", "62_heads", "cpu-real", "heads.safetensors")
    assert heads.find_weights(None, data, runs) == real
    kept = put("data", "phorhum", "heads.safetensors")
    assert heads.find_weights(None, data, runs) == kept
    assert heads.find_weights(cpu, data, runs) == cpu
    with pytest.raises(InputError, match="no such file"):
        heads.find_weights(tmp_path / "x.safetensors")


def test_models_say_what_they_know(tmp_path):
    net = small_net()
    net.trained_on = heads.describe({"what": "balls", "heads": 7, "steps": 8, "size": 32, "profile": "smoke"})
    networks.save(net, tmp_path / "w.safetensors")
    known = heads.about(networks.load(tmp_path / "w.safetensors"))
    assert known["what"] == "balls" and known["size"] == 32
    assert any("7 balls" in line for line in heads.warn(known))
    for wrong in ("", "[]", '{"what": "x"}'):
        net.trained_on = wrong
        with pytest.raises(InputError, match="do not say"):
            heads.about(net)


def test_photo_to_mesh_in_metres(tmp_path):
    net = small_net()
    net.trained_on = heads.describe({"what": "balls", "heads": 7, "steps": 8, "size": 32, "profile": "smoke"})
    portrait().save(tmp_path / "p.png")
    small, photo, _ = heads.photo_to_mesh(tmp_path / "p.png", net, 16, height=0.22)
    large, _, _ = heads.photo_to_mesh(tmp_path / "p.png", net, 16, height=0.44)
    assert photo.image.shape == (3, 32, 32)
    assert_close(large.vertices, 2 * small.vertices, atol=1e-5)
    with pytest.raises(InputError, match="height"):
        heads.photo_to_mesh(tmp_path / "p.png", net, 16, height=math.inf)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_training_on_a_gpu(few):
    net, on = small_net().cuda(), few.to("cuda")
    last = heads.train(net, on, 3, torch.Generator().manual_seed(0), batch=2, count=32)[-1]
    assert all(math.isfinite(v) for v in last.values())
    image = heads.compose(on.images, on.masks)[0]
    assert heads.encode_head(net, image)(on.points[0]).is_cuda
