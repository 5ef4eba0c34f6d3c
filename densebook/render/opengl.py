"""Rasterising with OpenGL through moderngl: the mechanism behind `rasterize(..., backend="opengl")`.

One pass draws the number of each face into an integer picture, which is read back; what follows from it is computed in
PyTorch. A context belongs to one thread of one process and is made when it is first needed; a process that was forked
after its parent had drawn cannot draw (workers are to be spawned, or to use backend "torch", as "auto" does).

Vertices are projected in float64 and handed over in float32 clip coordinates. OpenGL counts rows from the bottom: its y
points along our v, so that its first row is ours and nothing has to be turned over. It snaps corners to 1/256 of a pixel.
"""

from __future__ import annotations

import os
import sys
import threading

import torch
from jaxtyping import Float, Int
from torch import Tensor

from densebook.core.errors import InputError, MissingPackageError
from densebook.core.optional import require

_TYPES = {"i4": torch.int32, "f4": torch.float32}
_VERTEX = """
#version 330
in vec4 position;
flat out int vertex;
void main() { gl_Position = position; vertex = gl_VertexID; }
"""
_FACE = """
#version 330
layout(location = 0) out int face;
void main() { face = gl_PrimitiveID + 1; }
"""
_CORNERS = """
#version 330
layout(triangles) in;
layout(triangle_strip, max_vertices = 3) out;
flat in int vertex[];
flat out ivec3 vertices;
smooth out vec3 weights;
void main() {
    for (int i = 0; i < 3; i++) {
        gl_Position = gl_in[i].gl_Position;
        vertices = ivec3(vertex[0], vertex[1], vertex[2]);
        weights = vec3(i == 0, i == 1, i == 2);
        EmitVertex();
    }
    EndPrimitive();
}
"""
_CHANNELS = """
#version 330
flat in ivec3 vertices;
smooth in vec3 weights;
layout(location = 0) out ivec4 indices;
layout(location = 1) out vec4 barycentrics;
void main() { indices = ivec4(vertices + 1, 0); barycentrics = vec4(weights, 1.0); }
"""


class _Screen:
    """A context with its programs and the framebuffer drawn last."""

    def __init__(self) -> None:
        global _process
        moderngl = require("moderngl")
        if _process not in (None, os.getpid()):  # Mesa's threads are not copied by a fork: the child would wait for them for ever
            raise InputError(
                "backend 'opengl' cannot draw in a process forked from one that has drawn; "
                "start workers with the method 'spawn', or use backend='torch'"
            )
        try:
            self.context = moderngl.create_context(standalone=True, **({"backend": "egl"} if sys.platform.startswith("linux") else {}))
            self.face = self.context.program(vertex_shader=_VERTEX, fragment_shader=_FACE)
            self.channels = self.context.program(vertex_shader=_VERTEX, geometry_shader=_CORNERS, fragment_shader=_CHANNELS)
        except Exception as error:  # moderngl raises nothing narrower
            raise InputError(
                f"backend 'opengl' gets no context here ({str(error).strip() or type(error).__name__}); "
                "install libegl1, libgl1 and libgl1-mesa-dri, or use backend='torch'"
            ) from error
        _process = os.getpid()
        self.largest = int(self.context.info["GL_MAX_TEXTURE_SIZE"])
        self.key, self.buffers, self.frame = None, (), None
        self.context.__exit__(None, None, None)  # current while it draws only: others may draw in this thread, and see __del__

    def __del__(self) -> None:
        """A thread that ends gives its context back (which a current one would not do); a forked child leaves its parent's alone."""
        if _process == os.getpid() and hasattr(self, "context"):
            self.context.release()

    def target(self, size: tuple[int, int], formats: tuple[tuple[int, str], ...]):
        """A framebuffer of `size` (height, width) with one texture for each (components, dtype); the last one is kept."""
        if (size, formats) != self.key:
            for old in self.buffers:
                old.release()
            shape = (size[1], size[0])
            textures = [self.context.texture(shape, n, dtype=kind) for n, kind in formats]
            depth = self.context.depth_renderbuffer(shape)
            self.frame = self.context.framebuffer(textures, depth)
            self.key, self.buffers = (size, formats), (self.frame, *textures, depth)
        return self.frame


_own = threading.local()
_process: int | None = None  # the process that has made a context
_refused: set[int] = set()  # processes that got none, so that "auto" asks once


def _screen() -> _Screen:
    """This thread's screen, made when it is first asked for."""
    if getattr(_own, "screen", None) is None or _process != os.getpid():
        _own.screen = _Screen()
    return _own.screen


def available(size: tuple[int, int] = (1, 1)) -> bool:
    """Whether this thread can draw pictures of `size` (height, width) with OpenGL; makes the context."""
    if os.getpid() in _refused:
        return False
    try:
        return max(size) <= _screen().largest
    except (InputError, MissingPackageError):
        _refused.add(os.getpid())
        return False


def _clip_coordinates(points: Float[Tensor, "V 3"], size: tuple[int, int], near: float) -> Float[Tensor, "V 4"]:
    """Clip coordinates in float32 of homogeneous pixels (u w, v w, w); the near plane is the clip volume's.

    Depth is spread between the nearest and the farthest vertex, so that its 24 bits resolve the scene.
    """
    height, width = size
    x, y, w = points.unbind(dim=1)
    low, high = (float(v) for v in w.aminmax())
    front = max(near, 0.999 * low)
    back = max(1.001 * high, 1.001 * front)
    z = (w * (back + front) - 2 * back * front) / (back - front)
    clip = torch.stack([2 * x / width - w, 2 * y / height - w, z, w], dim=1)
    return (clip / clip.abs().amax()).float()


def _pictures(
    program: str, formats: tuple[tuple[int, str], ...], points: Tensor, faces: Tensor, size, near: float, cull: bool
) -> list[Tensor]:
    """Draw with one of the programs and read back a picture (H, W, components) for each of the formats."""
    screen = _screen()
    if max(size) > screen.largest:
        raise InputError(f"size {tuple(size)} is more than this OpenGL draws ({screen.largest} pixels a side); use backend='torch'")
    with screen.context:
        frame = screen.target(tuple(size), formats)
        frame.use()
        frame.clear()
        if len(faces) and bool((points[:, 2] > near).any()):
            _draw(screen.context, getattr(screen, program), _clip_coordinates(points, size, near), faces, cull)
        pictures = [torch.empty(*size, n, dtype=_TYPES[kind]) for n, kind in formats]
        for texture, picture in zip(frame.color_attachments, pictures):
            texture.read_into(picture.numpy())
    return [picture.to(faces.device) for picture in pictures]


def _draw(context, program, clip: Tensor, faces: Tensor, cull: bool) -> None:
    import moderngl

    context.enable_only(moderngl.DEPTH_TEST | (moderngl.CULL_FACE if cull else 0))
    context.front_face = "cw"  # in pixels, where v points down, a face that is counter-clockwise to the eye
    corners = context.buffer(clip.cpu().numpy())
    indices = context.buffer(faces.int().contiguous().cpu().numpy())
    array = context.vertex_array(program, [(corners, "4f", "position")], indices, index_element_size=4)
    array.render(moderngl.TRIANGLES)
    for thing in (array, indices, corners):
        thing.release()


def face_ids(
    points: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], size: tuple[int, int], near: float, cull: bool = False
) -> Int[Tensor, "H W"]:
    """The nearest face at each pixel centre, -1 on the background, from homogeneous pixel coordinates (u w, v w, w).

    One pass, one integer a pixel read back. Memory: 28 bytes a vertex and a face, 8 a pixel. Raises InputError where no
    context can be made or the picture is larger than OpenGL draws, MissingPackageError without moderngl.
    """
    (picture,) = _pictures("face", ((1, "i4"),), points, faces, size, near, cull)
    return picture[..., 0].long() - 1


def channels(
    points: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], size: tuple[int, int], near: float, cull: bool = False
) -> tuple[Int[Tensor, "H W 3"], Float[Tensor, "H W 3"]]:
    """The layout of the paper (StilllebenDR): vertex indices (-1 on the background) and barycentrics, drawn and read back.

    A geometry shader gives each corner its weight, and OpenGL interpolates with perspective. Here to be compared with
    `face_ids`: it reads back eight numbers a pixel, and barycentrics of snapped corners. Errors as `face_ids`.
    """
    indices, weights = _pictures("channels", ((4, "i4"), (4, "f4")), points, faces, size, near, cull)
    return indices[..., :3].long() - 1, weights[..., :3]
