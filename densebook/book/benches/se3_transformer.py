"""SE(3)-Transformer: time and peak memory of two attention blocks, forward and backward, beside the packages that do the same.

Every implementation gets the same points, edges and features (8 channels each of types 0, 1, 2, one head, radial networks 32 wide
where that can be chosen) and is asked for what it calls an attention block, twice, with what it computes from the points (basis,
harmonics) inside the measured step. An edge's kernels have 2 x 1216 free numbers here, in NVIDIA's, e3nn's, lucidrains' and the
authors' form; in equiformer's 384 in all, for each of its channels out hears one degree in only, and all J share one number. NVIDIA's and
the authors' repositories are no packages: put them on PYTHONPATH to have their rows.

Peak memory: a fresh process per implementation makes one small step first (imports, tables, code), then reads the kernel's VmHWM before
and after a full step. So it is what the system sees, scratch memory included, without what merely importing costs. Linux only.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from densebook.book import bench
from densebook.book.bench import interleave
from densebook.core.optional import available
from densebook.se3.se3_transformer import Attention, connect, knn_graph

CHANNELS, DEGREES, HIDDEN = 8, (0, 1, 2), 32
FIBER = {l: CHANNELS for l in DEGREES}
LARGEST_K = {"se3-transformer-pytorch": 16}  # beyond, it needs more memory than common machines have
SLOW = ("se3-transformer-pytorch", "Fuchs et al. on DGL", "e3nn tensor products", "densebook, plain twin")  # measured once


def run(full: bool, say: Callable[[str], None]) -> list[dict]:
    """Rows for `densebook bench se3_transformer`: 1024 points with 16, 32 and 40 neighbours; quick: 256 points with 8."""
    rows = []
    for name, (module, _) in WAYS.items():
        if not available(module):
            say(f"{name}: {module} is not installed: row left out")
    for n, k in ((1024, 16), (1024, 32), (1024, 40)) if full else ((256, 8),):
        names = [name for name, (module, _) in WAYS.items() if available(module) and k <= LARGEST_K.get(name, k)]
        say(f"{n} points, {k} neighbours: {', '.join(names)}")
        peaks = {name: _peak(name, n, k) for name in names}
        steps = {name: _step(name, n, k) for name in names}
        slow = {name: step for name, step in steps.items() if name in SLOW}
        seconds = interleave({name: s for name, s in steps.items() if name not in slow}, repeats=5 if full else 3)
        seconds |= interleave(slow, repeats=1) if slow else {}
        for name in names:
            ratios = {"ratio": round(seconds[name] / seconds["densebook"], 2)}
            if peaks[name]:
                ratios |= {"peak_mb": round(peaks[name] / 1e6, 1), "peak_ratio": round(peaks[name] / peaks["densebook"], 1)}
            rows.append({"case": f"N = {n}, k = {k}", "implementation": name, "cpu_seconds": round(seconds[name], 4)} | ratios)
    return rows


def _step(name: str, n: int, k: int) -> Callable[[], None]:
    """One step of an implementation: forward, sum of squares, backward to weights and inputs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        points = torch.randn(n, 3)
        points = points / points.norm(dim=1, keepdim=True) + 0.05 * torch.randn(n, 3)
        features = {l: torch.randn(n, CHANNELS, 2 * l + 1, requires_grad=True) for l in DEGREES}
        forward = WAYS[name][1](points, knn_graph(points, k), k)

    def step() -> None:
        for feature in features.values():
            feature.grad = None
        sum(out.square().sum() for out in forward(features)).backward()

    return step


def _peak(name: str, n: int, k: int) -> int | None:
    """Peak growth in bytes over the second of two steps, the first being small; see `bench.peak_growth`."""
    return bench.peak_growth("se3_transformer", f"b._step({name!r}, 64, 4)(); step = b._step({name!r}, {n}, {k})", "step()")


def _ours(backend: str, hidden: int = HIDDEN):
    def make(points: Tensor, edge_index: Tensor, k: int):
        blocks = [Attention(FIBER, FIBER, hidden=hidden, backend=backend) for _ in range(2)]

        def forward(features):
            edges = connect(points, edge_index, max(DEGREES))
            for block in blocks:
                features = block(features, points, edge_index, edges)
            return features.values()

        return forward

    return make


def _lucidrains(points: Tensor, edge_index: Tensor, k: int):
    from se3_transformer_pytorch.basis import get_basis
    from se3_transformer_pytorch.se3_transformer_pytorch import AttentionBlockSE3, Fiber

    options = dict(dim_head=CHANNELS, heads=1, edge_dim=0, global_feats_dim=None)
    blocks = [AttentionBlockSE3(Fiber.create(len(DEGREES), CHANNELS), **options) for _ in range(2)]
    neighbors = edge_index[0].view(1, -1, k)
    info = (neighbors, torch.ones_like(neighbors, dtype=torch.bool), None)

    def forward(features):
        apart = points[:, None] - points[neighbors[0]]
        basis, distance = get_basis(apart[None], max(DEGREES)), apart.norm(dim=-1)[None]
        out = {str(l): feature[None] for l, feature in features.items()}
        for block in blocks:
            out = block(out, info, distance, basis)
        return out.values()

    return forward


def _equiformer(feed_forward: bool):
    def make(points: Tensor, edge_index: Tensor, k: int):
        from equiformer_pytorch.basis import get_basis, get_D_to_from_z_axis
        from equiformer_pytorch.equiformer_pytorch import EdgeInfo, FeedForward, L2DistAttention

        fiber = (CHANNELS,) * len(DEGREES)
        options = dict(dim_head=CHANNELS, heads=1, radial_hidden_dim=HIDDEN, attend_self=True, init_out_zero=False)
        blocks = [(L2DistAttention(fiber, **options), FeedForward(fiber)) for _ in range(2)]
        basis, neighbors = get_basis(max(DEGREES)), edge_index[0].view(1, -1, k)
        info = EdgeInfo(neighbors, torch.ones_like(neighbors, dtype=torch.bool), None)

        def forward(features):
            apart = (points[:, None] - points[neighbors[0]])[None]
            D, distance = get_D_to_from_z_axis(apart, max(DEGREES)), apart.norm(dim=-1, keepdim=True)
            out = {l: feature[None] for l, feature in features.items()}
            for attention, feed in blocks:
                found = attention(out, edge_info=info, rel_dist=distance, basis=basis, D=D)
                out = {l: out[l] + found[l] for l in out}
                if feed_forward:
                    found = feed(out)
                    out = {l: out[l] + found[l] for l in out}
            return out.values()

        return forward

    return make


class _TensorProductAttention(nn.Module):
    """Attention from e3nn's own parts, as in its tutorial: fully connected tensor products whose weights are networks of the distance."""

    def __init__(self):
        from e3nn import nn as e3nn_nn
        from e3nn import o3

        super().__init__()
        irreps = o3.Irreps("+".join(f"{CHANNELS}x{l}e" for l in DEGREES))  # one parity for all: the symmetry is SE(3), not O(3)
        harmonics = o3.Irreps("+".join(f"{l}e" for l in range(2 * max(DEGREES) + 1)))
        products, networks = [], []
        for _ in range(2):
            products.append(o3.FullyConnectedTensorProduct(irreps, harmonics, irreps, shared_weights=False))
            networks.append(e3nn_nn.FullyConnectedNet([1, HIDDEN, HIDDEN, products[-1].weight_numel], torch.nn.functional.silu))
        self.products, self.networks = nn.ModuleList(products), nn.ModuleList(networks)
        self.query, self.mix, self.skip = (o3.Linear(irreps, irreps) for _ in range(3))
        self.scale = irreps.dim**-0.5

    def forward(self, feature, source, target, distance, harmonics):
        key, value = (p(feature[source], harmonics, net(distance)) for p, net in zip(self.products, self.networks))
        logits = (self.query(feature)[target] * key).sum(1) * self.scale
        alpha = logits.view(len(feature), -1).softmax(1).view(-1, 1)
        return self.mix(torch.zeros_like(feature).index_add(0, target, alpha * value)) + self.skip(feature)


def _e3nn(points: Tensor, edge_index: Tensor, k: int):
    from e3nn import o3

    blocks = [_TensorProductAttention() for _ in range(2)]
    irreps = o3.Irreps("+".join(f"{l}e" for l in range(2 * max(DEGREES) + 1)))
    harmonics = o3.SphericalHarmonics(irreps, normalize=True, normalization="component", irreps_in="1e")
    source, target = edge_index

    def forward(features):
        apart = points[source] - points[target]
        out = torch.cat([feature.flatten(1) for feature in features.values()], 1)
        for block in blocks:
            out = block(out, source, target, apart.norm(dim=1, keepdim=True), harmonics(apart))
        return [out]

    return forward


def _fuchs(points: Tensor, edge_index: Tensor, k: int):
    import dgl
    from equivariant_attention.fibers import Fiber
    from equivariant_attention.modules import GSE3Res, get_basis_and_r

    fiber = Fiber(len(DEGREES), CHANNELS)
    blocks = [GSE3Res(fiber, fiber, div=1, n_heads=1) for _ in range(2)]
    graph = dgl.graph((edge_index[0], edge_index[1]), num_nodes=len(points))
    graph.ndata["x"], graph.edata["d"] = points, points[edge_index[1]] - points[edge_index[0]]

    def forward(features):
        basis, r = get_basis_and_r(graph, max(DEGREES))
        out = {str(l): feature for l, feature in features.items()}
        for block in blocks:
            out = block(out, G=graph, r=r, basis=basis)
        return out.values()

    return forward


def _nvidia(low_memory: bool):
    def make(points: Tensor, edge_index: Tensor, k: int):
        import dgl
        from se3_transformer.model.basis import get_basis, update_basis_with_fused
        from se3_transformer.model.fiber import Fiber
        from se3_transformer.model.layers.attention import AttentionBlockSE3
        from se3_transformer.model.layers.convolution import ConvSE3FuseLevel

        fiber, level = Fiber.create(len(DEGREES), CHANNELS), ConvSE3FuseLevel.NONE if low_memory else ConvSE3FuseLevel.FULL
        options = dict(num_heads=1, channels_div=1, use_layer_norm=True, max_degree=max(DEGREES), fuse_level=level, low_memory=low_memory)
        blocks = [AttentionBlockSE3(fiber, fiber, **options) for _ in range(2)]
        graph = dgl.graph((edge_index[0], edge_index[1]), num_nodes=len(points))

        def forward(features):
            apart = points[edge_index[1]] - points[edge_index[0]]
            basis = get_basis(apart, max(DEGREES), compute_gradients=False, use_pad_trick=False, amp=False)
            basis = update_basis_with_fused(basis, max(DEGREES), use_pad_trick=False, fully_fused=not low_memory)
            out, edge = {str(l): feature for l, feature in features.items()}, {"0": apart.norm(dim=1)[:, None, None]}
            for block in blocks:
                out = block(out, edge, graph, basis)
            return out.values()

        return forward

    return make


# name -> (module to find, maker of a forward pass)
WAYS = {
    "densebook": ("e3nn", _ours("torch")),
    "densebook, hidden 16": ("e3nn", _ours("torch", hidden=16)),
    "densebook, plain twin": ("e3nn", _ours("plain")),
    "NVIDIA, fully fused": ("se3_transformer", _nvidia(low_memory=False)),
    "NVIDIA, low memory": ("se3_transformer", _nvidia(low_memory=True)),
    "equiformer-pytorch": ("equiformer_pytorch", _equiformer(feed_forward=True)),
    "equiformer-pytorch, attention alone": ("equiformer_pytorch", _equiformer(feed_forward=False)),
    "e3nn tensor products": ("e3nn", _e3nn),
    "se3-transformer-pytorch": ("se3_transformer_pytorch", _lucidrains),
    "Fuchs et al. on DGL": ("equivariant_attention", _fuchs),
}
