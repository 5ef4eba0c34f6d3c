"""A bounding volume hierarchy over triangles in plain torch: nearest points and winding numbers, batched, on any device.

Faces are sorted along a Morton curve and cut into runs of 8, runs of 64, and so on: the tree is implicit, node i of a level
has the children 8i .. 8i+7 of the level below, and the lowest level are the faces themselves. A traversal holds a list of
(query, node) pairs and replaces it by the pairs of children that may still matter; no loop goes over points or faces.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

BRANCH = 8  # children of a node
PAIRS = 1 << 16  # (query, node) pairs expanded at a time: bounds the memory to about 40 MB beside queries and tree
CHUNK = 1 << 14  # queries walked down together


@dataclass(frozen=True, eq=False)
class Bvh:
    """The tree; see `build`. Levels run from the root's children down to the faces."""

    order: Int[Tensor, "F"]  # face number in the mesh of each sorted face
    boxes: list[Float[Tensor, "6 _ 8"]]  # by level: centre and half size of the children, by parent; empty ones at infinity
    frames: Float[Tensor, "16 F"]  # of each sorted face: corner a, three axes, bx, cx, cy, permutation of its corners
    moments: list[Float[Tensor, "_ 14"]]  # by level: what the winding number needs of a child, see `_moments`
    corners: Float[Tensor, "9 F"]  # of each sorted face


def build(triangles: Float[Tensor, "F 3 3"]) -> Bvh:
    """The tree over at least one triangle. Memory: about 600 bytes a face in float32."""
    exact = triangles.detach().double()
    order = morton_order(exact.mean(dim=1))
    exact = exact[order]
    low, high = exact.amin(dim=1), exact.amax(dim=1)
    boxes, moments = [], []
    size = 1  # faces in a node of the level
    while True:
        boxes.append(_box_table(low, high).to(triangles.dtype))
        moments.append(_moments(exact, size).to(triangles.dtype))
        if len(low) <= BRANCH:
            break
        low = _padded(low, math.inf).reshape(-1, BRANCH, 3).amin(dim=1)
        high = _padded(high, -math.inf).reshape(-1, BRANCH, 3).amax(dim=1)
        size *= BRANCH
    return Bvh(
        order=order,
        boxes=boxes[::-1],
        moments=moments[::-1],
        frames=_frames(exact).to(triangles.dtype).T.contiguous(),
        corners=exact.to(triangles.dtype).reshape(-1, 9).T.contiguous(),
    )


def morton_order(points: Float[Tensor, "N 3"]) -> Int[Tensor, "N"]:
    """The order of points along a Morton curve through their bounding box: neighbours in it are neighbours in space."""
    if not len(points):
        return torch.zeros(0, dtype=torch.int64, device=points.device)
    low, high = points.amin(dim=0), points.amax(dim=0)
    extent = (high - low).amax().clamp(min=torch.finfo(points.dtype).tiny)
    cells = ((points - low) / extent * 1023).to(torch.int64)
    code = torch.zeros_like(cells[:, 0])
    for axis in range(3):
        x = cells[:, axis]
        for shift, mask in ((16, 0x30000FF), (8, 0x300F00F), (4, 0x30C30C3), (2, 0x9249249)):  # spread 10 bits, two zeros between
            x = (x | x << shift) & mask
        code |= x << axis
    return code.to(torch.int32).argsort()


def _padded(rows: Tensor, value: float) -> Tensor:
    """Rows up to a multiple of BRANCH."""
    missing = -len(rows) % BRANCH
    return torch.cat([rows, rows.new_full((missing, *rows.shape[1:]), value)]) if missing else rows


def _box_table(low: Tensor, high: Tensor) -> Float[Tensor, "6 N 8"]:
    """Centre and half size, components first; boxes that are only there to fill up lie at infinity."""
    rows = torch.cat([_padded((low + high) / 2, math.inf), _padded((high - low) / 2, 0.0)], dim=1)
    return rows.T.reshape(6, -1, BRANCH).contiguous()


# ---- the nearest point -----------------------------------------------------------------------------------------------


def _frames(triangles: Float[Tensor, "F 3 3"]) -> Float[Tensor, "F 16"]:
    """Each triangle in a plane of its own: origin a, x axis along its longest side to b = (bx, 0), c = (cx, cy), cy >= 0.

    With the longest side as base, a sliver becomes a segment and a point stays a point: nothing is divided by its area.
    """
    sides = (triangles.roll(-1, dims=1) - triangles).norm(dim=2)
    first = sides.argmax(dim=1)
    turn = (first[:, None] + torch.arange(3, device=first.device)) % 3
    a, b, c = triangles.gather(1, turn[..., None].expand(-1, -1, 3)).unbind(dim=1)
    bx = (b - a).norm(dim=1, keepdim=True)
    x_axis = torch.where(bx > 0, (b - a) / bx.clamp(min=1e-300), (b - a).new_tensor([1.0, 0, 0]))
    cx = ((c - a) * x_axis).sum(dim=1, keepdim=True)
    rest = c - a - cx * x_axis
    cy = rest.norm(dim=1, keepdim=True)
    other = torch.nn.functional.one_hot(x_axis.abs().argmin(dim=1), 3).to(a)  # for a sliver any direction across will do
    spare = torch.nn.functional.normalize(torch.linalg.cross(x_axis, other), dim=1)
    flat = cy <= 1e-12 * bx
    y_axis = torch.where(flat, spare, rest / cy.clamp(min=1e-300))
    y_axis = torch.nn.functional.normalize(y_axis - (y_axis * x_axis).sum(dim=1, keepdim=True) * x_axis, dim=1)
    return torch.cat([a, x_axis, y_axis, torch.linalg.cross(x_axis, y_axis), bx, cx, cy.where(~flat, 0 * cy), first[:, None].to(a)], dim=1)


def _plane_point(frames: Float[Tensor, "16 P"], points: Float[Tensor, "3 P"]) -> list[Tensor]:
    """Coordinates x, y, z of points in their triangles' frames."""
    dx, dy, dz = points[0] - frames[0], points[1] - frames[1], points[2] - frames[2]
    return [(dx * frames[i]).addcmul_(dy, frames[i + 1]).addcmul_(dz, frames[i + 2]) for i in (3, 6, 9)]


def _sides(x: Tensor, y: Tensor, bx: Tensor, cx: Tensor, cy: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For each side ab, bc, ca in the plane: how far along it the nearest point lies, in [0, 1], and its squared distance."""
    found = []
    tiny = torch.finfo(x.dtype).tiny
    for px, py, ex, ey in ((x, y, bx, None), (x - bx, y, cx - bx, cy), (x - cx, y - cy, -cx, -cy)):
        if ey is None:
            t = (px / ex.clamp(min=tiny)).clamp_(0, 1)
            found.append((t, (px - t * ex).square_().addcmul_(py, py)))
        else:
            t = ((px * ex).addcmul_(py, ey) / (ex * ex).addcmul_(ey, ey).clamp_(min=tiny)).clamp_(0, 1)
            found.append((t, (px - t * ex).square_() + (py - t * ey).square_()))
    return found


def _inside(x: Tensor, y: Tensor, bx: Tensor, cx: Tensor, cy: Tensor) -> Bool[Tensor, "P"]:
    """Whether the point's foot lies in the triangle; never for one without area."""
    return (y > 0) & (x * cy > y * cx) & ((x - bx) * cy < y * (cx - bx))


def _face_distance(frames: Float[Tensor, "16 P"], points: Float[Tensor, "3 P"]) -> Float[Tensor, "P"]:
    """Squared distance of points to their triangles."""
    x, y, z = _plane_point(frames, points)
    plane = (x, y, frames[12], frames[13], frames[14])
    (_, ab), (_, bc), (_, ca) = _sides(*plane)
    flat = torch.minimum(torch.minimum(ab, bc), ca).masked_fill_(_inside(*plane), 0)
    return flat.addcmul_(z, z)


def _box_distances(table: Float[Tensor, "6 N 8"], node: Int[Tensor, "P"], points: Float[Tensor, "3 P"]) -> tuple[Tensor, Tensor]:
    """Squared distances (P, 8) of points to a node's eight children: of the box, and of a place its surface cannot be farther than."""
    near = far = None
    for axis in range(3):
        gap = table[axis].index_select(0, node).sub_(points[axis][:, None]).abs_()
        half = table[3 + axis].index_select(0, node)
        reach = gap + half
        gap = gap.sub_(half).clamp_(min=0)
        near = gap.square_() if near is None else near.addcmul_(gap, gap)
        far = reach.square_() if far is None else far.addcmul_(reach, reach)
    return near, far


def nearest(tree: Bvh, points: Float[Tensor, "N 3"]) -> Int[Tensor, "N"]:
    """Number of the sorted face nearest to each point; where several are equally near, one of them."""
    order = morton_order(points)
    sorted_points = points[order].T.contiguous()
    found = torch.cat([_nearest_chunk(tree, part) for part in sorted_points.split(CHUNK, dim=1)])
    return torch.empty_like(found).scatter_(0, order, found)


def _nearest_chunk(tree: Bvh, points: Float[Tensor, "3 N"]) -> Int[Tensor, "N"]:
    last = len(tree.boxes) - 1
    query = torch.arange(points.shape[1], device=points.device)
    state = _State(torch.full_like(points[0], math.inf), torch.full_like(points[0], math.inf), torch.zeros_like(query))
    stack = [(0, query, torch.zeros_like(query))]
    while stack:
        level, query, node = stack.pop()
        if len(query) * BRANCH > PAIRS:  # depth first over pieces: memory stays bounded, and later pieces meet tighter bounds
            half = len(query) // 2
            stack += [(level, query[half:], node[half:]), (level, query[:half], node[:half])]
            continue
        near, far = _box_distances(tree.boxes[level], node, points.index_select(1, query))
        closest_far, child = far.min(dim=1)
        state.bound.scatter_reduce_(0, query, closest_far, "amin")
        if level >= last - 1:
            leads = (closest_far == state.bound.index_select(0, query)).nonzero()[:, 0]
            _probe(tree, level, points, query.index_select(0, leads), (node * BRANCH + child).index_select(0, leads), state)
        row, child = (near <= state.bound.index_select(0, query)[:, None]).nonzero(as_tuple=True)
        query, node = query.index_select(0, row), node.index_select(0, row) * BRANCH + child
        if level == last:
            _improve(tree, points, query, node, state)
        elif len(query):
            stack.append((level + 1, query, node))
    return state.face


@dataclass
class _State:
    """What is known of each query: a squared distance that the nearest face does not exceed, the best one met, whose it was."""

    bound: Tensor
    best: Tensor
    face: Tensor


def _probe(tree: Bvh, level: int, points: Tensor, query: Tensor, node: Tensor, state: _State) -> None:
    """Measure one promising face under each node: a tight bound early saves most of the last two levels."""
    for table in tree.boxes[level + 1 :]:
        _, far = _box_distances(table, node, points.index_select(1, query))
        node = node * BRANCH + far.argmin(dim=1)
    _improve(tree, points, query, node, state)


def _improve(tree: Bvh, points: Tensor, query: Tensor, node: Tensor, state: _State) -> None:
    """Take the nearest of the faces paired with each query, where it is nearer than the best so far (in place)."""
    distance = _face_distance(tree.frames.index_select(1, node), points.index_select(1, query))
    state.best.scatter_reduce_(0, query, distance, "amin")
    won = (distance == state.best.index_select(0, query)).nonzero()[:, 0]
    winners = query.index_select(0, won)
    state.face[winners] = node.index_select(0, won)
    state.bound[winners] = torch.minimum(state.bound[winners], state.best[winners])


def closest(
    tree: Bvh, points: Float[Tensor, "N 3"], face: Int[Tensor, "N"] | None = None
) -> tuple[Int[Tensor, "N"], Float[Tensor, "N 3"], Int[Tensor, "N"]]:
    """The nearest face of the mesh, barycentric coordinates of the nearest point on it, and the feature that point lies on.

    Features: 0, 1, 2 the face's corners; 3, 4, 5 its sides from corner 0, 1, 2 to the next; 6 its interior. `face` is given
    where the nearest face is known already.
    """
    sorted_face = nearest(tree, points) if face is None else tree.order.argsort()[face]
    frames = tree.frames.index_select(1, sorted_face)
    x, y, _ = _plane_point(frames, points.T)
    bx, cx, cy = frames[12:15]
    sides = _sides(x, y, bx, cx, cy)
    t = torch.stack([s[0] for s in sides], dim=1)
    side = torch.stack([s[1] for s in sides], dim=1).argmin(dim=1)
    along = t.gather(1, side[:, None])[:, 0]
    inside = _inside(x, y, bx, cx, cy)
    tiny = torch.finfo(x.dtype).tiny
    wc = (y / cy.clamp(min=tiny)).clamp(0, 1)
    wb = ((x - wc * cx) / bx.clamp(min=tiny)).clamp(0, 1)
    interior = torch.stack([(1 - wb - wc).clamp(min=0), wb, wc], dim=1)
    border = torch.zeros_like(interior).scatter_(1, side[:, None], (1 - along)[:, None])
    border.scatter_(1, ((side + 1) % 3)[:, None], along[:, None])
    local = torch.where(inside[:, None], interior, border)  # by corners a, b, c of the frame
    first = frames[15].to(torch.int64)
    turn = (first[:, None] + torch.arange(3, device=first.device)) % 3
    barycentrics = torch.zeros_like(local).scatter_(1, turn, local)
    start = (side + first) % 3
    feature = torch.where(along <= 0, start, torch.where(along >= 1, (start + 1) % 3, start + 3))
    return tree.order[sorted_face], barycentrics, feature.masked_fill(inside, 6)


# ---- the winding number ----------------------------------------------------------------------------------------------


def _moments(triangles: Float[Tensor, "F 3 3"], size: int) -> Float[Tensor, "N 14"]:
    """Of every run of `size` triangles: centre p (3), vector area N (3), first moment H (6), radius r, second moment M.

    H = symmetric part of the sum of area vector x (centroid - p); M = integral of |x - p|^2 over the area, for the error bound.
    """
    count = len(triangles)
    node = torch.arange(count, device=triangles.device) // size
    total = int(node[-1]) + 1

    def gather(values: Tensor) -> Tensor:
        return values.new_zeros(total, *values.shape[1:]).index_add_(0, node, values)

    a, b, c = triangles.unbind(dim=1)
    vector = torch.linalg.cross(b - a, c - a) / 2
    area = vector.norm(dim=1, keepdim=True)
    centroid = triangles.mean(dim=1)
    weight = area + 1e-12 * area.mean() + 1e-300
    center = gather(weight * centroid) / gather(weight)
    offset = centroid - center[node]
    H = gather(vector[:, :, None] * offset[:, None, :])
    H = (H + H.transpose(1, 2)) / 2
    reach = (triangles - center[node][:, None]).square().sum(dim=2)
    radius = reach.new_zeros(total).scatter_reduce_(0, node, reach.amax(dim=1), "amax").sqrt()
    spread = (triangles - centroid[:, None]).square().sum(dim=(1, 2))[:, None] / 12
    second = gather(area * (offset.square().sum(dim=1, keepdim=True) + spread))
    flat = torch.stack([H[:, 0, 0], H[:, 1, 1], H[:, 2, 2], 2 * H[:, 0, 1], 2 * H[:, 0, 2], 2 * H[:, 1, 2]], dim=1)
    return torch.cat([center, gather(vector), flat, radius[:, None], second], dim=1)


def _far_field(moments: Float[Tensor, "14 P"], points: Float[Tensor, "3 P"]) -> tuple[Tensor, Tensor]:
    """Solid angle of nodes seen from points, to first order, and a bound on its error.

    With y = p - q and K(y) = y / |y|^3, the solid angle is the integral of <n, K(x - q)>. Expanding K about p gives
    <N, K> + tr(H)/|y|^3 - 3 y'Hy/|y|^5; the second derivative of K has norm 6/|y|^4, so the rest is at most 3 M / (|y| - r)^4.
    """
    x, y, z = moments[0] - points[0], moments[1] - points[1], moments[2] - points[2]
    square = (x * x).addcmul_(y, y).addcmul_(z, z)
    length = square.sqrt()
    inverse = 1 / (square * length)
    dipole = (x * moments[3]).addcmul_(y, moments[4]).addcmul_(z, moments[5]).add_(moments[6] + moments[7] + moments[8])
    bend = (moments[6] * x).addcmul_(moments[9], y).addcmul_(moments[10], z).mul_(x)
    bend += (moments[7] * y).addcmul_(moments[11], z).mul_(y) + moments[8] * z * z
    return (dipole - 3 * bend / square).mul_(inverse), 3 * moments[13] / (length - moments[12]).square_().square_()


def solid_angle(corners: Float[Tensor, "9 P"], points: Float[Tensor, "3 P"]) -> Float[Tensor, "P"]:
    """Signed solid angle of triangles seen from points, positive from inside (van Oosterom and Strackee 1983)."""
    ax, ay, az, bx, by, bz, cx, cy, cz = (corners[i] - points[i % 3] for i in range(9))
    la, lb, lc = ((x * x).addcmul_(y, y).addcmul_(z, z).sqrt_() for x, y, z in ((ax, ay, az), (bx, by, bz), (cx, cy, cz)))
    determinant = ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
    ab, bc, ca = ax * bx + ay * by + az * bz, bx * cx + by * cy + bz * cz, cx * ax + cy * ay + cz * az
    return 2 * torch.atan2(determinant, la * lb * lc + ab * lc + bc * la + ca * lb)


def winding(tree: Bvh, points: Float[Tensor, "N 3"], opening: float = 2.5) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
    """Generalised winding number (Jacobson 2013) by a far-field expansion (after Barill 2018), and a bound on its error.

    A node counts as far when its centre is more than `opening` of its radii away; faces that are not far are summed exactly.
    """
    order = morton_order(points)
    sorted_points = points[order].T.contiguous()
    parts = [_winding_chunk(tree, part, opening) for part in sorted_points.split(CHUNK, dim=1)]
    number, error = (torch.cat(p) for p in zip(*parts))
    return torch.empty_like(number).scatter_(0, order, number), torch.empty_like(error).scatter_(0, order, error)


def _winding_chunk(tree: Bvh, points: Float[Tensor, "3 N"], opening: float) -> tuple[Tensor, Tensor]:
    count = points.shape[1]
    total, error = (torch.zeros(count, dtype=torch.float64, device=points.device) for _ in range(2))
    last = len(tree.moments) - 1
    query = torch.arange(count, device=points.device).repeat_interleave(len(tree.moments[0]))
    node = torch.arange(len(tree.moments[0]), device=points.device).repeat(count)
    stack = [(0, query, node)]
    while stack:
        level, query, node = stack.pop()
        if len(query) > PAIRS:
            stack += [(level, q, n) for q, n in zip(query.split(PAIRS), node.split(PAIRS))]
            continue
        table = tree.moments[level]
        place = points.index_select(1, query)
        center = table.index_select(0, node)
        square = (center[:, 0] - place[0]).square_() + (center[:, 1] - place[1]).square_() + (center[:, 2] - place[2]).square_()
        far = square > (opening * center[:, 12]).square_()
        i = far.nonzero()[:, 0]
        if len(i):
            angle, bound = _far_field(center.index_select(0, i).T.contiguous(), place.index_select(1, i))
            at = query.index_select(0, i)
            total.index_add_(0, at, angle.double())
            error.index_add_(0, at, bound.double())
        i = (~far).nonzero()[:, 0]
        query, node = query.index_select(0, i), node.index_select(0, i)
        if not len(i):
            continue
        if level == last:
            total.index_add_(0, query, solid_angle(tree.corners.index_select(1, node), place.index_select(1, i)).double())
            continue
        children = (node[:, None] * BRANCH + torch.arange(BRANCH, device=node.device)).reshape(-1)
        query = query.repeat_interleave(BRANCH)
        there = children < len(tree.moments[level + 1])
        stack.append((level + 1, query[there], children[there]))
    return (total / (4 * math.pi)).to(points.dtype), (error / (4 * math.pi)).to(points.dtype)


def is_inside(tree: Bvh, points: Float[Tensor, "N 3"]) -> Bool[Tensor, "N"]:
    """Whether the winding number exceeds one half. Points whose error bound leaves that open are looked at closer, then exactly."""
    inside = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    open_ = torch.arange(len(points), device=points.device)
    for opening in (2.5, 6.0, None):
        if opening is None:
            number, error = winding_exact(tree, points[open_]), 0.0
        else:
            number, error = winding(tree, points[open_], opening)
        inside[open_] = number > 0.5
        open_ = open_[(number - 0.5).abs() <= error]
        if not len(open_):
            break
    return inside


def winding_exact(tree: Bvh, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
    """Generalised winding number summed over every face: work N x F, in pieces of PAIRS."""
    faces = tree.corners.shape[1]
    rows = max(1, PAIRS // faces)
    numbers = []
    for part in points.split(rows):
        total = torch.zeros(len(part), dtype=torch.float64, device=points.device)
        for corners in tree.corners.split(PAIRS, dim=1):
            angles = solid_angle(corners[:, None, :], part.T[:, :, None])
            total += angles.double().sum(dim=1)
        numbers.append((total / (4 * math.pi)).to(points.dtype))
    return torch.cat(numbers) if numbers else points.new_zeros(0)


# ---- self-intersection -----------------------------------------------------------------------------------------------


def is_pierced(tree: Bvh, vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> bool:
    """Whether an edge of the mesh passes through one of its faces, other than at a corner they share.

    `tree` is over the same faces, in the dtype of `vertices` (float64 is meant). Touching and lying flat on each other do not count.
    """
    ends = torch.stack([faces, faces.roll(-1, dims=1)], dim=-1).reshape(-1, 2).sort(dim=1).values
    ends = torch.unique(ends[:, 0] * len(vertices) + ends[:, 1])
    ends = torch.stack([ends // len(vertices), ends % len(vertices)], dim=1)
    a, b = vertices[ends[:, 0]], vertices[ends[:, 1]]
    center, half = ((a + b) / 2).T.contiguous(), ((a - b).abs() / 2).T.contiguous()
    order = morton_order(center.T)
    stack = [(0, part, torch.zeros_like(part)) for part in order.split(CHUNK)]
    while stack:
        level, edge, node = stack.pop()
        if len(edge) * BRANCH > PAIRS:
            middle = len(edge) // 2
            stack += [(level, edge[middle:], node[middle:]), (level, edge[:middle], node[:middle])]
            continue
        meets = None
        for axis in range(3):
            gap = tree.boxes[level][axis].index_select(0, node).sub_(center[axis].index_select(0, edge)[:, None]).abs_()
            reach = tree.boxes[level][3 + axis].index_select(0, node).add_(half[axis].index_select(0, edge)[:, None])
            meets = gap <= reach if meets is None else meets.logical_and_(gap <= reach)
        row, child = meets.nonzero(as_tuple=True)
        edge, node = edge.index_select(0, row), node.index_select(0, row) * BRANCH + child
        if level < len(tree.boxes) - 1:
            if len(edge):
                stack.append((level + 1, edge, node))
        elif bool(_pierces(vertices, ends[edge], faces[tree.order[node]]).any()):
            return True
    return False


def _pierces(vertices: Float[Tensor, "V 3"], ends: Int[Tensor, "P 2"], faces: Int[Tensor, "P 3"]) -> Bool[Tensor, "_"]:
    """Whether segments cross triangles, by the signs of five volumes; a pair that shares a vertex does not and is left out."""
    apart = (ends[:, :, None] != faces[:, None, :]).all(dim=2).all(dim=1)
    ends, faces = ends[apart], faces[apart]
    p, q = vertices[ends].unbind(dim=1)
    a, b, c = (corner - p for corner in vertices[faces].unbind(dim=1))
    d = q - p
    normal = torch.linalg.cross(b - a, c - a)
    before, behind = (-a * normal).sum(dim=1), ((d - a) * normal).sum(dim=1)
    sides = torch.stack([(d * torch.linalg.cross(u, v)).sum(dim=1) for u, v in ((a, b), (b, c), (c, a))], dim=1)
    size = torch.stack([a, b, c, d], dim=1).norm(dim=2).amax(dim=1)
    rounding = 64 * torch.finfo(vertices.dtype).eps * size**3
    crosses = (before * behind < 0) & (torch.minimum(before.abs(), behind.abs()) > rounding)
    within = (sides >= -rounding[:, None]).all(dim=1) | (sides <= rounding[:, None]).all(dim=1)
    return crosses & within
