"""Representations of SO(3): each function against the law that defines it, e3nn, and a slow twin."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from densebook.core.errors import InputError
from densebook.geometry.poses import so3_exp
from densebook.se3 import representations as reps
from densebook.testing import assert_close, assert_equivariant, assert_grad

DTYPES = [torch.float32, torch.float64]
DEGREES = range(reps.MAX_DEGREE + 1)
TRIPLES = [(a, b, c) for a in range(5) for b in range(5) for c in range(abs(a - b), min(a + b, 8) + 1)]
LIMIT = {torch.float32: 1e-5, torch.float64: 1e-12}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def rotations(count=20, dtype=torch.float64, seed=0):
    return reps.random_rotation(seeded(seed), (count,), dtype)


def apply(D, v):
    return torch.einsum("...ij,...j->...i", D, v)


def gap(a, b):
    return float((a - b).abs().max())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("l", DEGREES)
def test_laws_of_wigner_d(l, dtype):
    A, B = rotations(20, dtype, 1), rotations(20, dtype, 2)
    DA, DB = reps.wigner_d(l, A), reps.wigner_d(l, B)
    eye = torch.eye(2 * l + 1, dtype=dtype)
    assert DA.dtype == dtype and DA.shape == (20, 2 * l + 1, 2 * l + 1)
    assert gap(reps.wigner_d(l, A @ B), DA @ DB) < LIMIT[dtype]
    assert gap(DA @ DA.mT, eye) < LIMIT[dtype]
    assert gap(reps.wigner_d(l, A.mT), DA.mT) < LIMIT[dtype]
    assert (torch.linalg.det(DA) - 1).abs().max() < 10 * LIMIT[dtype]
    assert torch.equal(reps.wigner_d(l, torch.eye(3, dtype=dtype)).round(decimals=5), eye)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("l", DEGREES)
def test_harmonics_turn_with_wigner_d(l, dtype):
    R, x = rotations(50, dtype), torch.randn(50, 3, generator=seeded(3), dtype=dtype)
    turned = reps.spherical_harmonics(l, apply(R, x))
    assert gap(turned, apply(reps.wigner_d(l, R), reps.spherical_harmonics(l, x))) < LIMIT[dtype]


@pytest.mark.parametrize("l", range(1, 9))
def test_wigner_d_agrees_with_e3nn(l):
    o3 = pytest.importorskip("e3nn.o3")
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # or their generators are float32
    try:
        theirs = o3.Irrep(l, 1).D_from_matrix(rotations())
    finally:
        torch.set_default_dtype(default)
    assert gap(theirs, reps.wigner_d(l, rotations())) < 1e-12


def test_wigner_d_is_the_fit_of_the_harmonics():
    for l, R in zip(range(9), rotations(9)):
        x = torch.randn(8 * (2 * l + 1), 3, generator=seeded(l), dtype=torch.float64)
        fitted = torch.linalg.lstsq(reps.spherical_harmonics(l, x), reps.spherical_harmonics(l, x @ R.T)).solution.T
        assert_close(reps.wigner_d(l, R), fitted, atol=1e-10)


def test_characters():
    R = rotations(200)
    angle = torch.arccos((R.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2)
    for l in range(7):
        expected = torch.sin((2 * l + 1) * angle / 2) / torch.sin(angle / 2)
        assert_close(reps.wigner_d(l, R).diagonal(dim1=-2, dim2=-1).sum(-1), expected, atol=1e-8)


@settings(deadline=None, max_examples=40)
@given(phi=st.lists(st.floats(-math.pi, math.pi), min_size=3, max_size=3), size=st.floats(1e-12, 1.0), l=st.integers(1, 6))
def test_small_turns_keep_all_digits(phi, size, l):
    R = so3_exp(size * torch.tensor(phi, dtype=torch.float64))
    exact, single = reps.wigner_d(l, R), reps.wigner_d(l, R.float())
    assert gap(exact, single.double()) < l * l * 1e-6
    assert gap(exact @ exact.mT, torch.eye(2 * l + 1, dtype=torch.float64)) < 1e-12


def test_float32_is_float64_rounded_once():
    R = rotations(50, torch.float32)
    for l in (1, 4, 8):
        assert torch.equal(reps.wigner_d(l, R), reps.wigner_d(l, R.double()).float())


@pytest.mark.parametrize("l1,l2,l3", TRIPLES)
def test_clebsch_gordan_intertwines(l1, l2, l3):
    C = reps.clebsch_gordan(l1, l2, l3)
    assert C.shape == (2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1) and C.dtype == torch.float64 and C.device.type == "cpu"
    D1, D2, D3 = (reps.wigner_d(l, rotations(5)) for l in (l1, l2, l3))
    left = torch.einsum("nia,njb,abm->nijm", D1, D2, C)
    assert gap(left, torch.einsum("ijp,npm->nijm", C, D3)) < 1e-12
    columns = math.sqrt(2 * l3 + 1) * C.flatten(0, 1)
    assert gap(columns.T @ columns, torch.eye(2 * l3 + 1, dtype=torch.float64)) < 1e-12
    swapped = reps.clebsch_gordan(l2, l1, l3).transpose(0, 1)
    assert gap(C, (-1) ** (l1 + l2 + l3) * swapped) < 1e-12 or l1 != l2  # for l1 == l2 it is (anti)symmetric


def test_clebsch_gordan_is_unique():
    R = rotations(8)
    for l1, l2, l3 in ((1, 1, 1), (1, 2, 2), (2, 2, 3)):
        D1, D2, D3 = (reps.wigner_d(l, R) for l in (l1, l2, l3))
        left = torch.einsum("nia,njb->nijab", D1, D2).flatten(1, 2).flatten(2)
        eye1, eye3 = torch.eye(left.shape[1], dtype=left.dtype), torch.eye(2 * l3 + 1, dtype=left.dtype)
        equations = torch.cat([torch.kron(a, eye3) - torch.kron(eye1, b.T.contiguous()) for a, b in zip(left, D3)])
        values, rows = torch.linalg.svd(equations)[1:]
        assert values[-1] < 1e-12 < 1e-2 < values[-2]
        assert abs(float(rows[-1] @ reps.clebsch_gordan(l1, l2, l3).flatten())) == pytest.approx(1, abs=1e-10)


def test_clebsch_gordan_blocks_are_a_basis():
    for l1, l2 in ((1, 1), (1, 2), (2, 3)):
        parts = [math.sqrt(2 * l + 1) * reps.clebsch_gordan(l1, l2, l).flatten(0, 1) for l in range(abs(l1 - l2), l1 + l2 + 1)]
        Q = torch.cat(parts, dim=1)
        assert gap(Q @ Q.T, torch.eye(len(Q), dtype=Q.dtype)) < 1e-12


def test_dot_and_cross_product():
    p, q = torch.randn(2, 10, 3, generator=seeded(), dtype=torch.float64)
    dot = torch.einsum("ni,nj,ijm->nm", p, q, reps.clebsch_gordan(1, 1, 0))[:, 0]
    cross = torch.einsum("ni,nj,ijm->nm", p, q, reps.clebsch_gordan(1, 1, 1))
    assert_close(dot.abs(), (p * q).sum(-1).abs() / math.sqrt(3))
    assert_close(cross.abs(), torch.linalg.cross(p, q).abs() / math.sqrt(6))


def test_tables_are_copies():
    table = reps.clebsch_gordan(1, 1, 2)
    table.zero_()
    assert reps.clebsch_gordan(1, 1, 2).norm() == pytest.approx(1)


def test_tables_do_not_follow_the_default_dtype():
    before = reps.clebsch_gordan(2, 3, 4)
    torch.set_default_dtype(torch.float64)
    try:
        reps._coupling.cache_clear()
        assert torch.equal(before, reps.clebsch_gordan(2, 3, 4))
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("dtype", DTYPES)
def test_harmonics_have_unit_mean_square_and_are_orthogonal(dtype):
    k = torch.arange(20_000, dtype=torch.float64) + 0.5  # Fibonacci points: an even sample of the sphere
    z, turn = 1 - k / 10_000, math.pi * (1 + 5**0.5) * k
    side = (1 - z * z).sqrt()
    x = torch.stack([side * turn.cos(), z, side * turn.sin()], -1).to(dtype)
    Y = torch.cat([reps.spherical_harmonics(l, x) for l in range(5)], dim=1).double()
    assert gap(Y.T @ Y / len(Y), torch.eye(25, dtype=torch.float64)) < 2e-3
    for l in range(5):
        assert_close(Y[:, l * l : (l + 1) ** 2].square().sum(1), torch.full((20_000,), 2.0 * l + 1, dtype=torch.float64), rtol=1e-5)


def test_harmonics_agree_with_scipy():
    special = pytest.importorskip("scipy.special")
    x = torch.randn(100, 3, generator=seeded(), dtype=torch.float64)
    u = (x / x.norm(dim=1, keepdim=True)).numpy()
    polar, azimuth = np.arccos(u[:, 1]), np.arctan2(u[:, 0], u[:, 2])  # y is the pole, z where the azimuth is zero
    for l in (1, 2, 3, 7):
        table = []
        for m in range(-l, l + 1):
            wave = special.sph_harm_y(l, abs(m), polar, azimuth) * math.sqrt(4 * math.pi)
            table.append(wave.real if m == 0 else math.sqrt(2) * (-1) ** m * (wave.imag if m < 0 else wave.real))
        assert gap(reps.spherical_harmonics(l, x), torch.from_numpy(np.stack(table, -1))) < 1e-12


def test_textbook_order_is_a_permutation_of_the_axes():
    x = torch.randn(10, 3, generator=seeded(), dtype=torch.float64)
    P = torch.eye(3, dtype=torch.float64)[[1, 2, 0]]
    X, Y, Z = (x / x.norm(dim=1, keepdim=True)).unbind(-1)
    textbook = math.sqrt(15) * torch.stack([X * Y, Y * Z, (3 * Z**2 - 1) / math.sqrt(12), X * Z, (X**2 - Y**2) / 2], -1)
    assert_close(reps.spherical_harmonics(2, x @ P.T), textbook)
    assert torch.linalg.det(P) == 1


def test_type1_is_the_arrow():
    x, R = torch.randn(5, 7, 3, generator=seeded()), rotations(5, torch.float32)
    assert torch.equal(reps.from_type1(reps.to_type1(x)), x)
    assert_close(reps.to_type1(apply(R[:, None], x)), apply(reps.wigner_d(1, R)[:, None], reps.to_type1(x)))
    assert_close(reps.spherical_harmonics(1, x), math.sqrt(3) * reps.to_type1(x / x.norm(dim=-1, keepdim=True)))


@pytest.mark.parametrize("l", range(7))
def test_parity(l):
    x = torch.randn(20, 3, generator=seeded(), dtype=torch.float64)
    assert_close(reps.spherical_harmonics(l, -x), (-1) ** l * reps.spherical_harmonics(l, x))


@settings(deadline=None, max_examples=30)
@given(exponent=st.integers(-150, 150), l=st.integers(0, 5), wide=st.booleans())
def test_only_the_direction_counts(exponent, l, wide):
    dtype = torch.float64 if wide else torch.float32
    x = torch.randn(5, 3, generator=seeded(exponent + 1000), dtype=dtype)
    scale = 10.0 ** (exponent if wide else exponent / 5)
    assert gap(reps.spherical_harmonics(l, x * scale), reps.spherical_harmonics(l, x)) < LIMIT[dtype]


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("l", [0, 1, 2, 5])
def test_zero_vector(l, dtype):
    x = torch.zeros(2, 3, dtype=dtype, requires_grad=True)
    Y = reps.spherical_harmonics(l, x)
    assert Y.dtype == dtype and torch.equal(Y.detach(), torch.full_like(Y, float(l == 0)))
    if l:
        (slope,) = torch.autograd.grad(Y.sum(), x)
        assert torch.equal(slope, torch.zeros_like(x))


def test_gradients():
    x = torch.randn(3, 3, generator=seeded(), dtype=torch.float64)
    phi = torch.cat([torch.zeros(1, 3), 0.5 * torch.randn(2, 3, generator=seeded())]).double()
    for l in (1, 2, 4):
        assert_grad(lambda x, l=l: reps.spherical_harmonics(l, x), x)
        assert_grad(lambda p, l=l: reps.wigner_d(l, so3_exp(p)), phi)


def test_random_rotations_are_uniform():
    R = reps.random_rotation(seeded(1), (200_000,), torch.float64)
    assert gap(R @ R.mT, torch.eye(3, dtype=torch.float64)) < 1e-14 and (torch.linalg.det(R) > 0.99).all()
    angle = torch.arccos(((R.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1)).sort().values
    law = (angle - angle.sin()) / math.pi
    assert (law - torch.linspace(0, 1, len(angle), dtype=torch.float64)).abs().max() < 2 / math.sqrt(len(angle))
    for l in (1, 2, 3):  # the mean of every nontrivial representation vanishes
        assert reps.wigner_d(l, R[:50_000]).mean(0).abs().max() < 5 / math.sqrt(50_000)


def test_random_rotation_follows_its_generator():
    draws = [reps.random_rotation(seeded(5), (2, 3)) for _ in range(2)]
    assert torch.equal(*draws) and draws[0].shape == (2, 3, 3, 3) and draws[0].dtype == torch.float32
    assert reps.random_rotation(seeded(6)).shape == (3, 3)
    assert not torch.equal(reps.random_rotation(seeded(6)), reps.random_rotation(seeded(7)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rotate(dtype):
    features = {l: torch.randn(6, 2, 2 * l + 1, generator=seeded(l), dtype=dtype) for l in (0, 1, 3)}
    A, B = rotations(2, dtype)
    assert_close(reps.rotate(reps.rotate(features, A), B), reps.rotate(features, B @ A), atol=1e-5)
    assert torch.equal(reps.rotate(features, A)[0], features[0])
    each = rotations(6, dtype)
    one_by_one = {l: torch.stack([reps.rotate({l: f[i : i + 1]}, each[i])[l][0] for i in range(6)]) for l, f in features.items()}
    assert_close(reps.rotate(features, each), one_by_one, atol=1e-6)
    assert_equivariant(
        lambda x: reps.rotate({1: x}, A)[1].norm(dim=-1), {"turn": (lambda x: apply(B, x), None)}, features[1], atol=1e-5
    )


def test_rotate_keeps_the_dtype_of_features():
    half = {1: torch.ones(3, 1, 3, dtype=torch.float16)}
    assert reps.rotate(half, rotations(1)[0])[1].dtype == torch.float16


def test_a_reflection_does_not_pass():
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
    for bad in (mirror, -torch.eye(3), torch.stack([torch.eye(3), mirror])):
        with pytest.raises(InputError, match="reflection"):
            reps.wigner_d(2, bad)
        with pytest.raises(InputError, match="reflection"):
            reps.rotate({1: torch.zeros(2, 1, 3)}, bad)
    p, q = torch.randn(2, 10, 3, generator=seeded())
    C = reps.clebsch_gordan(1, 1, 1).float()
    cross = lambda a, b: torch.einsum("ni,nj,ijm->nm", a, b, C)  # noqa: E731
    assert_close(cross(p @ mirror, q @ mirror), -cross(p, q) @ mirror)


@pytest.mark.parametrize(
    "call,words",
    [
        (lambda: reps.wigner_d(2, 1.01 * torch.eye(3)), "not a rotation"),
        (lambda: reps.wigner_d(2, torch.full((3, 3), torch.nan)), "not a rotation"),
        (lambda: reps.wigner_d(2, torch.eye(3).long()), "int64"),
        (lambda: reps.wigner_d(2, torch.eye(3).half()), "float16"),
        (lambda: reps.wigner_d(2, torch.eye(4)), r"\(4, 4\)"),
        (lambda: reps.wigner_d(2, np.eye(3)), "ndarray"),
        (lambda: reps.wigner_d(13, torch.eye(3)), "0 to 12"),
        (lambda: reps.wigner_d(-1, torch.eye(3)), "0 to 12"),
        (lambda: reps.wigner_d(1.0, torch.eye(3)), "whole number"),
        (lambda: reps.wigner_d(True, torch.eye(3)), "whole number"),
        (lambda: reps.spherical_harmonics(13, torch.zeros(2, 3)), "0 to 12"),
        (lambda: reps.spherical_harmonics(1, torch.zeros(2, 4)), r"\(2, 4\)"),
        (lambda: reps.spherical_harmonics(1, torch.zeros(2, 3).int()), "int32"),
        (lambda: reps.spherical_harmonics(1, torch.tensor([[0, torch.inf, 0]])), "NaN or infinity"),
        (lambda: reps.clebsch_gordan(1, 1, 3), "0..2"),
        (lambda: reps.clebsch_gordan(3, 1, 1), "2..4"),
        (lambda: reps.clebsch_gordan(1, 20, 1), "l2"),
        (lambda: reps.rotate({1: torch.zeros(4, 2, 5)}, torch.eye(3)), r"features\[1\]"),
        (lambda: reps.rotate({1: torch.zeros(3)}, torch.eye(3)), r"features\[1\]"),
        (lambda: reps.to_type1(torch.zeros(3, 2)), "xyz"),
        (lambda: reps.from_type1(torch.zeros(3, 2)), "feature"),
    ],
)
def test_wrong_input_is_named(call, words):
    with pytest.raises(InputError, match=words):
        call()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("dtype", DTYPES)
def test_cuda(dtype):
    R, x = rotations(20, dtype), torch.randn(20, 3, generator=seeded(), dtype=dtype)
    for l in (0, 1, 4):
        assert_close(reps.wigner_d(l, R.cuda()).cpu(), reps.wigner_d(l, R), atol=1e-6)
        assert_close(reps.spherical_harmonics(l, x.cuda()).cpu(), reps.spherical_harmonics(l, x), atol=1e-5)
    assert reps.random_rotation(torch.Generator("cuda").manual_seed(0), (4,)).is_cuda
