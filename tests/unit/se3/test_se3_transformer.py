"""SE(3)-Transformer: equivariance to rounding, the fast form against the definition, neighbours no translation disturbs, bad input."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from densebook.core.errors import InputError
from densebook.core.optional import available
from densebook.se3 import se3_transformer as se3
from densebook.se3.representations import random_rotation, rotate, wigner_d
from densebook.se3.se3_transformer import (
    Attention,
    NormBias,
    SE3Transformer,
    SelfInteraction,
    attend_fast,
    attend_plain,
    attention_weights,
    center,
    connect,
    kernel_basis,
    knn_graph,
)
from densebook.testing import assert_close, assert_grad

ROOM = {torch.float32: 1e-5, torch.float64: 1e-10}
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
FIBERS = {
    "equal": ({0: 4, 1: 4, 2: 4}, {0: 4, 1: 4, 2: 4}),
    "author": ({1: 1}, {0: 5, 1: 5, 2: 5}),
    "unequal": ({0: 2, 1: 3, 3: 3}, {0: 4, 2: 2, 4: 1}),
    "apart": ({0: 3}, {1: 2}),
    "top": ({4: 1}, {0: 1, 4: 2}),
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def cloud(count, seed=0, dtype=torch.float64):
    """Points of about unit size."""
    return (torch.randn(count, 3, generator=seeded(seed), dtype=torch.float64) * 0.5).to(dtype)


def features(fiber, count, seed=1, dtype=torch.float64):
    made = seeded(seed)
    return {l: torch.randn(count, c, 2 * l + 1, generator=made, dtype=torch.float64).to(dtype) for l, c in fiber.items()}


def network(fiber_in, fiber_hidden, fiber_out, dtype=torch.float64, seed=0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SE3Transformer(fiber_in, fiber_hidden, fiber_out, **options).to(dtype)


def attention(name, dtype=torch.float64, seed=0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Attention(*FIBERS[name], hidden=6, **options).to(dtype)


def error(found, expected):
    """Largest difference relative to the largest entry."""
    size = max(v.detach().abs().max().item() for v in expected.values())
    return max((found[l] - expected[l]).detach().abs().max().item() / size for l in expected)


# neighbours


def brute(points, k, batch=None):
    """Neighbours (N, k) as sets, one point at a time, in float64."""
    points = points.double()
    batch = torch.zeros(len(points), dtype=torch.int64) if batch is None else batch
    rows = []
    for i, p in enumerate(points):
        d = (points - p).square().sum(1).masked_fill(batch != batch[i], torch.inf)
        d[i] = torch.inf
        rows.append(d.argsort()[:k].sort().values)
    return torch.stack(rows)


@dtypes
@given(st.integers(0, 1000), st.integers(1, 12), st.sampled_from([1, 64, 1 << 20]))
@settings(max_examples=15, deadline=None)
def test_neighbours_are_the_nearest(dtype, seed, k, chunk):
    points = cloud(50, seed, dtype)
    batch = torch.repeat_interleave(torch.tensor([0, 1, 3]), torch.tensor([20, 13, 17]))
    for b in (None, batch):
        source, target = knn_graph(points, k, b, chunk)
        assert torch.equal(target, torch.arange(50).repeat_interleave(k))
        found, best = source.view(50, k).sort(1).values, brute(points, k, b)
        if dtype == torch.float64:
            assert torch.equal(found, best)
        far, nearest = ((points.double()[x] - points.double()[:, None]).norm(dim=2).sort(1).values for x in (found, best))
        assert_close(far, nearest, rtol=100 * torch.finfo(dtype).eps)  # of two that rounding makes alike, either will do
        assert all(len(row.unique()) == k for row in found)
        assert b is None or (b[found] == b[:, None]).all()


@pytest.mark.parametrize("shift", [1.0, 10.0, 1000.0, -65536.0])
def test_translation_changes_no_edge(shift):
    points = (cloud(700, dtype=torch.float32) * 64).round() / 64 + torch.rand(700, 1, generator=seeded(2)).mul(64).round() / 64
    moved = points + shift
    assert torch.equal(moved - shift, points)
    assert torch.equal(knn_graph(moved, 16), knn_graph(points, 16))


def test_ties_follow_the_cloud_and_not_the_frame_or_the_order():
    points = torch.cartesian_prod(*[torch.arange(-1.0, 2.0)] * 3)
    points = torch.cat([points, torch.tensor([[4.1, 2.3, 1.0]])])
    expected = knn_graph(points, 4)[0].view(-1, 4).sort(1).values
    for seed in range(5):
        turn = random_rotation(seeded(seed))
        assert torch.equal(knn_graph(points @ turn.T, 4)[0].view(-1, 4).sort(1).values, expected)
        order = torch.randperm(len(points), generator=seeded(seed))
        found = order[knn_graph(points[order], 4)[0]].view(-1, 4)
        assert torch.equal(found[order.argsort()].sort(1).values, expected)


@dtypes
def test_center(dtype):
    points = cloud(90, dtype=dtype) + 1000
    batch = torch.repeat_interleave(torch.tensor([0, 2]), torch.tensor([40, 50]))
    found = center(points, batch)
    assert found.dtype == dtype
    for b in (0, 2):
        mine = points[batch == b].double()
        assert_close(found[batch == b], (mine - mine.mean(0)).to(dtype), rtol=0, atol=1e-7)
    assert_close(center(points[batch == 2]), found[batch == 2], rtol=0, atol=1e-12)


# kernels


@pytest.mark.parametrize("k", range(5))
@pytest.mark.parametrize("l", range(5))
def test_kernel_constraint(k, l):
    points, turn = cloud(20), random_rotation(seeded(3), dtype=torch.float64)
    graph = knn_graph(points, 3)
    basis = kernel_basis(connect(points, graph, 4).harmonics, k, l)
    turned = kernel_basis(connect(points @ turn.T, graph, 4).harmonics, k, l)
    assert_close(turned, torch.einsum("am,emjk,bk->eajb", wigner_d(l, turn), basis, wigner_d(k, turn)), atol=1e-12)
    assert basis.shape == (60, 2 * l + 1, 2 * min(k, l) + 1, 2 * k + 1)
    rank = torch.linalg.matrix_rank(basis.permute(2, 0, 1, 3).flatten(1))
    assert rank == 2 * min(k, l) + 1  # none of the kernels is a sum of others
    mirrored = kernel_basis(connect(-points, graph, 4).harmonics, k, l)
    signs = torch.tensor([(-1.0) ** j for j in range(abs(k - l), k + l + 1)], dtype=torch.float64)
    assert_close(mirrored, basis * signs[:, None], atol=1e-12)


@pytest.mark.parametrize(("k", "l"), [(0, 0), (1, 1), (1, 2), (2, 1), (2, 2)])
def test_kernels_are_e3nns_tensor_product(k, l):
    from e3nn import o3

    points = cloud(12)
    edges, f = connect(points, knn_graph(points, 3), 2), torch.randn(36, 2 * k + 1, generator=seeded(1), dtype=torch.float64)
    basis = kernel_basis(edges.harmonics, k, l)
    for j in range(abs(k - l), k + l + 1):
        a, b, c = (o3.Irreps([(1, (n, 1))]) for n in (k, j, l))
        product = o3.TensorProduct(a, b, c, [(0, 0, 0, "uuu", False)], irrep_normalization="component").double()
        theirs = product(f, edges.harmonics[:, j * j : (j + 1) ** 2])
        ours = (basis[:, :, j - abs(k - l)] @ f[..., None])[..., 0]
        sign = torch.sign((ours * theirs).sum())  # Clebsch-Gordan is unique up to its sign
        assert_close(ours, sign * theirs, atol=1e-6)


# layers


@dtypes
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("name", FIBERS)
def test_fast_form_is_the_definition(name, heads, dtype, monkeypatch):
    monkeypatch.setattr(se3, "CHUNK", 5000)  # several chunks, the last one smaller
    layer, points = attention(name, dtype, heads=heads), cloud(37, dtype=dtype).requires_grad_()
    given = {l: v.requires_grad_() for l, v in features(layer.fiber_in, 37, dtype=dtype).items()}
    edges = connect(points, knn_graph(points, 5), layer.degree)
    fast, plain = attend_fast(layer, given, edges), attend_plain(layer, given, edges)
    assert error(fast, plain) < {torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
    leaves = [points, *given.values(), *layer.key.parameters(), *layer.value.parameters(), *layer.radial.parameters(), *layer.query.parameters()]
    grads = [torch.autograd.grad(sum((v.square() * (l + 1)).sum() for l, v in f.items()), leaves, retain_graph=True) for f in (fast, plain)]
    for a, b in zip(*grads):
        assert_close(a, b, rtol=0, atol=float(b.abs().max()) * {torch.float32: 1e-4, torch.float64: 1e-11}[dtype] + 1e-12)


def test_gradients_by_finite_differences():
    layer, points = attention("author"), cloud(7)
    graph = knn_graph(points, 3)
    weight = layer.value["1"].detach()

    def run(x, f, w):
        return tuple(torch.func.functional_call(layer, {"value.1": w}, ({1: f}, x, graph)).values())

    assert_grad(run, points, features({1: 1}, 7)[1], weight, rtol=1e-5)


def test_frozen_weights_and_no_gradients():
    layer, points = attention("equal"), cloud(30)
    given, graph = features(layer.fiber_in, 30), knn_graph(points, 4)
    for p in layer.radial.parameters():
        p.requires_grad_(False)
    sum(v.sum() for v in layer(given, points, graph).values()).backward()
    assert all(p.grad is None for p in layer.radial.parameters()) and layer.key["0"].grad.abs().max() > 0
    with torch.no_grad():
        assert not layer(given, points, graph)[0].requires_grad


def test_memory_kept_for_the_backward_pass_is_bounded():
    layer, points = attention("equal", torch.float32), cloud(200, dtype=torch.float32)
    given = {l: v.requires_grad_() for l, v in features(layer.fiber_in, 200, dtype=torch.float32).items()}

    def kept(form, k):
        seen, edges = {}, connect(points, knn_graph(points, k), 2)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: seen.update({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()}) or t, lambda t: t):
            out = form(layer, given, edges)
        return sum(seen.values()), out

    fast, plain = kept(attend_fast, 12)[0], kept(attend_plain, 12)[0]
    assert fast < 200 * 12 * 4 * (6 + 25 + 1 + 2 + 2) + 200 * 4 * 300 + 100_000 and plain > 20 * fast


@dtypes
@pytest.mark.parametrize("backend", ["torch", "plain", "dgl"])
@pytest.mark.parametrize("heads", [1, 3])
def test_backends_agree(backend, heads, dtype):
    if backend == "dgl" and not available("dgl"):
        pytest.skip("DGL is not installed")
    options = dict(heads=heads, hidden=8, layers=1)
    expected = network({0: 1, 1: 2}, {0: 4, 1: 4, 2: 3}, {0: 2, 1: 1}, dtype, backend="plain", **options)
    found = network({0: 1, 1: 2}, {0: 4, 1: 4, 2: 3}, {0: 2, 1: 1}, dtype, backend=backend, **options)
    points, given = cloud(40, dtype=dtype), features({0: 1, 1: 2}, 40, dtype=dtype)
    a, b = (m(points, given, k=6) for m in (found, expected))
    assert error(a, b) < {torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
    for out in (a, b):
        sum(v.square().sum() for v in out.values()).backward()
    for p, q in zip(found.parameters(), expected.parameters()):
        assert_close(p.grad, q.grad, rtol=0, atol=float(q.grad.abs().max()) * (1e-4 if dtype == torch.float32 else 1e-10) + 1e-9)


def test_attention_weights_sum_to_one_and_do_not_turn():
    layer, points, turn = attention("equal", heads=2), cloud(25), random_rotation(seeded(1), dtype=torch.float64)
    given, graph = features(layer.fiber_in, 25), knn_graph(points, 6)
    alpha = attention_weights(layer, given, connect(points, graph, 2))
    assert alpha.shape == (150, 2) and float(alpha.detach().std()) > 1e-3
    assert_close(alpha.view(25, 6, 2).sum(1), torch.ones(25, 2, dtype=torch.float64))
    assert_close(attention_weights(layer, rotate(given, turn), connect(points @ turn.T, graph, 2)), alpha, atol=1e-12)


@pytest.mark.parametrize("make", [lambda: SelfInteraction({0: 3, 1: 3}, {0: 2, 1: 4}), lambda: SelfInteraction({0: 3, 1: 3}, {1: 2}, "attentive"), lambda: NormBias({0: 3, 1: 3})])
def test_pointwise_layers_are_equivariant(make):
    layer, given, turn = make().double(), features({0: 3, 1: 3}, 50), random_rotation(seeded(1), dtype=torch.float64)
    out = layer(given, None, None)
    assert error(layer(rotate(given, turn)), rotate(out, turn)) < 1e-12


def test_norm_bias_closed_form_and_zero():
    layer = NormBias({1: 1}).double()
    layer.bias["1"].data[:] = -0.5
    v = torch.tensor([[[3.0, 0.0, 4.0]], [[0.3, 0.0, 0.0]], [[0.0, 0.0, 0.0]]], dtype=torch.float64, requires_grad=True)
    out = layer({1: v})[1]
    assert_close(out, torch.tensor([[[2.7, 0.0, 3.6]], [[0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]]], dtype=torch.float64))
    layer.bias["1"].data[:] = 0.5
    out = layer({1: v})[1]
    assert_close(out[:2], torch.tensor([[[3.3, 0.0, 4.4]], [[0.8, 0.0, 0.0]]], dtype=torch.float64))
    out.sum().backward()
    assert out[2].abs().max() == 0 and v.grad.isfinite().all() and v.grad[2].abs().max() == 0


# the network


def cases(model, points, given, seed, k=6):
    """(name, found, expected) for a rotation, a far translation and a permutation."""
    before = model(points, given, k=k)
    turn = random_rotation(seeded(seed), dtype=torch.float64)
    yield "rotation", model((points.double() @ turn.T).to(points.dtype), rotate(given, turn), k=k), rotate(before, turn)
    for scale in (1.0, 1000.0):
        away = points + scale * torch.randn(3, generator=seeded(seed)).to(points)
        home = center(away)  # what is left of the cloud after its coordinates were rounded far from the origin
        yield f"translation by {scale}", model(away, given, k=k), model(home, given, k=k)
    exact = (points * 64).round() / 64
    yield "exact translation", model(exact + 1000, given, k=k), model(exact, given, k=k)
    order = torch.randperm(len(points), generator=seeded(seed))
    yield "order", model(points[order], {l: v[order] for l, v in given.items()}, k=k), {l: v[order] for l, v in before.items()}


def train(model, points, given, steps=5):
    """A few steps towards some target."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        loss = sum((v - 1).square().mean() for v in model(points, given, k=6).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


@dtypes
@pytest.mark.parametrize("interaction", ["1x1", "attentive"])
def test_equivariance_before_and_after_training(dtype, interaction):
    model = network({0: 1, 1: 1}, {0: 4, 1: 4, 2: 4}, {0: 2, 1: 2, 2: 1}, dtype, hidden=16, self_interaction=interaction)
    points, given = cloud(60, dtype=dtype), features({0: 1, 1: 1}, 60, dtype=dtype)
    for steps in (0, 5):
        if steps:
            train(model, points, given, steps)
        with torch.no_grad():
            for seed in range(3):
                for name, found, expected in cases(model, points, given, seed):
                    assert error(found, expected) < ROOM[dtype], (name, steps)


@dtypes
def test_equivariance_with_all_degrees_to_four(dtype):
    fiber = {l: 2 for l in range(5)}
    model = network(fiber, fiber, fiber, dtype, layers=1, hidden=8)
    points, given = cloud(30, dtype=dtype), features(fiber, 30, dtype=dtype)
    with torch.no_grad():
        for name, found, expected in cases(model, points, given, 1):
            assert error(found, expected) < ROOM[dtype], name


def test_mirror_does_not_pass():
    model = network({0: 1, 1: 1}, {0: 4, 1: 4}, {0: 2, 1: 2}, layers=1)
    points, given = cloud(40), features({0: 1, 1: 1}, 40)
    with torch.no_grad():
        out = model(points, given, k=6)
        mirrored = model(-points, {0: given[0], 1: -given[1]}, k=6)
    assert error(mirrored, {0: out[0], 1: -out[1]}) > 1e-2


@pytest.mark.parametrize(("dtype", "room"), [(torch.bfloat16, 0.3), (torch.float16, 0.05)])
def test_half_precision_runs_and_is_near(dtype, room):
    model = network({0: 1, 1: 1}, {0: 4, 1: 4}, {0: 2, 1: 2}, layers=1, hidden=8)
    points, given = cloud(40), features({0: 1, 1: 1}, 40)
    expected = model(points, given, k=6)
    low = copy.deepcopy(model).to(dtype)
    found = low(points.float(), {l: v.to(dtype) for l, v in given.items()}, k=6)
    assert found[0].dtype == dtype and error({l: v.double() for l, v in found.items()}, expected) < room
    sum(v.square().sum() for v in found.values()).backward()
    assert all(p.grad.isfinite().all() for p in low.parameters() if p.grad is not None)


@dtypes
@given(st.lists(st.integers(8, 30), min_size=1, max_size=4), st.integers(0, 100))
@settings(max_examples=6, deadline=None)
def test_a_cloud_does_not_see_its_batch(dtype, sizes, seed):
    model = network({0: 1, 1: 1}, {0: 3, 1: 3}, {1: 1}, dtype, layers=1, hidden=8)
    total = sum(sizes)
    points, given = cloud(total, seed, dtype), features({0: 1, 1: 1}, total, seed + 1, dtype)
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    shifted = points + 3.0 * batch[:, None]
    with torch.no_grad():
        together = model(shifted, given, k=5, batch=batch)[1]
        for b in range(len(sizes)):
            mine = batch == b
            alone = model(shifted[mine], {l: v[mine] for l, v in given.items()}, k=5)[1]
            assert_close(together[mine], alone, rtol=0, atol=ROOM[dtype] * float(together.abs().max()))


def test_any_edge_list():
    """Uneven, shuffled edges take the plain path; a point without neighbours keeps its own features mixed."""
    model = network({0: 1}, {0: 3, 1: 3}, {0: 1}, layers=1, hidden=8)
    points, given = cloud(12), features({0: 1}, 12)
    edges = torch.tensor([[1, 2, 3, 0, 5, 4, 7], [0, 0, 0, 1, 4, 5, 5]])
    out = model(points, given, edges)[0]
    shuffled = model(points, given, edges[:, [6, 2, 0, 4, 1, 3, 5]])[0]
    assert_close(shuffled, out, atol=1e-12)
    assert out.isfinite().all()
    moved = points.clone()
    moved[11] += 1.0  # no edge touches it
    centred = moved - (moved.mean(0) - points.mean(0))
    assert_close(model(centred, given, edges)[0], out, atol=1e-12)


def test_no_features_means_ones():
    model, points = network({0: 2}, {0: 3, 1: 3}, {0: 1}, layers=1, hidden=8), cloud(20)
    assert torch.equal(model(points, k=4)[0], model(points, {0: torch.ones(20, 2, 1, dtype=torch.float64)}, k=4)[0])


def test_pyg_data():
    data = pytest.importorskip("torch_geometric.data")
    model = network({0: 3}, {0: 3, 1: 3}, {0: 1, 1: 1}, layers=1, hidden=8)
    a, b = cloud(15), cloud(10, 1) + 2
    x = torch.randn(25, 3, generator=seeded(5), dtype=torch.float64)
    edges = [knn_graph(p, 4) for p in (a, b)]
    parts = [data.Data(pos=p, x=y, edge_index=e[:, torch.randperm(e.shape[1], generator=seeded(1))]) for p, y, e in zip((a, b), x.split((15, 10)), edges)]
    both = data.Batch.from_data_list(parts)
    expected = model(torch.cat([a, b]), {0: x[..., None]}, k=4, batch=both.batch)
    assert error(model(both), expected) < 1e-12
    assert error(model(data.Data(pos=a, x=x[:15]), k=4), model(a, {0: x[:15, :, None]}, k=4)) < 1e-12


def test_coincident_points():
    model = network({0: 1, 1: 1}, {0: 3, 1: 3, 2: 3}, {0: 1, 1: 1}, layers=1, hidden=8)
    points = cloud(10).repeat(2, 1).requires_grad_()
    given = features({0: 1, 1: 1}, 20)
    out = model(points, given, k=4)
    sum(v.square().sum() for v in out.values()).backward()
    assert all(v.isfinite().all() for v in out.values()) and points.grad.isfinite().all()
    edges = connect(points, torch.tensor([[10], [0]]), 2)
    assert edges.distance.item() == 0 and edges.harmonics[0, 0] == 1 and edges.harmonics[0, 1:].abs().max() == 0
    turn = random_rotation(seeded(2), dtype=torch.float64)
    graph = knn_graph(points, 4)
    with torch.no_grad():
        assert error(model(points @ turn.T, rotate(given, turn), graph), rotate(model(points, given, graph), turn)) < 1e-10


def holed():
    points = cloud(20)
    points[3, 1] = math.nan
    return points


BAD = {
    "too few points": (lambda: knn_graph(cloud(5), 5), "k = 5"),
    "too few in one cloud": (lambda: knn_graph(cloud(9), 3, torch.tensor([0] * 6 + [1] * 3)), "cloud 1 has 3 points"),
    "no neighbours": (lambda: knn_graph(cloud(5), 0), "k is 0"),
    "NaN": (lambda: knn_graph(holed(), 3), "row 3"),
    "NaN in the network": (lambda: network({0: 1}, {0: 1}, {0: 1}, layers=1)(holed(), k=3), "row 3"),
    "whole numbers": (lambda: knn_graph(torch.ones(5, 3, dtype=torch.int64), 2), "points is torch.int64"),
    "flat": (lambda: center(torch.ones(5, 2)), "points is torch.float32 (5, 2)"),
    "none": (lambda: knn_graph(torch.ones(0, 3), 2), "points is empty"),
    "batch of floats": (lambda: center(cloud(4), torch.zeros(4)), "batch is torch.float32"),
    "unsorted batch": (lambda: center(cloud(4), torch.tensor([0, 1, 0, 1])), "not sorted"),
    "edges out of range": (lambda: connect(cloud(4), torch.tensor([[0], [4]]), 1), "names point 4"),
    "edges of floats": (lambda: connect(cloud(4), torch.zeros(2, 3), 1), "edge_index is torch.float32"),
    "degree": (lambda: Attention({0: 1}, {5: 1}), "fiber_out is {5: 1}"),
    "fiber": (lambda: Attention({}, {0: 1}), "fiber_in is {}"),
    "heads": (lambda: Attention({0: 1}, {0: 1}, heads=0), "heads is 0"),
    "backend": (lambda: Attention({0: 1}, {0: 1}, backend="cuda"), "backend is 'cuda'"),
    "kind": (lambda: SelfInteraction({0: 1}, {0: 1}, "2x2"), "kind is '2x2'"),
    "new degree": (lambda: SelfInteraction({0: 1}, {1: 1}), "degree 1"),
    "missing feature": (lambda: network({0: 1, 1: 1}, {0: 1}, {0: 1})(cloud(9), {0: torch.ones(9, 1, 1).double()}, k=3), "degree 1"),
    "no features": (lambda: network({1: 1}, {0: 1}, {0: 1})(cloud(9), k=3), "degree 1"),
    "shape": (lambda: network({0: 2}, {0: 1}, {0: 1})(cloud(9), {0: torch.ones(9, 1, 1).double()}, k=3), "(9, 1, 1)"),
    "dtype": (lambda: network({0: 1}, {0: 1}, {0: 1})(cloud(9), {0: torch.ones(9, 1, 1)}, k=3), "torch.float32"),
    "uneven": (lambda: attend_fast(attention("apart"), features({0: 3}, 4), connect(cloud(4), torch.tensor([[1], [0]]), 1)), "knn_graph"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_a_sentence(name):
    run, says = BAD[name]
    with pytest.raises(InputError) as caught:
        run()
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@dtypes
@pytest.mark.parametrize("backend", ["torch", "plain"])
def test_cuda(dtype, backend):
    model = network({0: 1, 1: 1}, {0: 4, 1: 4, 2: 4}, {0: 2, 1: 2}, dtype, backend=backend)
    points, given = cloud(200, dtype=dtype), features({0: 1, 1: 1}, 200, dtype=dtype)
    expected = model(points, given, k=8)
    there = model.cuda()(points.cuda(), {l: v.cuda() for l, v in given.items()}, k=8)
    assert error({l: v.cpu() for l, v in there.items()}, expected) < 10 * ROOM[dtype]
    assert torch.equal(knn_graph(points.cuda(), 8).cpu(), knn_graph(points, 8))
