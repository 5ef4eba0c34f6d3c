"""Laws, closed forms, finite differences and peers for the poses, in float32 and float64."""

import inspect
import math

import numpy as np
import pytest
import roma
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from densebook.core.errors import InputError
from densebook.geometry import poses
from densebook.testing import assert_close, assert_equivariant, assert_grad

DTYPES = (torch.float32, torch.float64)
both = pytest.mark.parametrize("dtype", DTYPES, ids=str)
ROOM = {torch.float32: 1e-5, torch.float64: 2e-14}
# from 0 to pi, with what breaks formulas: the switch of the series, roundings of 0 and of pi
ANGLES = (
    0.0,
    1e-300,
    1e-20,
    1e-12,
    1e-8,
    1e-4,
    0.19,
    0.2,
    0.21,
    0.999,
    1.0,
    1.001,
    2.0,
    3.0,
    math.pi - 1e-3,
    math.pi - 1e-6,
    math.pi - 1e-9,
)
CUBE = torch.tensor([[x, y, z] for x in (-1.0, 1) for y in (-1.0, 1) for z in (-1.0, 1)], dtype=torch.float64)
SETS = {
    "cube": CUBE,
    "octahedron": torch.cat((torch.eye(3), -torch.eye(3))).double(),
    "square": CUBE[::2] * torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64),
    "three points": torch.eye(3, dtype=torch.float64),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_xi(n, dtype=torch.float64, largest=3.1, seed=0):
    draw = torch.randn(n, 6, generator=generator(seed), dtype=torch.float64)
    axis = torch.nn.functional.normalize(draw[:, 3:], dim=-1)
    angle = largest * torch.rand(n, 1, generator=generator(seed + 1), dtype=torch.float64)
    return torch.cat((draw[:, :3], angle * axis), dim=-1).to(dtype)


def random_points(*shape, dtype=torch.float64, seed=5):
    return torch.randn(*shape, 3, generator=generator(seed), dtype=torch.float64).to(dtype)


@both
def test_exp_is_the_matrix_exponential(dtype):
    xi = torch.cat([random_xi(20, dtype) * s for s in (0.0, 1e-8, 1e-3, 0.3, 1.0, 2.0)])
    X = torch.zeros(len(xi), 4, 4, dtype=torch.float64)
    X[:, :3, :3], X[:, :3, 3] = poses.hat(xi[:, 3:].double()), xi[:, :3].double()
    assert_close(poses.exp(xi), torch.linalg.matrix_exp(X).to(dtype), rtol=0, atol=ROOM[dtype])
    assert_close(poses.so3_exp(xi[:, 3:]), poses.exp(xi)[:, :3, :3])


@both
def test_series_and_closed_forms_meet(dtype):
    for angle in (0.99, 0.999999, 1.000001, 1.01):  # both sides of the switch, against the closed forms in numpy's long double
        phi = torch.tensor([angle, 0, 0], dtype=dtype)
        t = np.longdouble(phi[0].item())
        expected = (np.sin(t) / t, (1 - np.cos(t)) / t**2, (t - np.sin(t)) / t**3, (1 - t / 2 / np.tan(t / 2)) / t**2)
        for found, e in zip(poses._coefficients(phi), expected):
            assert found.dtype == dtype
            assert_close(found.item(), float(e), rtol=20 * torch.finfo(dtype).eps, atol=0)


@both
@pytest.mark.parametrize("angle", ANGLES)
def test_log_inverts_exp_at_every_angle(dtype, angle):
    axes = torch.nn.functional.normalize(random_points(50), dim=-1)
    axes = torch.cat((axes, torch.eye(3).double(), -torch.eye(3).double(), torch.tensor([[1.0, 1, 0]]).double() / math.sqrt(2)))
    phi = angle * axes
    found = poses.so3_log(poses.so3_exp(phi).to(dtype)).double()
    error = torch.minimum((found - phi).norm(dim=-1), (found - phi + 2 * math.pi * axes).norm(dim=-1))
    assert error.max() <= {torch.float32: 1e-6, torch.float64: 3e-15}[dtype]
    if angle < 1e-3:  # relative digits as well
        assert error.max() <= 4 * torch.finfo(dtype).eps * angle


@both
def test_log_at_pi_exactly(dtype):
    for axis in torch.cat((torch.eye(3), torch.tensor([[0.6, 0.0, 0.8]]))).to(dtype):
        R = 2 * torch.outer(axis, axis) - torch.eye(3, dtype=dtype)
        phi = poses.so3_log(R)
        assert_close(phi.norm().item(), math.pi, rtol=1e-6)
        assert_close((phi @ axis).abs().item(), math.pi, rtol=1e-6)
        R.requires_grad_()
        poses.so3_log(R).sum().backward()
        assert R.grad.isfinite().all()


@both
def test_laws(dtype):
    xi = random_xi(300, dtype)
    T, A, B = poses.exp(xi), poses.exp(random_xi(300, dtype, math.pi, 3)), poses.exp(random_xi(300, dtype, math.pi, 7))
    room = {"rtol": 0, "atol": 10 * ROOM[dtype]}
    assert_close(poses.log(T), xi, **room)
    assert_close(poses.exp(poses.log(A)), A, **room)
    assert_close(T @ poses.inverse(T), torch.eye(4, dtype=dtype).expand(300, 4, 4), **room)
    assert_close(poses.inverse(A @ B), poses.inverse(B) @ poses.inverse(A), **room)
    assert_close((A @ B) @ T, A @ (B @ T), **room)
    assert_close(poses.exp(-xi), poses.inverse(T), **room)
    assert_close(A @ T @ poses.inverse(A), poses.exp((poses.adjoint(A) @ xi[..., None])[..., 0]), **room)
    assert_close(poses.adjoint(A @ B), poses.adjoint(A) @ poses.adjoint(B), **room)
    points = random_points(300, 5, dtype=dtype)
    assert_close(poses.transform(A, poses.transform(B, points)), poses.transform(A @ B, points), **room)
    assert poses.exp(xi).dtype == poses.log(T).dtype == dtype


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1.8, 1.8), min_size=3, max_size=3), st.lists(st.floats(-100, 100), min_size=3, max_size=3))
def test_round_trip_property(phi, rho):
    xi = torch.tensor([*rho, *phi], dtype=torch.float64)
    assert_close(poses.log(poses.exp(xi)), xi, rtol=0, atol=1e-12)


@both
def test_quaternions_agree_with_scipy_and_are_w_first(dtype):
    q = torch.nn.functional.normalize(torch.randn(200, 4, generator=generator(), dtype=torch.float64), dim=-1)
    R = torch.as_tensor(Rotation.from_quat(q.numpy(), scalar_first=True).as_matrix())
    assert_close(poses.rotation_from_quaternion(q.to(dtype)), R.to(dtype), rtol=0, atol=ROOM[dtype])
    assert_close(poses.rotation_from_quaternion(-3 * q.to(dtype)), R.to(dtype), rtol=0, atol=ROOM[dtype])
    back = poses.quaternion_from_rotation(R.to(dtype))
    assert (back[:, 0] >= 0).all()
    assert_close(back, torch.where(q[:, :1] < 0, -q, q).to(dtype), rtol=0, atol=ROOM[dtype])
    assert_close(poses.quaternion_from_rotation(torch.eye(3, dtype=dtype)), torch.tensor([1.0, 0, 0, 0], dtype=dtype))
    tiny = torch.tensor([1e-25, 0, 0, 0], dtype=dtype)
    assert_close(poses.rotation_from_quaternion(tiny), torch.eye(3, dtype=dtype))


@both
def test_log_agrees_with_peers(dtype):
    R = poses.so3_exp(random_xi(200, dtype)[:, 3:])
    assert_close(poses.so3_log(R), roma.rotmat_to_rotvec(R), rtol=0, atol=5 * ROOM[dtype])
    scipy = torch.as_tensor(Rotation.from_matrix(R.double().numpy()).as_rotvec()).to(dtype)
    assert_close(poses.so3_log(R), scipy, rtol=0, atol=5 * ROOM[dtype])


@pytest.mark.parametrize("angle", (0.0, 1e-9, 1e-4, 0.999, 1.001, 2.0, math.pi - 1e-6, math.pi - 1e-9))
def test_gradients_at_every_angle(angle):
    xi = torch.tensor([0.3, -1.0, 2.0, *(angle * x for x in (2 / 3, -2 / 3, 1 / 3))], dtype=torch.float64)
    J = torch.autograd.functional.jacobian(lambda x: poses.log(poses.exp(x)), xi)
    assert_close(J, torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-11)
    assert_grad(poses.exp, xi)
    if angle < 3:  # a step of the differences must not cross pi
        T = poses.exp(xi)  # moved along motions: off them log means nothing, and differs between the quaternion's branches
        assert_grad(lambda d: poses.log(T @ poses.exp(d)), torch.zeros(6, dtype=torch.float64))
    H = torch.autograd.functional.hessian(lambda x: poses.exp(x).sum() + poses.log(poses.exp(0.5 * x)).sum(), xi)
    assert H.isfinite().all()


@both
def test_gradients_are_finite_in_both_dtypes(dtype):
    for angle in (0.0, 1e-6, 1e-3, math.pi - 1e-4, math.pi - 1e-7):
        xi = torch.tensor([0.3, -1.0, 2.0, 0.0, 0.0, angle], dtype=dtype)
        J = torch.autograd.functional.jacobian(lambda x: poses.exp(x), xi)
        assert J.isfinite().all()
        G = torch.autograd.functional.jacobian(poses.log, poses.exp(xi))
        assert G.isfinite().all() and G.abs().max() < 100


@both
def test_interpolate(dtype):
    A, B = poses.exp(random_xi(2, dtype, 1.5))
    room = {"rtol": 0, "atol": 3 * ROOM[dtype]}
    assert_close(poses.interpolate(A, B, 0.0), A, **room)
    assert_close(poses.interpolate(A, B, 1.0), B, **room)
    t = torch.linspace(-0.5, 1.5, 9, dtype=dtype)
    path = poses.interpolate(A, B, t)
    assert path.shape == (9, 4, 4)
    assert_close(path, poses.interpolate(B, A, 1 - t), rtol=0, atol=10 * ROOM[dtype])
    steps = poses.log(poses.inverse(path[:-1]) @ path[1:])
    assert_close(steps, steps[:1].expand_as(steps), rtol=0, atol=20 * ROOM[dtype])  # constant velocity
    C = poses.exp(random_xi(1, dtype, seed=9))[0]
    assert_close(poses.interpolate(C @ A, C @ B, 0.3), C @ poses.interpolate(A, B, 0.3), **room)  # does not depend on the frame
    assert_grad(lambda a, b, t: poses.interpolate(poses.exp(a), poses.exp(b), t), *random_xi(2, largest=1.0), torch.tensor(0.3))
    assert_grad(lambda a: poses.interpolate(poses.exp(a), poses.exp(a), 0.3), random_xi(1)[0])  # nothing between A and A


@both
def test_shapes_and_batches(dtype):
    assert poses.exp(torch.zeros(2, 3, 6, dtype=dtype)).shape == (2, 3, 4, 4)
    assert poses.log(torch.eye(4, dtype=dtype).expand(2, 3, 4, 4)).shape == (2, 3, 6)
    assert poses.exp(torch.zeros(0, 6, dtype=dtype)).shape == (0, 4, 4)
    assert poses.log(torch.zeros(0, 4, 4, dtype=dtype)).shape == (0, 6)
    T, points = poses.exp(random_xi(4, dtype)), random_points(7, dtype=dtype)
    assert poses.transform(T, points).shape == (4, 7, 3)
    assert_close(poses.transform(T, points)[2], poses.transform(T[2], points))
    assert_close(poses.pose(T[0, :3, :3], T[:, :3, 3])[1, :3, 3], T[1, :3, 3])
    x, y = random_points(2, 5, 6, dtype=dtype), random_points(2, 5, 6, dtype=dtype, seed=6)
    assert_close(poses.kabsch(x, y)[1, 3], poses.kabsch(x[1, 3], y[1, 3]))
    assert poses.kabsch(x[0, 0], y).shape == (2, 5, 4, 4)


@both
def test_kabsch_recovers_and_agrees_with_peers(dtype):
    T = poses.exp(random_xi(10, dtype, math.pi))
    x = random_points(30, dtype=dtype)
    assert_close(poses.kabsch(x, poses.transform(T, x)), T, rtol=0, atol=10 * ROOM[dtype])
    y = poses.transform(T, x) + 0.3 * random_points(10, 30, dtype=dtype, seed=8)
    w = torch.rand(30, generator=generator(), dtype=torch.float64).to(dtype)
    for k, found in enumerate(poses.kabsch(x, y, w)):
        a, b = ((w[:, None] * v).sum(0) / w.sum() for v in (x, y[k]))
        peer = Rotation.align_vectors((y[k] - b).double(), (x - a).double(), weights=w.double())[0].as_matrix()
        assert_close(found[:3, :3], torch.as_tensor(peer).to(dtype), rtol=0, atol=10 * ROOM[dtype])
        assert_close(found[:3, 3], b - found[:3, :3] @ a, rtol=0, atol=10 * ROOM[dtype])
    R, t = roma.rigid_points_registration(x.expand(10, 30, 3), y)
    assert_close(poses.kabsch(x, y), poses.pose(R, t), rtol=0, atol=20 * ROOM[dtype])


def test_kabsch_is_the_minimum():
    x, y = random_points(12), random_points(12, seed=6)
    w = torch.rand(12, generator=generator(), dtype=torch.float64)

    def cost(T):
        return (w * (poses.transform(T, x) - y).square().sum(-1)).sum(-1)

    T = poses.kabsch(x, y, w)
    nearby = T @ poses.exp(0.01 * random_xi(200))
    assert (cost(nearby) >= cost(T)).all()


@both
def test_kabsch_never_mirrors(dtype):
    x = random_points(20, dtype=dtype)
    for y in (x * torch.tensor([-1.0, 1, 1], dtype=dtype), -x, random_points(20, dtype=dtype, seed=6)):
        assert_close(torch.linalg.det(poses.kabsch(x, y)[:3, :3]).item(), 1.0, rtol=1e-5)
    flat = x * torch.tensor([1.0, 1, 0], dtype=dtype)
    noisy = flat + 0.05 * random_points(200, 20, dtype=dtype, seed=7)
    assert (torch.linalg.det(poses.kabsch(flat, noisy)[:, :3, :3]) > 0.99).all()


@both
def test_kabsch_equivariance(dtype):
    A, B = poses.exp(random_xi(2, dtype))
    x, y = random_points(15, dtype=dtype), random_points(15, dtype=dtype, seed=6)
    y = x + 0.2 * y
    w = torch.rand(15, generator=generator(), dtype=torch.float64).to(dtype)
    order = torch.randperm(15, generator=generator())
    twice = torch.cat((order, order))
    actions = {
        "moving the source": (lambda x, y, w: (poses.transform(A, x), y, w), lambda T: T @ poses.inverse(A)),
        "moving the target": (lambda x, y, w: (x, poses.transform(B, y), w), lambda T: B @ T),
        "swapping": (lambda x, y, w: (y, x, w), poses.inverse),
        "reordering": (lambda x, y, w: (x[order], y[order], w[order]), None),
        "doubling": (lambda x, y, w: (x[twice], y[twice], w[twice]), None),
        "scaling the weights": (lambda x, y, w: (x, y, 100 * w), None),
    }
    assert_equivariant(poses.kabsch, actions, x, y, w, rtol=0, atol=10 * ROOM[dtype])


@both
def test_kabsch_scale_and_sizes(dtype):
    T = poses.exp(random_xi(1, dtype))[0]
    x = random_points(10, dtype=dtype)
    S = poses.kabsch(x, 2.5 * poses.transform(T, x), scale=True)
    assert_close(S[:3, :3], 2.5 * T[:3, :3], rtol=0, atol=10 * ROOM[dtype])
    assert_close(poses.transform(S, x), 2.5 * poses.transform(T, x), rtol=0, atol=20 * ROOM[dtype])
    R = T[:3, :3]
    for size in (1e-25, 1e-10, 1e10, 1e25):  # squares of which float32 cannot hold
        assert_close(poses.kabsch(size * x, size * x @ R.mT)[:3, :3], R, rtol=0, atol=10 * ROOM[dtype])
    far = x + 100
    assert_close(poses.kabsch(far, far @ R.mT)[:3, :3], R, rtol=0, atol=1e4 * ROOM[dtype])


def test_weights_of_zero_leave_pairs_out():
    x, y = random_points(9), random_points(9, seed=6)
    w = torch.ones(9, dtype=torch.float64)
    w[6:] = 0
    assert_close(poses.kabsch(x, y, w), poses.kabsch(x[:6], y[:6]))


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("turned", (False, True))
def test_kabsch_gradient_on_symmetric_and_flat_sets(name, turned):
    x = SETS[name]
    T = poses.exp(random_xi(1)[0]) if turned else torch.eye(4, dtype=torch.float64)
    y = poses.transform(T, x)
    w = torch.linspace(1, 2, len(x), dtype=torch.float64)
    assert_grad(poses.kabsch, x, y)
    assert_grad(lambda x, y: poses.kabsch(x, y, scale=True), x, y)
    assert_grad(lambda x, y, w: poses.kabsch(x, y, w), x, y + 0.1 * random_points(len(x)), w)
    for dtype in DTYPES:
        target = y.to(dtype, copy=True).requires_grad_()
        (poses.kabsch(x.to(dtype), target)[:3, :3] * torch.arange(9, dtype=dtype).sin().reshape(3, 3)).sum().backward()
        reference = y.clone().requires_grad_()
        (poses.kabsch(x, reference)[:3, :3] * torch.arange(9, dtype=torch.float64).sin().reshape(3, 3)).sum().backward()
        assert_close(target.grad, reference.grad.to(dtype), rtol=0, atol=ROOM[dtype] * 100)


def test_svd_fails_where_kabsch_does_not():
    y = CUBE.clone().requires_grad_()
    U, _, Vh = torch.linalg.svd(y.mT @ CUBE)
    ((U @ Vh) * torch.arange(9.0).reshape(3, 3)).sum().backward()
    assert not y.grad.isfinite().all()
    x = CUBE.clone().requires_grad_()
    poses.kabsch(CUBE, x)[0, 1].backward()
    assert x.grad.isfinite().all() and x.grad.abs().max() > 0.01


def test_kabsch_gradient_of_a_mirror_pair():
    x = random_points(10) * torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    assert_grad(poses.kabsch, x, x * torch.tensor([-1.0, 1, 1], dtype=torch.float64))  # det < 0 inside: s3 counts negative


def test_kabsch_second_derivative():
    x, y = SETS["octahedron"], random_points(6)
    assert torch.autograd.gradgradcheck(lambda y: poses.kabsch(x, y), y.requires_grad_())


@both
def test_kabsch_gradient_is_finite_on_a_line_and_a_point(dtype):
    line = torch.linspace(-1, 2, 6, dtype=dtype)[:, None] * torch.tensor([1.0, 2, -1], dtype=dtype)
    T = poses.exp(random_xi(1, dtype))[0]
    for x in (line, torch.ones(4, 3, dtype=dtype), torch.zeros(4, 3, dtype=dtype)):
        y = poses.transform(T, x).requires_grad_()
        x = x.clone().requires_grad_()
        found = poses.kabsch(x, y, scale=True)
        found.square().sum().backward()
        found = poses.kabsch(x, y)
        assert_close(torch.linalg.det(found[:3, :3]).item(), 1.0, rtol=1e-5)
        assert_close(poses.transform(found, x), y, rtol=0, atol=10 * ROOM[dtype])
        (found * torch.arange(16, dtype=dtype).reshape(4, 4)).sum().backward()
        assert x.grad.isfinite().all() and y.grad.isfinite().all()
        assert max(x.grad.abs().max(), y.grad.abs().max()) < 1e3
    if dtype == torch.float64:  # what the free turn does not touch has the right gradient
        assert_grad(lambda y: poses.transform(poses.kabsch(line, y), line), poses.transform(T, line))


def test_bad_input_is_named():
    x, eye, nan = random_points(5), torch.eye(4), torch.full((4, 4), torch.nan)
    for call, words in (
        (lambda: poses.exp(torch.zeros(3)), r"xi must have shape \(\.\.\., 6\), got \(3,\)"),
        (lambda: poses.exp(torch.full((6,), torch.inf)), "xi holds NaN or infinity"),
        (lambda: poses.exp([0.0] * 6), "xi must be a float32 or float64 tensor, got list"),
        (lambda: poses.log(nan), "T holds NaN"),
        (lambda: poses.log(2 * eye), "last row"),
        (lambda: poses.inverse(torch.diag(torch.tensor([2.0, 2, 2, 1]))), "not a rotation"),
        (lambda: poses.inverse(torch.diag(torch.tensor([-1.0, 1, 1, 1]))), "not a rotation"),
        (lambda: poses.log(torch.eye(4, dtype=torch.int64)), "torch.int64"),
        (lambda: poses.so3_log(torch.zeros(3, 3)), "not a rotation"),
        (lambda: poses.so3_exp(torch.zeros(4)), "phi must have shape"),
        (lambda: poses.hat(torch.zeros(2)), "phi must have shape"),
        (lambda: poses.vee(torch.zeros(3)), "A must have shape"),
        (lambda: poses.adjoint(eye[:3]), "T must have shape"),
        (lambda: poses.transform(eye, torch.zeros(3)), "points must have shape"),
        (lambda: poses.transform(eye, x), "points is torch.float64 on cpu, T is torch.float32"),
        (lambda: poses.pose(eye[:3, :3], torch.zeros(3, dtype=torch.float64)), "t is torch.float64"),
        (lambda: poses.interpolate(eye, eye, math.nan), "t holds NaN"),
        (lambda: poses.rotation_from_quaternion(torch.zeros(2, 4)), "zero quaternion"),
        (lambda: poses.kabsch(x[:2], x[:2]), "at least 3"),
        (lambda: poses.kabsch(x, x[:4]), "same N"),
        (lambda: poses.kabsch(x[0], x[0]), "same N"),
        (lambda: poses.kabsch(x, x.float()), "target is torch.float32"),
        (lambda: poses.kabsch(x, x / 0), "target holds NaN"),
        (lambda: poses.kabsch(x, x, -torch.ones(5).double()), "weights must not be negative"),
        (lambda: poses.kabsch(x, x, torch.zeros(5).double()), "positive sum"),
        (lambda: poses.kabsch(x, x, torch.ones(4).double()), "weights must have shape"),
    ):
        with pytest.raises(InputError, match=words):
            call()


def test_signatures_hold_under_a_type_checker():
    beartype = pytest.importorskip("beartype").beartype
    from jaxtyping import jaxtyped

    T, x = poses.exp(random_xi(4)), random_points(7)
    calls = {"pose": (T[0, :3, :3], T[:, :3, 3]), "inverse": (T,), "transform": (T, x), "hat": (x,), "so3_exp": (x,), "adjoint": (T,)}
    calls |= {"vee": (T[:, :3, :3],), "exp": (random_xi(4),), "so3_log": (T[:, :3, :3],), "log": (T,)}
    calls |= {"quaternion_from_rotation": (T[:, :3, :3],), "rotation_from_quaternion": (torch.rand(4, 4),)}
    calls |= {"interpolate": (T[0], T[1], torch.rand(5).double()), "kabsch": (x, poses.transform(T, x), torch.ones(7).double())}
    public = {n for n, f in vars(poses).items() if inspect.isfunction(f) and f.__module__ == poses.__name__ and n[0] != "_"}
    assert public == set(calls)
    for name, arguments in calls.items():
        jaxtyped(getattr(poses, name), typechecker=beartype)(*arguments)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@both
def test_cuda_equals_cpu(dtype):
    xi, x = random_xi(10, dtype), random_points(10, 8, dtype=dtype)
    T = poses.exp(xi)
    y = poses.transform(T, x)
    room = {"rtol": 0, "atol": 20 * ROOM[dtype]}
    assert_close(poses.exp(xi.cuda()), T, **room)
    assert_close(poses.log(T.cuda()), xi, **room)
    assert_close(poses.kabsch(x.cuda(), y.cuda()), T, **room)
