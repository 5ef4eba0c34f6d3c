"""Shape spaces: against closed forms where the fields are linear by construction, against slow twins, and by their laws."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from densebook.core.errors import InputError
from densebook.core.seeds import generator
from densebook.data import categories, toy
from densebook.geometry.mesh import Mesh, transform
from densebook.geometry.poses import inverse, pose, so3_exp
from densebook.geometry.poses import transform as move
from densebook.registration import cpd, shape_space
from densebook.registration.shape_space import ShapeSpace
from densebook.testing import assert_close, assert_grad

BALL = toy.icosphere(2, 0.1).to(torch.float64)


def linear(count: int = 7, latents: int = 2, noise: float = 0.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Fields mean + z S B with known orthonormal directions B and standard deviations S, whose sample covariance is exact."""
    draw = generator(3)
    directions = torch.linalg.qr(torch.randn(BALL.vertices.numel(), latents, generator=draw, dtype=torch.float64))[0].T
    z = torch.randn(count, latents, generator=draw, dtype=torch.float64)
    z = torch.linalg.qr(z - z.mean(0))[0] * math.sqrt(count - 1)  # uncorrelated, of standard deviation 1, mean 0
    z = z - z.mean(0)
    scales = torch.tensor([0.3, 0.1, 0.05], dtype=torch.float64)[:latents]
    fields = (z * scales) @ directions + 0.01
    return fields.view(count, -1, 3), directions, scales


@pytest.fixture(scope="module")
def bottles() -> list[Mesh]:
    return [i.mesh for i in categories.instances("bottle", "toy", dtype=torch.float64)]


@pytest.fixture(scope="module")
def space(bottles) -> ShapeSpace:
    canonical = bottles[0]
    return ShapeSpace.from_fields(canonical, torch.stack([m.vertices - canonical.vertices for m in bottles[:8]]), 5)


# Principal components


def test_principal_finds_the_directions_that_the_samples_were_made_of():
    fields, directions, scales = linear()
    mean, found, deviations, explained = shape_space.principal(fields.flatten(1), 5)
    assert len(found) == 2, "the samples span two directions, whatever is asked for"
    assert_close(deviations, scales)
    assert_close((found @ directions.T).abs(), torch.eye(2, dtype=torch.float64), atol=1e-9)
    assert_close(explained, scales.square() / scales.square().sum())
    assert_close(mean, torch.full_like(mean, 0.01), atol=1e-12)


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 8), st.integers(3, 9), st.integers(0, 1000))
def test_principal_equals_the_covariance_twin(count, size, seed):
    samples = torch.randn(count, size, generator=generator(seed), dtype=torch.float64)
    mean, directions, deviations, explained = shape_space.principal(samples, 2)
    values, vectors = torch.linalg.eigh(torch.cov(samples.T))
    assert_close(deviations, values.flip(0)[: len(deviations)].sqrt(), rtol=1e-8)
    assert_close((directions @ vectors.flip(1)[:, : len(deviations)]).diagonal().abs(), torch.ones_like(deviations), atol=1e-7)
    assert_close(explained, (values.flip(0) / values.sum())[: len(explained)], rtol=1e-8)
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    assert bool((largest > 0).all()), "the sign is chosen, not found"


# The space


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_decode_is_the_linear_map_it_says(dtype):
    fields, _, _ = linear()
    space = ShapeSpace.from_fields(BALL.to(dtype), fields.to(dtype))
    assert space.latents == 2 and space.mean.dtype == dtype
    z = torch.tensor([[1.0, -2.0], [0.0, 0.0]], dtype=dtype)
    slow = space.mean + sum(z[0, l] * space.scales[l] * space.components[l] for l in range(2))
    assert_close(space.decode(z)[0], slow)
    assert_close(space.decode(z)[1], space.mean)
    assert_close(space.mesh(z[0]).vertices, slow)
    assert torch.equal(space.mesh(z[0]).faces, BALL.faces)


def test_training_instances_come_back_from_their_latents(bottles):
    canonical = bottles[0]
    whole = ShapeSpace.from_fields(canonical, torch.stack([m.vertices - canonical.vertices for m in bottles]), 9)
    vertices = torch.stack([m.vertices for m in bottles])
    z = whole.encode(vertices)
    assert_close(whole.decode(z), vertices, atol=1e-6)
    assert_close(z.mean(0), torch.zeros(whole.latents, dtype=torch.float64), atol=1e-6)
    assert_close(z.std(0), torch.ones(whole.latents, dtype=torch.float64), rtol=1e-6)
    assert_close(whole.explained.sum(), torch.tensor(1.0, dtype=torch.float64))


@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=5, max_size=5))
def test_encode_undoes_decode(space, z):
    z = torch.tensor(z, dtype=torch.float64)
    assert_close(space.encode(space.decode(z)), z, atol=1e-9)


def test_encode_is_the_nearest_shape_and_decode_has_its_gradient(space, bottles):
    held = bottles[-1].vertices
    z = space.encode(held).requires_grad_()
    loss = (space.decode(z) - held).square().sum()
    (slope,) = torch.autograd.grad(loss, z)
    assert float(slope.abs().max()) < 1e-10, "no latent near it has a smaller error"
    assert_grad(lambda z: space.decode(z)[::40], torch.randn(2, 5, generator=generator(0), dtype=torch.float64))


def test_fewer_instances_give_fewer_latents(bottles):
    fields = torch.stack([m.vertices - bottles[0].vertices for m in bottles[:3]])
    assert ShapeSpace.from_fields(bottles[0], fields, 5).latents == 2


def test_save_and_load(space, tmp_path):
    path = space.save(tmp_path / "bottle.safetensors")
    again = ShapeSpace.load(path)
    z = torch.randn(5, generator=generator(0), dtype=torch.float64)
    assert torch.equal(again.components, space.components) and again.on == space.on
    assert_close(again.decode(z), space.decode(z))
    assert torch.equal(again.canonical.colors, space.canonical.colors)
    (tmp_path / "torn.safetensors").write_bytes(path.read_bytes()[:100])
    (tmp_path / "text.safetensors").write_text("no tensors")
    for name in ("torn", "text", "absent"):
        with pytest.raises(InputError, match="holds no shape space"):
            ShapeSpace.load(tmp_path / f"{name}.safetensors")


# Correspondences


def test_correspond_carries_the_box_and_the_shape(bottles):
    found = shape_space.correspond(bottles[0], bottles[3], points=200, generator=generator(0))
    there = replace(bottles[0], vertices=bottles[0].vertices + found.field)
    before = shape_space.surface_error(bottles[0], bottles[3], 300, generator(1))
    after = shape_space.surface_error(there, bottles[3], 300, generator(1))
    assert after[0] < 0.2 * before[0] and after[1] < 0.1 * before[1]
    G = cpd.gaussian_kernel(bottles[0].vertices, found.centers, found.beta)
    assert float((G @ found.W - found.field).norm(dim=1).mean()) < 0.1 * float(found.field.norm(dim=1).mean()), "W stands for the field"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pure_scaling_is_found_by_the_box_alone(dtype):
    T = torch.diag(torch.tensor([1.3, 0.8, 1.1, 1.0]))
    mesh = BALL.to(dtype)
    found = shape_space.correspond(mesh, transform(mesh, T), points=150, generator=generator(0))
    assert found.field.dtype == dtype
    assert float((mesh.vertices + found.field - transform(mesh, T).vertices).norm(dim=1).mean()) < 0.01


def test_both_spaces_agree_where_there_is_nothing_to_lose(bottles):
    """With as many latents as instances allow, components of W and of G W span the same shapes, up to how well W stands for the field."""
    train = bottles[:4]
    motions = shape_space.correspond_all(bottles[0], train, points=150, generator=generator(0))
    assert float(motions[0].field.abs().max()) == 0, "the canonical does not move"
    spaces = [ShapeSpace.from_motions(bottles[0], motions, 5, on=on) for on in shape_space.SPACES]
    assert [s.latents for s in spaces] == [3, 3]
    for s in spaces:
        assert_close(s.components.flatten(1).norm(dim=1), torch.ones(3, dtype=torch.float64))
        goal = bottles[0].vertices + motions[2].field
        assert float((s.decode(s.encode(goal)) - goal).norm(dim=1).mean()) < 2e-3


def test_fit_is_correspond_all_and_principal(bottles):
    one = ShapeSpace.fit(bottles[0], bottles[:3], 2, points=100, generator=generator(4), max_iterations=10)
    motions = shape_space.correspond_all(bottles[0], bottles[:3], points=100, generator=generator(4), max_iterations=10)
    two = ShapeSpace.from_motions(bottles[0], motions, 2)
    assert torch.equal(one.components, two.components) and torch.equal(one.mean, two.mean)
    weights = ShapeSpace.fit(bottles[0], bottles[:3], 2, on="W", points=100, generator=generator(4), max_iterations=10)
    assert weights.on == "W" and weights.latents == 2


def test_displacements_explain_more_with_fewer_components(bottles):
    motions = shape_space.correspond_all(bottles[0], bottles[:8], points=200, generator=generator(0))
    ours, paper = (ShapeSpace.from_motions(bottles[0], motions, 3, on=on) for on in ("displacement", "W"))
    assert float(ours.explained.sum()) > 0.9 > float(paper.explained.sum())


def test_canonical_is_the_one_in_the_middle():
    meshes = [toy.icosphere(2, r) for r in (0.08, 0.1, 0.11, 0.15)]
    chosen, apart = shape_space.choose_canonical(meshes, 200, generator(0))
    assert chosen in (1, 2)
    assert_close(apart, apart.T)
    assert float(apart[0, 3]) == pytest.approx(0.07, rel=0.05)


def test_surface_error_of_concentric_spheres():
    a, b = toy.icosphere(4, 0.1), toy.icosphere(4, 0.13)
    mean, square = shape_space.surface_error(a, b, 300, generator(0))
    assert mean == pytest.approx(0.03, rel=0.02) and square == pytest.approx(0.03**2, rel=0.04)


# Points


def half(mesh: Mesh, seed: int = 0) -> torch.Tensor:
    points = categories.points(mesh, 500, generator(seed))
    return points[points[:, 2] > 0]


def test_fit_points_finds_the_shape_from_one_side(space):
    z = torch.tensor([1.0, -1.0, 0.5, 0.0, 0.5], dtype=torch.float64)
    truth = space.mesh(z)
    found, T = shape_space.fit_points(space, half(truth))
    assert_close(T, torch.eye(4, dtype=torch.float64))
    before = shape_space.surface_error(space.mesh(0 * z), truth, 300, generator(1))[0]
    assert shape_space.surface_error(space.mesh(found), truth, 300, generator(1))[0] < 0.25 * before


def test_fit_points_finds_a_known_pose_with_the_shape(space):
    truth = space.mesh(torch.tensor([0.5, -1.0, 0.0, 0.0, 0.0], dtype=torch.float64))
    away = pose(so3_exp(torch.tensor([0.1, 0.0, 0.1])), torch.tensor([0.01, -0.01, 0.01])).double()
    cloud = move(away, categories.points(truth, 500, generator(0)))
    z, T = shape_space.fit_points(space, cloud, pose=True)
    there = transform(space.mesh(z), T)
    assert shape_space.surface_error(there, transform(truth, away), 300, generator(1))[0] < 2e-3
    kept, same = shape_space.fit_points(space, cloud, start=away)
    assert_close(same, away)
    assert shape_space.surface_error(space.mesh(kept), truth, 300, generator(1))[0] < 2e-3


def test_one_step_solves_where_pairs_are_known(space):
    """Vertices themselves, nearly at their place: one Gauss-Newton step from the truth's neighbourhood lands on it."""
    z = 0.02 * torch.tensor([1.0, -1.0, 0.5, 0.3, -0.5], dtype=torch.float64)
    cloud = space.decode(z)
    found, _, _ = shape_space._step(space, torch.zeros(5, dtype=torch.float64), torch.eye(4, dtype=torch.float64), cloud, False, 0.0, 1.0)
    assert_close(found, z, atol=2e-3)


def test_more_noise_keeps_the_latent_nearer_to_the_mean(space):
    truth = space.mesh(torch.tensor([2.0, 0, 0, 0, 0], dtype=torch.float64))
    firm, shy = (shape_space.fit_points(space, half(truth), noise=n)[0] for n in (1e-3, 1.0))
    assert float(shy.norm()) < 0.5 * float(firm.norm())


def test_moving_cloud_and_start_together_changes_nothing(space):
    cloud = half(space.mesh(torch.tensor([1.0, 0.5, 0, 0, 0], dtype=torch.float64)))
    away = pose(so3_exp(torch.tensor([0.3, -0.5, 0.2])), torch.tensor([0.3, 0.1, -0.2])).double()
    z, T = shape_space.fit_points(space, cloud, pose=True, iterations=12)
    z2, T2 = shape_space.fit_points(space, move(away, cloud), pose=True, start=away, iterations=12)
    assert_close(z2, z, atol=1e-5)
    assert_close(inverse(away) @ T2, T, atol=1e-6)


# Widgets and errors


def test_sliders_draw_the_shape_they_say(space):
    pytest.importorskip("ipywidgets")
    seen = []

    def draw(mesh):
        seen.append(mesh.vertices)
        return torch.zeros(4, 4, 3).numpy()

    box = shape_space.morph(space, draw)
    sliders, image = box.children[0].children, box.children[1]
    assert len(sliders) == 5 and 'alt="' in image.value and "data:image/jpeg" in image.value
    sliders[1].value = 1.5
    assert_close(seen[-1], space.decode(torch.tensor([0, 1.5, 0, 0, 0], dtype=torch.float64)))
    assert "1.5" in image.value


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda s: s.decode(torch.zeros(4)), "this space has 5 latents"),
        (lambda s: s.decode([0.0] * 5), "z is list"),
        (lambda s: s.decode(torch.full((5,), torch.nan)), "NaN"),
        (lambda s: s.mesh(torch.zeros(2, 5)), "one shape"),
        (lambda s: s.encode(torch.zeros(7, 3)), "vertices is (7, 3)"),
        (lambda s: s.encode(torch.full_like(s.mean, torch.inf)), "infinity"),
        (lambda s: ShapeSpace.from_fields(s.canonical, torch.zeros(3, 7, 3)), "(3, 7, 3)"),
        (lambda s: ShapeSpace.from_fields(s.canonical, torch.zeros(3, *s.mean.shape)), "nothing varies"),
        (lambda s: ShapeSpace.from_fields(s.canonical, torch.full((3, *s.mean.shape), torch.nan)), "NaN"),
        (lambda s: ShapeSpace.from_fields(s.canonical, torch.randn(3, *s.mean.shape), 0), "latents is 0"),
        (lambda s: ShapeSpace.fit(s.canonical, []), "instances holds 0"),
        (lambda s: ShapeSpace.fit(s.canonical, [s.canonical] * 2, on="GW"), "on 'GW'"),
        (lambda s: ShapeSpace.fit(Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64)), [BALL, BALL]), "canonical"),
        (lambda s: shape_space.choose_canonical([]), "meshes is empty"),
        (lambda s: shape_space.fit_points(s, torch.zeros(0, 3)), "points is"),
        (lambda s: shape_space.fit_points(s, torch.tensor([[0.0, torch.nan, 0.0]])), "points[0]"),
        (lambda s: shape_space.fit_points(s, torch.zeros(3, 3), noise=0), "noise is 0"),
    ],
)
def test_bad_input_is_one_clear_sentence(space, call, says):
    with pytest.raises(InputError) as caught:
        call(space)
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu(space):
    z, there = torch.tensor([1.0, -1.0, 0.5, 0.0, 0.5], dtype=torch.float64), space.to("cuda")
    assert_close(there.decode(z.cuda()).cpu(), space.decode(z))
    assert_close(there.encode(there.decode(z.cuda())).cpu(), z, atol=1e-9)
    cloud = half(space.mesh(z))
    assert_close(shape_space.fit_points(there, cloud.cuda())[0].cpu(), shape_space.fit_points(space, cloud)[0], atol=1e-6)
    found = ShapeSpace.fit(there.canonical, [there.mesh(k * z.cuda()) for k in (0.0, 1.0)], points=100, generator=generator(0))
    assert found.mean.is_cuda and found.latents == 1
