"""A mesh from all sides: stills in soft light, a strip of them for the page, and a widget that renders on demand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from densebook.core.errors import InputError
from densebook.geometry.mesh import Mesh, bounds
from densebook.geometry.sphere_tracing import to_srgb
from densebook.render.cameras import Camera, orbit
from densebook.render.shading import Directional, Environment, Light
from densebook.viz import turntable as contact_sheet
from densebook.viz import widgets

FOV = math.radians(35)  # vertical field of view of the stills: little distortion


def studio(azimuth: float = 0.0) -> tuple[Light, ...]:
    """Lights that suit any mesh: a soft sky over warm ground, a lamp from the upper left of the camera, a fainter one behind it.

    `azimuth` in radians is the camera's, as in `orbit`: the lamps go round with it, the sky is alike all round. No light is
    stronger than a white surface can show.
    """
    up = torch.linspace(1, -1, 33)[:-1, None, None] - 1 / 32  # height over the horizon, by row
    sky, middle, ground = (torch.tensor(c) for c in ((0.34, 0.39, 0.48), (0.22, 0.23, 0.25), (0.11, 0.09, 0.07)))
    rows = torch.where(up > 0, torch.lerp(middle, sky, up.clamp_min(0)), torch.lerp(middle, ground, (-up).clamp_min(0).sqrt()))
    return (
        Environment(rows.expand(32, 64, 3).contiguous()),
        Directional(_turned((-0.70, 0.60, 0.60), azimuth), (0.56, 0.51, 0.44)),
        Directional(_turned((0.80, 0.30, -0.55), azimuth), (0.25, 0.29, 0.36)),
    )


def _turned(direction: tuple[float, float, float], azimuth: float) -> tuple[float, float, float]:
    """A direction given for a camera at +z, for one at `azimuth` radians about y."""
    (x, y, z), c, s = direction, math.cos(azimuth), math.sin(azimuth)
    return c * x + s * z, y, c * z - s * x


def framing(mesh: Mesh, azimuth: float = 0.0, elevation: float = 0.3, size: tuple[int, int] = (160, 160)) -> Camera:
    """A camera at these angles (radians) from which the whole mesh is seen, as large as it can be without changing with the angles.

    Raises InputError for a mesh without vertices.
    """
    low, high = bounds(mesh)
    center = ((low + high) / 2).detach()
    radius = max(float((mesh.vertices.detach() - center).norm(dim=1).max()), 1e-6)
    narrow = math.atan(math.tan(FOV / 2) * min(1.0, size[1] / size[0]))
    distance = 1.05 * radius / math.sin(narrow)
    camera = orbit(azimuth, elevation, distance, target=center, size=size, fov=FOV)
    return replace(camera, near=1e-3 * distance)


@torch.no_grad()
def still(
    mesh: Mesh,
    azimuth: float = 0.0,
    elevation: float = 0.3,
    size: tuple[int, int] = (160, 160),
    lights: Light | Sequence[Light] | None = None,
    background: float | Sequence[float] | Environment = 1.0,
    over: int = 2,
    **options,
) -> Float[Tensor, "H W 3"]:
    """The mesh from `azimuth` and `elevation` (radians) as sRGB in [0, 1], without gradients.

    `lights` None: `studio`, which goes round with the camera. `over` times supersampled, averaged in linear light, so that
    textures do not flicker from still to still. `options` go to `render`. Memory: that of one picture of over x size.
    """
    from densebook.render.differentiable import render

    if not isinstance(over, int) or over < 1:
        raise InputError(f"over is {over!r}; give a whole number from 1 up")
    camera = framing(mesh, azimuth, elevation, size)
    fine = camera.resized((size[0] * over, size[1] * over))
    lights = studio(azimuth) if lights is None else lights
    color = render(mesh, fine, lights=lights, background=background, **options).color
    return to_srgb(F.avg_pool2d(color.clamp(0, 1).permute(2, 0, 1)[None], over)[0].permute(1, 2, 0))


def turntable(
    mesh: Mesh,
    count: int = 9,
    size: tuple[int, int] = (160, 160),
    lights: Light | Sequence[Light] | None = None,
    columns: int = 5,
    width: float = 8.0,
    **options,
):
    """A whole turn as a strip of `count` stills for the page: a matplotlib figure, `width` inches wide, angles under the stills.

    `size` in pixels a still; `lights` and `options` as in `still`. One still is in memory at full size at a time.
    """
    turns = contact_sheet.angles(count)
    frames = [still(mesh, azimuth, size=size, lights=lights, **options) for azimuth in turns]
    return contact_sheet.strip(frames, [f"{math.degrees(a):.0f}°" for a in turns], columns=columns, width=width)


def widget(
    mesh: Mesh,
    count: int = 36,
    size: tuple[int, int] = (320, 320),
    lights: Light | Sequence[Light] | None = None,
    alt: str = "The mesh",
    **options,
):
    """An ipywidgets box with a slider over `count` angles of a whole turn; each still is rendered when it is first asked for.

    `lights` and `options` as in `still`. For a page without a kernel: `widgets.turntable_html([still(mesh, a) for a in angles])`.
    """

    def picture(azimuth: float) -> Tensor:
        return still(mesh, azimuth, size=size, lights=lights, **options)

    return widgets.turntable(picture, angles=contact_sheet.angles(count), alt=alt)
