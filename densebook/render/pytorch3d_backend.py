"""Rasterising with PyTorch3D, where it is installed: the adapter behind `rasterize(..., backend="pytorch3d")`.

On a CPU PyTorch3D looks at every face for every pixel: a second or more for a small picture, minutes for a large one.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from densebook.core.optional import require


def face_ids(
    points: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], size: tuple[int, int], near: float, cull: bool = False
) -> Int[Tensor, "H W"]:
    """The nearest face at each pixel centre, -1 on the background, from homogeneous pixel coordinates (u w, v w, w).

    PyTorch3D's screen has x to the left and y up, the shorter side of the image runs from -1 to 1, and all is float32.
    Raises MissingPackageError without PyTorch3D.
    """
    require("pytorch3d")
    from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
    from pytorch3d.structures import Meshes

    height, width = size
    if not len(faces) or not bool((points[:, 2] > near).any()):
        return torch.full(size, -1, device=points.device)
    x, y, w = points.unbind(dim=1)
    divisor = torch.where(w.abs() < 1e-9, 1e-9, w)  # a corner in the camera's own plane; the near plane cuts it off
    screen = torch.stack([(width - 2 * x / divisor) / min(size), (height - 2 * y / divisor) / min(size), divisor], dim=1)
    found = rasterize_meshes(
        Meshes([screen.float()], [faces]),
        image_size=size,
        faces_per_pixel=1,
        perspective_correct=True,
        cull_backfaces=cull,
        z_clip_value=near,
    )
    return found[0][0, :, :, 0]
