"""Examples: the same for the same number, right against the geometry, files that come back, constants, edges and painting."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from densebook.core import settings
from densebook.core.errors import InputError
from densebook.data import streets, toy
from densebook.geometry.sphere_tracing import to_srgb
from densebook.render.cameras import sample_environment
from densebook.render.differentiable import render
from densebook.render.shading import Environment, irradiance_map
from densebook.ssz import dataset as D
from densebook.ssz.fruxels import Frustum, iou
from densebook.testing import assert_close

FRUSTUM = Frustum(2.0, 12.0, 24, math.radians(40), (32, 32))
real = pytest.mark.skipif(not (settings.data_folder() / "street").is_dir(), reason="the street meshes are not in the data folder")


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def examples():
    return D.make_examples(4, FRUSTUM, draws())


# Making


def test_shapes_types_and_ranges(examples):
    assert examples.images.shape == (4, 3, 32, 32) and examples.images.dtype == torch.float32
    assert 0 <= examples.images.min() and examples.images.max() <= 1 and examples.images.std() > 0.05
    assert examples.labels.shape == (4, 24, 32, 32) and examples.labels.dtype == torch.uint8 and examples.labels.max() <= 9
    assert examples.depth.shape == (4, 32, 32) and examples.depth.min() > 0 and examples.depth.isinf().any()
    assert len(examples.instances) == 4 and all(len(b.labels) == len(b.centers) for b in examples.instances)


def test_a_generator_repeats_and_splits_differ(examples):
    again = D.make_examples(4, FRUSTUM, draws())
    for a, b in ((examples.images, again.images), (examples.labels, again.labels), (examples.depth, again.depth)):
        assert torch.equal(a, b)
    first = D.make_examples(1, FRUSTUM, draws())
    assert torch.equal(first.images[0], examples.images[0])  # whatever the count
    test = D.make_examples(1, FRUSTUM, draws(), split="test")
    assert not torch.equal(test.labels[0], examples.labels[0])
    assert not torch.equal(D.make_examples(1, FRUSTUM, draws(1)).labels[0], examples.labels[0])


def test_no_number_is_in_both_splits(monkeypatch):
    seeds = {"train": set(), "test": set()}
    monkeypatch.setattr(D.streets, "toy_street", lambda generator, **options: seeds[now].add(generator.initial_seed()))
    for now in seeds:
        for number in range(20):
            D.make_street(FRUSTUM, number, split=now)
    assert len(seeds["train"]) == len(seeds["test"]) == 20 and not seeds["train"] & seeds["test"]


@pytest.mark.parametrize("seed", range(3))
def test_picture_depth_and_fruxels_agree(seed):
    """One closed car alone, so that every pixel that sees it has it in its column, at the right depth."""
    street = streets.toy_street(draws(seed), size=(32, 32), fov=math.radians(40), objects=["bus"])
    if len(street.labels) == 1:
        pytest.skip("no room for the bus")
    example = D.make_example(street, FRUSTUM, Environment(torch.ones(4, 8, 3)))
    labels, depth = example.labels[0], example.depth[0]
    cell = ((depth - FRUSTUM.near) / FRUSTUM.step).floor()
    solid = labels > 0
    first = torch.where(solid.any(dim=0), solid.to(torch.uint8).argmax(dim=0), FRUSTUM.depth)
    inside = (cell >= 0) & (cell < FRUSTUM.depth)
    assert inside.float().mean() > 0.3
    assert ((first - cell).abs() <= 1)[inside].float().mean() > 0.95


def test_a_ball_of_known_place():
    """Depth, box and cells of a ball on the camera's axis, against closed forms."""
    ball = replace(toy.icosphere(4), face_colors=None)
    pose = torch.eye(4)
    pose[2, 3] = 7.0
    street = streets.Street([ball], [2], [pose], FRUSTUM.camera())
    example = D.make_example(street, FRUSTUM, Environment(torch.ones(4, 8, 3)))
    boxes = example.instances[0]
    assert_close(boxes.centers, torch.tensor([[0.0, 0.0, 7.0]]), atol=1e-6)
    assert_close(boxes.sizes, torch.full((1, 3), 2.0), atol=2e-2)
    assert boxes.labels.tolist() == [2]
    points = FRUSTUM.points()
    rays = points[0] / points[0, ..., 2:]
    a, b = (rays**2).sum(-1), 7 * rays[..., 2]
    root = b**2 - 48 * a
    wanted = torch.where(root > 0, (b - root.clamp_min(0).sqrt()) / a, math.inf)
    sure = (root > 0.5) | (root < -0.5)
    assert_close(example.depth[0][sure], wanted[sure], atol=2e-2)
    inside = (points - torch.tensor([0.0, 0.0, 7.0])).norm(dim=-1)
    assert bool((example.labels[0][inside < 0.98] == 2).all()) and bool((example.labels[0][inside > 1.0] == 0).all())


def test_instances_against_the_meshes():
    street = streets.toy_street(draws(3), objects=8)
    boxes = streets.instances(street)
    assert boxes.labels.tolist() == street.labels[:-1]
    for mesh, pose, center, rotation, size in zip(street.meshes, street.poses, *boxes[:3]):
        points = mesh.vertices @ pose[:3, :3].T + pose[:3, 3]
        points = points @ street.camera.cam_from_world[:3, :3].T + street.camera.cam_from_world[:3, 3]
        local = (points - center) @ rotation
        assert_close(local.amax(0), size / 2, atol=1e-4)
        assert_close(local.amin(0), -size / 2, atol=1e-4)
        assert_close(rotation @ rotation.T, torch.eye(3), atol=1e-5) and float(torch.det(rotation)) > 0
        assert float(rotation[1, 1]) < -0.9  # up is up: the camera's y points down
    alone = streets.Street(street.meshes[-1:], street.labels[-1:], street.poses[-1:], street.camera)
    assert [tuple(x.shape) for x in streets.instances(alone)] == [(0, 3), (0, 3, 3), (0, 3), (0,)]


def test_behind_the_camera_is_not_drawn_but_listed():
    street = streets.toy_street(draws(0), size=(32, 32), fov=math.radians(40), objects=1)
    away = torch.eye(4)
    away[2, 3] = 30.0
    moved = streets.Street(street.meshes, street.labels, [away, street.poses[-1]], street.camera)
    example = D.make_example(moved, FRUSTUM, Environment(torch.ones(4, 8, 3)))
    assert set(example.labels.unique().tolist()) <= {0, 9}
    assert float(example.instances[0].centers[0, 2]) < 0
    with pytest.raises(InputError, match="nothing in the frustum"):
        D.make_example(
            streets.Street(street.meshes[:1], street.labels[:1], [away], street.camera), FRUSTUM, Environment(torch.ones(4, 8, 3))
        )


# Light


@hypothesis_settings(deadline=None, max_examples=8)
@given(st.integers(0, 10**6), st.floats(0.1, 2.0))
def test_exposed_light_shows_white_as_asked(seed, white):
    sky = torch.rand(16, 32, 3, generator=draws(seed)) ** 4 * 100
    normals = torch.nn.functional.normalize(torch.randn(4000, 3, generator=draws(1)), dim=1)
    light = D.exposed(sky, white)
    shown = sample_environment(irradiance_map(light.map), normals) / math.pi
    assert float(shown.mean()) == pytest.approx(white, rel=0.05)


def test_turned_light_turns_the_sky():
    light = Environment(toy.environment((16, 32)), 0.5)
    half = D.turned(light, 0.5, 2.0)
    assert half.strength == 1.0 and torch.equal(half.map[:, :16], light.map[:, 16:])
    assert torch.equal(D.turned(light, 1.0).map, light.map)
    assert 0.33 < D.draw_light([light], draws()).strength < 0.67


def test_picture_is_the_mean_of_moved_ones():
    street, _ = D.make_street(FRUSTUM, 5)
    light, total = Environment(toy.environment((16, 32))), 0
    for du in (-0.25, 0.25):
        for dv in (-0.25, 0.25):
            K = street.camera.K + torch.tensor([[0.0, 0.0, du], [0.0, 0.0, dv], [0.0, 0.0, 0.0]])
            moved = replace(street.camera, K=K)
            total = total + render(street.scene(), moved, light, light, backend="torch", antialias=False).color.clamp(0, 1) / 4
    assert ((D.picture(street, light) - to_srgb(total).permute(2, 0, 1)).abs() > 1e-3).float().mean() < 5e-3


def test_refused(examples):
    street, _ = D.make_street(FRUSTUM, 0)
    light = D.make_lights()[0]
    other = replace(FRUSTUM, size=(16, 16))
    for make, what in (
        (lambda: D.make_examples(0, FRUSTUM, draws()), "count is 0"),
        (lambda: D.make_examples(True, FRUSTUM, draws()), "count is True"),
        (lambda: D.make_examples(1, FRUSTUM, draws(), "toyy"), "did you mean 'toy'"),
        (lambda: D.make_examples(1, FRUSTUM, draws(), split="tests"), "did you mean 'test'"),
        (lambda: D.make_examples(1, FRUSTUM, draws(), lights=[]), "lights is empty"),
        (lambda: D.make_lights("reel"), "did you mean 'real'"),
        (lambda: D.make_example(street, other, light), "does not fit the frustum"),
        (lambda: D.exposed(torch.zeros(4, 8, 3)), "mean radiance 0.0"),
        (lambda: D.join_examples([]), "parts is empty"),
        (lambda: D.class_counts(torch.tensor([0, 10])), "from 0 to 10"),
        (lambda: D.edges(torch.zeros(3, 8, 8)), r"give \(B, 3, H, W\)"),
        (lambda: D.EdgesToImage(4)(torch.zeros(1, 4, 24, 24)), "sides that 16 divides"),
        (lambda: D.EdgesToImage(4, hint=0)(torch.zeros(1, 4, 32, 32)), r"\(B, 1, H, W\)"),
    ):
        with pytest.raises(InputError, match=what):
            make()


@real
def test_real_streets_hold_meshes_out(monkeypatch):
    drawn = []
    whole = streets.real_object
    monkeypatch.setattr(streets, "real_object", lambda name: drawn.append(name) or whole(name))
    example = D.make_examples(2, FRUSTUM, draws(), "real", "test", lights=[Environment(torch.ones(4, 8, 3))])
    assert example.labels.any() and drawn
    held = {n for c in streets.CLASSES[1:-1] for n in streets.real_names(c, "test")}
    assert set(drawn) <= held


# Constants


def test_counts_and_prior():
    labels = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
    labels[0, 0, 0] = 9
    labels[1, 0, 0, 0] = 9
    labels[2, 0, 1, 1] = 4
    assert D.class_counts(labels).tolist() == [8, 0, 0, 0, 1, 0, 0, 0, 0, 3]
    assert D.prior(labels)[0].tolist() == [[9, 0], [0, 0]]
    assert D.prior(labels, power=1.0)[0].tolist() == [[9, 9], [0, 4]]  # 1/3 against 2/8, and 1/1 against 2/8


def test_best_constant_is_the_best_of_its_family(examples):
    answer, power = D.best_constant(examples.labels, steps=5)
    means = {
        p: float(iou(D.prior(examples.labels, power=p).expand(4, -1, -1, -1), examples.labels)[1:].nanmean())
        for p in (0, 0.25, 0.5, 0.75, 1)
    }
    assert means[power] == max(means.values()) and torch.equal(answer, D.prior(examples.labels, power=power))
    assert answer.shape == FRUSTUM.shape


# Files


@pytest.mark.parametrize("compressed", [True, False])
def test_files_come_back(examples, tmp_path, compressed):
    written = D.write_examples(tmp_path, examples, FRUSTUM, "test", 7, compressed)
    assert all(p.is_file() for p in written) and (tmp_path / "test/ColorImages/000010.png") in written
    back, frustum = D.read_examples(tmp_path, "test")
    assert frustum == FRUSTUM and torch.equal(back.labels, examples.labels) and torch.equal(back.depth, examples.depth)
    assert float((back.images - examples.images).abs().max()) < 0.51 / 255
    for a, b in zip(back.instances, examples.instances):
        assert all(torch.equal(x, y) for x, y in zip(a, b))
    part, _ = D.read_examples(tmp_path, "test", slice(1, 3))
    assert torch.equal(part.labels, examples.labels[1:3])


def test_files_that_are_refused(examples, tmp_path):
    one = D.Examples(*(x[:1] for x in examples))
    D.write_examples(tmp_path, one, FRUSTUM)
    with pytest.raises(InputError, match="another frustum"):
        D.write_examples(tmp_path, one, replace(FRUSTUM, far=10.0))
    with pytest.raises(InputError, match="make both alike"):
        D.write_examples(tmp_path, one, replace(FRUSTUM, depth=8))
    with pytest.raises(InputError, match="chooses none"):
        D.read_examples(tmp_path, only=slice(5, 9))
    boxes, depth = tmp_path / "train/Boxes/000000.json", tmp_path / "train/Depths/000000.npz"
    good = boxes.read_text()
    for text, what in (
        ("{", "JSONDecodeError"),
        ('{"centers": []}', "KeyError"),
        (good.replace('"labels": [', '"labels": [1, '), "give one each"),
        (good.replace('"labels": [', '"labels": [null, '), "holds no boxes"),
    ):
        boxes.write_text(text)
        with pytest.raises(InputError, match=what) as found:
            D.read_examples(tmp_path)
        assert "000000.json" in str(found.value)
    boxes.write_text(good)
    depth.write_bytes(depth.read_bytes()[:50])
    with pytest.raises(InputError, match="cannot be read as depth"):
        D.read_examples(tmp_path)
    depth.unlink()
    with pytest.raises(InputError, match="000000.npz"):
        D.read_examples(tmp_path)
    (tmp_path / "frustum.json").write_text("[]")
    with pytest.raises(InputError, match="frustum.json"):
        D.read_examples(tmp_path)


# Edges and painting


def test_edges_of_a_square():
    image = torch.zeros(1, 3, 32, 32)
    image[:, :, 8:24, 8:24] = 1.0
    found = D.edges(image)[0, 0]
    rows, columns = found.nonzero().T
    on = torch.stack([(rows - 7.5).abs(), (rows - 23.5).abs(), (columns - 7.5).abs(), (columns - 23.5).abs()]).amin(0)
    assert found.sum() > 40 and float(on.max()) <= 1.5
    assert not D.edges(torch.full((2, 3, 8, 8), 0.5)).any()
    assert D.edges(image.double()).dtype == torch.float64


def test_edge_agreement_of_known_maps():
    one = torch.zeros(1, 1, 16, 16)
    one[..., 5] = 1
    assert D.edge_agreement(one, one) == pytest.approx(1.0)
    assert D.edge_agreement(one, one.roll(1, 3)) == pytest.approx(1.0)  # a pixel off counts
    assert D.edge_agreement(one, one.roll(5, 3)) == 0
    half = one.clone()
    half[:, :, 8:] = 0
    assert D.edge_agreement(one, half) == pytest.approx(2 / (1 + 16 / 9))  # precision 1, recall 9 / 16


def test_conditions_and_the_untrained_net(examples):
    given = D.conditions(examples.images)
    assert given.shape == (4, 4, 32, 32) and torch.equal(given[:, :1], D.edges(examples.images))
    assert D.conditions(examples.images, 0).shape == (4, 1, 32, 32)
    assert_close(given[:, 1:].mean(), examples.images.mean(), atol=0.02)
    net = D.EdgesToImage(4)
    assert_close(net(given), given[:, 1:].clamp(0.02, 0.98), atol=1e-5)  # it begins as the tiles
    assert D.PatchDiscriminator(4)(given, examples.images).shape[:2] == (4, 1)


@pytest.mark.parametrize("adversarial", [0.0, 1.0])
def test_training_repeats_and_learns(examples, adversarial):
    before = torch.get_rng_state()
    net, history = D.train_realism(examples.images, 30, draws(2), width=8, batch=4, adversarial=adversarial, rate=2e-3)
    assert torch.equal(torch.get_rng_state(), before)  # nobody else's draws are touched
    _, again = D.train_realism(examples.images, 30, draws(2), width=8, batch=4, adversarial=adversarial, rate=2e-3)
    assert history == again
    assert sum(d for d, _ in history[-5:]) < 0.8 * sum(d for d, _ in history[:5])
    assert (history[-1][1] > 0) == bool(adversarial)
    painted = D.restyle(net, examples.images)
    assert painted.shape == examples.images.shape and not painted.requires_grad and 0 <= painted.min() and painted.max() <= 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_painting_on_a_gpu(examples):
    net, history = D.train_realism(examples.images.cuda(), 3, draws(), width=8, batch=2)
    assert D.restyle(net, examples.images.cuda()).is_cuda and all(math.isfinite(d) for d, _ in history)
