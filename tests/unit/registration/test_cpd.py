"""Coherent point drift: slow twins, autograd, EM's promise, laws of motion, pycpd, and what is refused."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from densebook.core.errors import InputError
from densebook.geometry import poses
from densebook.registration import cpd
from densebook.registration.cpd import expectation, gaussian_kernel, pivoted_cholesky, register
from densebook.testing import assert_close, assert_grad

dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
kinds = pytest.mark.parametrize("kind", cpd.KINDS)


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def sphere(count, seed=0, dtype=torch.float64):
    x = draw(count, 3, seed=seed)
    return (x / x.norm(dim=1, keepdim=True)).to(dtype)


def bend(x):
    return x + 0.15 * torch.sin(2 * x[:, [1, 2, 0]])


def rotation(angle, D=3, seed=0):
    if D == 2:
        return torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    axis = draw(3, seed=seed)
    return poses.so3_exp(angle * axis / axis.norm())


def posterior(moved, target, sigma2, w):
    """P and the log-likelihood of each target, by logsumexp over whole arrays."""
    (M, D), N = moved.shape, len(target)
    logs = -(target[None] - moved[:, None]).square().sum(-1) / (2 * sigma2) - D / 2 * math.log(2 * math.pi * sigma2) + math.log((1 - w) / M)
    all_logs = torch.cat([logs, torch.full_like(logs[:1], math.log(w / N) if w else -math.inf)])
    total = torch.logsumexp(all_logs, 0)
    return torch.exp(logs - total), total


# ---------------------------------------------------------------- E-step


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4), st.floats(-4, 1), st.sampled_from([0.0, 0.1, 0.9]), st.integers(0, 99))
def test_expectation_by_logsumexp(M, N, D, log_sigma2, w, seed):
    moved, target, sigma2 = draw(M, D, seed=seed), draw(N, D, seed=seed + 1), 10**log_sigma2
    P, logs = posterior(moved, target, sigma2, w)
    P1, PX, Pt1, likelihood = expectation(moved, target, sigma2, w)
    for ours, slow in ((P1, P.sum(1)), (PX, P @ target), (Pt1, P.sum(0))):
        assert_close(ours, slow, rtol=1e-8, atol=1e-10)
    assert_close(likelihood, float(logs.mean()), rtol=1e-8)


@pytest.mark.parametrize("entries", [1, 64, 1000])
def test_expectation_in_blocks(entries, monkeypatch):
    moved, target = draw(30, 3), draw(70, 3, seed=1)
    whole = expectation(moved, target, 0.3, 0.2)
    made = []
    mm = torch.mm
    monkeypatch.setattr(cpd, "_ENTRIES", entries)
    monkeypatch.setattr(cpd.torch, "mm", lambda a, b, out: made.append(out.numel()) or mm(a, b, out=out))
    for ours, other in zip(expectation(moved, target, 0.3, 0.2), whole):
        assert_close(ours, other, rtol=1e-12)
    assert max(made) <= max(entries, cpd._ROWS * 30) and sum(made) == 30 * 70


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 700), st.integers(1, 700), st.floats(-6, -2), st.sampled_from([0.0, 0.3]), st.integers(0, 99))
def test_what_is_left_out_does_not_count(M, N, log_sigma2, w, seed):
    moved, target = draw(M, 2, seed=seed), 0.1 + draw(N, 2, seed=seed + 1)
    moved, target = moved[cpd._curve(moved)], target[cpd._curve(target)]
    for ours, other in zip(expectation(moved, target, 10**log_sigma2, w, ordered=True), expectation(moved, target, 10**log_sigma2, w)):
        assert_close(ours, other, rtol=1e-9, atol=1e-9)


def test_most_pairs_are_left_out():
    x = torch.rand(3000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x[cpd._curve(x)]
    near = cpd._near(x, x, 0.7 / 1e-5)
    assert near.shape == (47, 47) and float(near.double().mean()) < 0.5 and bool(near.diagonal().all())
    assert torch.equal(cpd._points(near[46] | True, 3000), torch.arange(3000))
    assert cpd._near(x, x, 1.0) is None


@kinds
def test_many_points_take_the_ordered_way(kind, monkeypatch):
    source, target = sphere(700), bend(sphere(800, seed=1))
    plain = register(source, target, kind, max_iterations=25, tolerance=0)
    monkeypatch.setattr(cpd, "_MANY", 1)
    ordered = register(source, target, kind, max_iterations=25, tolerance=0)
    assert_close(ordered.points, plain.points, atol=1e-9)
    assert_close(ordered.displace(source), ordered.points, atol=1e-7)
    assert_close(ordered.likelihood, plain.likelihood, rtol=1e-9)


@dtypes
def test_far_targets_keep_their_weight(dtype):
    moved = draw(20, 3, dtype=dtype)
    target = torch.cat([moved + 0.01, moved.new_full((1, 3), 50.0)])
    P1, PX, Pt1, likelihood = expectation(moved, target, 1e-4, 0.0)
    assert_close(Pt1, torch.ones_like(Pt1))
    assert_close(float(P1.sum()), 21.0, rtol=1e-6)
    assert math.isfinite(likelihood) and PX.isfinite().all()
    _, _, with_outliers, likelihood = expectation(moved, target, 1e-4, 0.1)
    assert float(with_outliers[-1]) == 0 and float(with_outliers[:-1].min()) > 0.5 and math.isfinite(likelihood)


def test_float32_is_near_float64():
    moved, target = draw(300, 3), draw(200, 3, seed=1)
    exact, rough = expectation(moved, target, 0.01, 0.1), expectation(moved.float(), target.float(), 0.01, 0.1)
    for ours, other in zip(rough[:3], exact[:3]):
        assert ours.dtype == torch.float32
        assert_close(ours.double(), other, rtol=1e-3, atol=1e-4)
    assert abs(rough[3] - exact[3]) < 1e-4


# ---------------------------------------------------------------- kernel and its columns


@dtypes
def test_kernel_by_differences(dtype):
    x, y = 1000 + draw(2, 9, 3, dtype=dtype), 1000 + draw(2, 7, 3, seed=1, dtype=dtype)  # far from the origin
    slow = torch.exp(-(x[:, :, None] - y[:, None]).double().square().sum(-1) / (2 * 0.7**2))
    assert_close(gaussian_kernel(x, y, 0.7).double(), slow, atol=1e-5 if dtype == torch.float32 else 1e-12)
    assert gaussian_kernel(x[:, :0], y, 0.7).shape == (2, 0, 7)


def test_kernel_gradient():
    assert_grad(lambda x, y: gaussian_kernel(x, y, 0.8), draw(4, 2), draw(5, 2, seed=1))


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 60), st.sampled_from([0.2, 1.0, 5.0]), st.sampled_from([1e-2, 1e-6, 1e-10]), st.integers(0, 99))
def test_pivoted_cholesky_keeps_its_tolerance(count, beta, tolerance, seed):
    points = draw(count, 3, seed=seed)
    L, pivots = pivoted_cholesky(points, beta, count, tolerance)
    left = gaussian_kernel(points, points, beta) - L @ L.T
    assert float(left.diagonal().max()) <= tolerance + 1e-12
    assert float(left.abs().max()) <= tolerance + 1e-12  # positive semidefinite: no entry beats the diagonal
    assert len(set(pivots.tolist())) == len(pivots) == L.shape[1]
    assert_close(L[pivots].triu(1), torch.zeros(len(pivots), len(pivots), dtype=L.dtype), atol=1e-7)
    capped, few = pivoted_cholesky(points, beta, 3, tolerance)
    assert torch.equal(few, pivots[:3]) and torch.equal(capped, L[:, :3])


def test_pivoted_cholesky_of_twins():
    points = draw(10, 2).repeat(3, 1)
    L, pivots = pivoted_cholesky(points, 0.1, 30, 1e-10)
    assert L.shape[1] <= 10
    assert_close(L @ L.T, gaussian_kernel(points, points, 0.1), atol=1e-9)


# ---------------------------------------------------------------- M-steps


@pytest.mark.parametrize("rank", [None, 40])
def test_nonrigid_step_has_no_slope(rank):
    """At the W found, autograd sees no slope of the M-step's objective (Eq. 7 with the penalty)."""
    Y, X, sigma2, lambda_ = draw(40, 3), draw(50, 3, seed=1), 0.3, 1.7
    P, _ = posterior(Y, X, sigma2, 0.1)
    step = cpd._Field(Y, 0.5, lambda_, rank)
    moved = step(P.sum(1), P @ X, sigma2)
    G = gaussian_kernel(Y, Y[step.pivots], 0.5)
    W = step.W.clone().requires_grad_()
    small = gaussian_kernel(Y[step.pivots], Y[step.pivots], 0.5)
    penalty = lambda_ / 2 * (W * (small @ W)).sum()
    ((P * (X[None] - (Y + G @ W)[:, None]).square().sum(-1)).sum() / (2 * sigma2) + penalty).backward()
    assert float(W.grad.abs().max()) < 1e-6
    assert_close(moved, Y + G @ step.W, atol=1e-7)
    assert_close(step.penalty, float(penalty.detach()), rtol=1e-5)


@pytest.mark.parametrize("rigid", [True, False])
@pytest.mark.parametrize("D", [2, 3])
def test_linear_steps_are_the_best(rigid, D):
    """No small change of the map found is better; for rigid ones, changes are turns, sizes and shifts."""
    Y, X = draw(30, D), draw(40, D, seed=1)
    P, _ = posterior(Y, X, 0.5, 0.0)
    step = cpd._Linear(Y, rigid, True)
    step(P.sum(1), P @ X, 0.5)

    def cost(A, t):
        return float((P * (X[None] - (Y @ A.T + t)[:, None]).square().sum(-1)).sum())

    best = cost(step.A, step.t)
    for k in range(20):
        change = 1e-3 * draw(D, D, seed=k + 5)
        A = step.A @ torch.linalg.matrix_exp(change - change.T) * (1 + change[0, 0]) if rigid else step.A + change
        assert cost(A, step.t + 1e-3 * draw(D, seed=k)) > best
    if rigid:
        assert_close(step.A @ step.A.T, step.size**2 * torch.eye(D, dtype=torch.float64))
        assert float(torch.linalg.det(step.A)) > 0


def test_solver_without_definiteness():
    A = torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=torch.float64)
    b = draw(2, 3)
    assert_close(A @ cpd._solve(A, b), b)


# ---------------------------------------------------------------- whole fits


def naive(source, target, w, beta, lambda_, iterations):
    """Fig. 4 of the paper as it stands."""
    moved, W, D = source, None, target.shape[1]
    sigma2 = float((target[None] - source[:, None]).square().sum(-1).mean() / D)
    G = gaussian_kernel(source, source, beta)
    for _ in range(iterations):
        P, _ = posterior(moved, target, sigma2, w)
        P1 = P.sum(1)
        W = torch.linalg.solve(torch.diag(P1) @ G + lambda_ * sigma2 * torch.eye(len(G)).to(G), P @ target - P1[:, None] * source)
        moved = source + G @ W
        sigma2 = float((P * (target[None] - moved[:, None]).square().sum(-1)).sum() / (P1.sum() * D))
    return moved, W, sigma2


@pytest.mark.parametrize("w", [0.0, 0.2])
def test_nonrigid_by_the_naive_loop(w):
    source, target = sphere(60), bend(sphere(70, seed=1))
    moved, W, sigma2 = naive(source, target, w, 0.5, 2.0, 15)
    ours = register(source, target, w=w, beta=0.5, normalize=False, max_iterations=15, tolerance=0)
    assert_close(ours.points, moved, atol=1e-9)
    assert_close(ours.W, W, atol=1e-6)
    assert_close(ours.sigma2, sigma2, rtol=1e-9)
    assert ours.iterations == len(ours.history) == 15 and not ours.converged


@kinds
@pytest.mark.parametrize("w", [0.0, 0.2])
@pytest.mark.parametrize("D", [2, 3])
def test_as_pycpd(kind, w, D):
    pycpd = pytest.importorskip("pycpd")
    peer = {"rigid": pycpd.RigidRegistration, "affine": pycpd.AffineRegistration, "nonrigid": pycpd.DeformableRegistration}[kind]
    source, target = sphere(80)[:, :D].contiguous(), bend(sphere(90, seed=1))[:, :D].contiguous()
    more = {"alpha": 1.5, "beta": 0.6} if kind == "nonrigid" else {}
    theirs = peer(X=target.numpy(), Y=source.numpy(), w=w, max_iterations=40, tolerance=1e-300, **more)
    points, found = theirs.register()
    ours = register(source, target, kind, w=w, beta=0.6, lambda_=1.5, normalize=False, max_iterations=theirs.iteration, tolerance=0)
    assert_close(ours.points, torch.from_numpy(points), atol=1e-6)
    assert_close(ours.sigma2, float(theirs.sigma2), rtol=1e-6)
    if kind == "rigid":
        assert_close(ours.scale, float(found[0]), rtol=1e-9)


@kinds
@settings(deadline=None, max_examples=8)
@given(w=st.sampled_from([0.0, 0.1, 0.7]), beta=st.sampled_from([0.3, 2.0]), seed=st.integers(0, 99))
def test_likelihood_never_falls(kind, w, beta, seed):
    r = register(draw(40, 2, seed=seed), draw(50, 2, seed=seed + 1), kind, w=w, beta=beta, max_iterations=40, tolerance=1e-12)
    assert all(b >= a - 1e-9 for a, b in zip(r.history, r.history[1:]))
    assert r.likelihood == r.history[-1]


@dtypes
@pytest.mark.parametrize("D", [2, 3])
@pytest.mark.parametrize("normalize", [True, False])
def test_rigid_finds_the_motion(dtype, D, normalize):
    source = draw(60, D)
    R, t = rotation(0.5, D), draw(D, seed=3)
    target = (1.4 * source @ R.T + t)[torch.randperm(60, generator=torch.Generator().manual_seed(0))]
    r = register(source.to(dtype), target.to(dtype), "rigid", w=0.0, normalize=normalize, max_iterations=200, tolerance=1e-9)
    tolerance = 1e-6 if dtype == torch.float64 else 3e-3
    assert_close(r.matrix[:D, :D].double(), 1.4 * R, atol=tolerance)
    assert_close(r.matrix[:D, D].double(), t, atol=tolerance)
    assert_close(r.scale, 1.4, rtol=tolerance)
    assert r.converged and r.points.dtype == r.matrix.dtype == dtype
    still = register(source, target, "rigid", scale=False)
    assert still.scale == 1.0 and abs(float(torch.linalg.det(still.matrix)) - 1) < 1e-9


def test_rigid_makes_no_mirror():
    source = draw(40, 3)
    r = register(source, source * torch.tensor([-1.0, 1, 1], dtype=torch.float64), "rigid")
    assert float(torch.linalg.det(r.matrix)) > 0


def test_affine_finds_the_map():
    source = draw(80, 3)
    A = torch.eye(3, dtype=torch.float64) + 0.15 * draw(3, 3, seed=4)
    r = register(source, source @ A.T + 0.2, "affine", w=0.0, max_iterations=300, tolerance=1e-10)
    assert_close(r.matrix[:3, :3], A, atol=1e-6)
    assert_close(r.matrix[:3, 3], torch.full((3,), 0.2, dtype=torch.float64), atol=1e-6)


@kinds
def test_same_sets_stay(kind):
    source = sphere(50)
    r = register(source, source.flip(0), kind, max_iterations=300)
    assert r.converged
    assert_close(r.points, source, atol=0.05)


@kinds
def test_unit_and_place_do_not_matter(kind):
    """Both sets larger and elsewhere: the motion is larger and elsewhere."""
    source, target = sphere(50), bend(sphere(60, seed=1))
    first = register(source, target, kind, max_iterations=25, tolerance=0)
    other = register(1000 * source + 7, 1000 * target - 400, kind, max_iterations=25, tolerance=0)
    assert_close((other.points + 400) / 1000, first.points, atol=1e-8)
    assert_close(other.sigma2 / 1e6, first.sigma2, rtol=1e-6)
    assert_close(other.likelihood, first.likelihood, rtol=1e-8)
    new = draw(20, 3, seed=9)
    assert_close((other.displace(1000 * new + 7) + 400) / 1000, first.displace(new), atol=1e-7)


@kinds
def test_order_does_not_matter(kind):
    source, target = sphere(40), bend(sphere(50, seed=1))
    order, other = (torch.randperm(n, generator=torch.Generator().manual_seed(2)) for n in (40, 50))
    first = register(source, target, kind, max_iterations=20, tolerance=0)
    second = register(source[order], target[other], kind, max_iterations=20, tolerance=0)
    assert_close(second.points, first.points[order], atol=1e-9)


@kinds
@pytest.mark.parametrize("rank", [None, 30, "auto"])
def test_displace_moves_what_was_fitted_and_the_rest(kind, rank):
    source, target = sphere(60), bend(sphere(70, seed=1))
    r = register(source, target, kind, rank=rank, max_iterations=30)
    assert_close(r.displace(source), r.points, atol=1e-7)
    new = draw(11, 3, seed=5)
    if kind == "nonrigid":
        K = 30 if rank == 30 else 60
        assert r.W.shape == r.centers.shape == (K, 3) and r.matrix is None
        field = torch.exp(-(new[:, None] - r.centers).square().sum(-1) / (2 * r.beta**2)) @ r.W
        assert_close(r.displace(new), new + r.shift + field, atol=1e-9)
    else:
        assert r.W is None and torch.equal(r.matrix[3], torch.tensor([0.0, 0, 0, 1], dtype=torch.float64))
        assert_close(r.displace(new), poses.transform(r.matrix, new) if kind == "rigid" and r.scale == 1 else new @ r.matrix[:3, :3].T + r.matrix[:3, 3])
    assert_grad(r.displace, new[:3])


def test_low_rank_is_near_exact():
    source, target = sphere(600), bend(sphere(500, seed=1))
    exact, low = (register(source, target, beta=1.0, rank=k, max_iterations=25, tolerance=0) for k in (None, "auto"))
    assert exact.W.shape == (600, 3) and len(low.W) < 200
    assert_close(low.points, exact.points, atol=2e-5)
    new = 1.1 * sphere(50, seed=7)
    assert_close(low.displace(new), exact.displace(new), atol=1e-3)
    assert register(source[:500], target, max_iterations=2).W.shape == (500, 3)  # auto: all of G


def test_float32_fit():
    source, target = sphere(600), bend(sphere(500, seed=1))
    exact, rough = register(source, target, max_iterations=25, tolerance=0), register(source.float(), target.float(), max_iterations=25, tolerance=0)
    assert rough.points.dtype == rough.W.dtype == torch.float32
    assert_close(rough.points.double(), exact.points, atol=1e-4)


def test_nonrigid_follows_a_bend_among_clutter():
    source, target = sphere(300), bend(sphere(300, seed=1))
    clutter = torch.cat([target, 4 * torch.rand(150, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64) - 2])
    truth = bend(sphere(3000, seed=5))

    def off(r):
        return float(torch.cdist(r.points, truth).amin(1).mean())

    plain, robust = (off(register(source, clutter, w=w, beta=1.0)) for w in (0.0, 0.6))
    assert robust < 0.08 and off(register(source, target, beta=1.0)) < 0.08
    assert plain > 1.3 * robust


def test_convergence():
    source, target = sphere(60), bend(sphere(70, seed=1))
    loose, tight = (register(source, target, tolerance=t, max_iterations=500) for t in (1e-2, 1e-8))
    assert loose.converged and tight.converged and loose.iterations < tight.iterations < 500
    assert abs(tight.history[-1] - tight.history[-2]) <= 1e-8 * max(1.0, abs(tight.likelihood))
    short = register(source, target, max_iterations=2)
    assert short.iterations == 2 and not short.converged


def test_few_points_and_one_coordinate():
    assert register(sphere(2), sphere(30, seed=1), max_iterations=5).points.isfinite().all()
    for kind in ("rigid", "nonrigid"):
        assert register(draw(3, 3), draw(40, 3, seed=1), kind, max_iterations=10).points.isfinite().all()
        assert register(draw(40, 1), draw(30, 1, seed=1), kind, max_iterations=10).points.isfinite().all()


@pytest.mark.parametrize("rank", [None, 40])
def test_twins_are_harmless(rank):
    source, target = sphere(30), bend(sphere(40, seed=1))
    r = register(source.repeat(2, 1), target, rank=rank, max_iterations=30)
    assert_close(r.points[:30], r.points[30:], atol=1e-9)
    assert r.points.isfinite().all()


def test_inputs_are_left_alone_and_carry_no_gradient():
    source, target = sphere(30).requires_grad_(), sphere(40, seed=1)
    before = source.detach().clone(), target.clone()
    r = register(source, target, max_iterations=5)
    assert torch.equal(source, before[0]) and torch.equal(target, before[1]) and not r.points.requires_grad


def test_progress_is_one_line(capsys):
    register(sphere(30), sphere(40, seed=1), progress=True, max_iterations=5, tolerance=0)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.count("\r") == 5 and "5/5" in said


# ---------------------------------------------------------------- what is refused


def spoiled(row):
    x = sphere(20)
    x[row, 1] = math.nan
    return x


BAD = {
    "dimensions": (lambda: register(sphere(20), draw(20, 2)), "target has 2 coordinates, the source 3"),
    "empty": (lambda: register(sphere(20)[:0], sphere(20)), r"source is empty, \(0, 3\)"),
    "no coordinates": (lambda: register(sphere(20)[:, :0], sphere(20)), "source is empty"),
    "nan": (lambda: register(sphere(20), spoiled(7)), r"target\[7\] holds NaN"),
    "infinite": (lambda: register(sphere(20) / 0, sphere(20)), r"source\[0\] holds NaN or infinity"),
    "one place": (lambda: register(sphere(20), sphere(1).expand(9, 3)), "the 9 points of target coincide"),
    "one point": (lambda: register(sphere(1), sphere(20)), "the 1 points of source coincide"),
    "whole numbers": (lambda: register(torch.ones(3, 3, dtype=torch.int64), sphere(20)), "source is torch.int64"),
    "list": (lambda: register([[0.0, 1.0]], sphere(20)), "source is list"),
    "batch": (lambda: register(sphere(20)[None], sphere(20)), r"source is torch.float64 \(1, 20, 3\)"),
    "types": (lambda: register(sphere(20), sphere(20).float()), "target is torch.float32 on cpu"),
    "kind": (lambda: register(sphere(20), sphere(20), "non-rigid"), "did you mean 'nonrigid'"),
    "w": (lambda: register(sphere(20), sphere(20), w=1.0), "w is 1.0"),
    "w below": (lambda: register(sphere(20), sphere(20), w=-0.1), "w is -0.1"),
    "beta": (lambda: register(sphere(20), sphere(20), beta=0.0), "beta is 0.0"),
    "lambda": (lambda: register(sphere(20), sphere(20), lambda_=math.inf), "lambda_ is inf"),
    "rank": (lambda: register(sphere(20), sphere(20), rank=0), "rank is 0"),
    "rank word": (lambda: register(sphere(20), sphere(20), rank="low"), "rank is 'low'"),
    "iterations": (lambda: register(sphere(20), sphere(20), max_iterations=0), "max_iterations is 0"),
    "tolerance": (lambda: register(sphere(20), sphere(20), tolerance=-1.0), "tolerance is -1.0"),
    "flat": (lambda: register(sphere(20) * torch.tensor([1.0, 1, 0], dtype=torch.float64), sphere(20), "affine"), "source lies in a plane"),
    "flat 32": (lambda: register(sphere(20).float() * torch.tensor([1.0, 1, 0]) + 3, sphere(20).float(), "affine"), "source lies in a plane"),
    "kernel": (lambda: gaussian_kernel(draw(3, 2), draw(4, 3), 1.0), "x has 2 coordinates, y has 3"),
    "kernel width": (lambda: gaussian_kernel(draw(3, 2), draw(4, 2), -1.0), "beta is -1.0"),
    "displace": (lambda: register(sphere(20), sphere(30, 1), max_iterations=2).displace(draw(4, 2)), "points has 2 coordinates, the source 3"),
    "outliers": (lambda: register(1e200 * sphere(20), 1e200 * bend(sphere(20)), w=0.9, normalize=False), "counts as an outlier"),
}


@pytest.mark.parametrize("name", BAD)
def test_refused_in_one_sentence(name):
    call, words = BAD[name]
    with pytest.raises(InputError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 220


# ---------------------------------------------------------------- CUDA


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@kinds
@dtypes
def test_cuda(kind, dtype):
    source, target = sphere(600, dtype=dtype), bend(sphere(500, seed=1, dtype=dtype))
    ours = register(source.cuda(), target.cuda(), kind, max_iterations=20, tolerance=0)
    theirs = register(source, target, kind, max_iterations=20, tolerance=0)
    assert ours.points.is_cuda and ours.displace(source.cuda()).is_cuda
    assert_close(ours.points.cpu(), theirs.points, atol=1e-3 if dtype == torch.float32 else 1e-5)
