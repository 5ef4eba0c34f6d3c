"""Message passing through DGL, the package of the SE3-Unet paper: the same numbers as the plain form, for readers who have it.

DGL is optional and no longer maintained (1.1.3 is the last wheel that runs beside current PyTorch); imported when used.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.optional import require


def _graph(source: Tensor, target: Tensor, nodes: int):
    """A DGL graph whose edges keep their order."""
    return require("dgl").graph((source, target), num_nodes=nodes)


def _side_by_side(parts: dict[int, Tensor], heads: int) -> Tensor:
    """Features by degree (rows, channels, 2l+1) as one tensor (rows, heads, numbers)."""
    return torch.cat([parts[l].unflatten(1, (heads, -1)).flatten(2) for l in sorted(parts)], dim=2)


def weights(query: dict[int, Tensor], keys: dict[int, Tensor], source: Tensor, target: Tensor, heads: int, scale: float) -> Tensor:
    """Softmax over the edges of each target of key times query: (E, heads). Raises MissingPackageError without DGL."""
    dgl = require("dgl")
    q, k = _side_by_side(query, heads), _side_by_side(keys, heads)
    graph = _graph(source, target, len(q))
    return dgl.ops.edge_softmax(graph, dgl.ops.e_dot_v(graph, k, q)[..., 0] * scale)


def collect(messages: Tensor, source: Tensor, target: Tensor, nodes: int) -> Tensor:
    """Sum of the messages (E, ...) at their targets: (N, ...). Raises MissingPackageError without DGL."""
    return require("dgl").ops.copy_e_sum(_graph(source, target, nodes), messages)
