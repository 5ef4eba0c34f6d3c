"""Figures as the book shows them: small PNGs with a caption and an alt text, and shaded meshes without a GPU."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from densebook.core.errors import InputError

# Okabe-Ito: told apart by colour-blind readers too.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")


def style() -> None:
    """matplotlib's settings for the book; call it once after the imports."""
    import matplotlib as mpl

    mpl.rcParams.update(
        {
            "figure.dpi": 100,
            "savefig.dpi": 100,
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": mpl.cycler(color=COLORS),
            "image.interpolation": "nearest",
        }
    )


def png(figure, colors: int = 256, dither: bool = False) -> bytes:
    """A matplotlib figure as a PNG of at most `colors` colours (a third of the bytes, no difference to the eye).

    `dither` is for soft shading, where plain rounding draws bands: each pixel's error goes on to its neighbours (Floyd and
    Steinberg 1976). It costs bytes, a tenth to a half more; the paper colour stays free of dots.
    """
    from PIL import Image

    raw = io.BytesIO()
    figure.savefig(raw, format="png")
    raw.seek(0)
    picture = Image.open(raw).convert("RGB")
    picture = _dithered(picture, colors) if dither else picture.quantize(colors, dither=Image.Dither.NONE)
    small = io.BytesIO()
    picture.save(small, format="png", optimize=True)
    return small.getvalue()


def _dithered(picture, colors: int):
    """A PIL picture in `colors` colours, the error diffused; where it has its most frequent colour, it keeps it."""
    from PIL import Image

    paper = max(picture.getcolors(picture.width * picture.height))[1]
    found = picture.quantize(colors - 1, kmeans=2).getpalette()[: 3 * (colors - 1)]
    palette = Image.new("P", (1, 1))
    palette.putpalette([*found, *paper])
    index = np.array(picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG))
    index[(np.asarray(picture) == paper).all(axis=-1)] = len(found) // 3
    kept = Image.fromarray(index)
    kept.putpalette([*found, *paper])
    return kept


def show(figure, caption: str, alt: str, record=None, name: str = "", dither: bool = False) -> None:
    """Show a figure with its caption and alt text, close it, and keep it with the record as figures/<name>.png.

    `caption` says what to see; `alt` describes the picture to someone who cannot. Both are required. `dither` as in `png`.
    """
    import matplotlib.pyplot as plt
    from IPython.display import Image, Markdown, display

    from densebook.core.files import atomic_path

    if not caption or not alt:
        raise InputError("a picture needs both a caption and an alt text")
    data = png(figure, dither=dither)
    plt.close(figure)
    if record is not None and name:
        with atomic_path(Path(record.folder) / "figures" / f"{name}.png") as temporary:
            temporary.write_bytes(data)
    display(Image(data=data, alt=alt))
    display(Markdown(f"*{caption}*"))


def draw_mesh(
    axes, mesh, azimuth: float = 0.6, elevation: float = 0.35, color="#c9c4ba", edges: bool = False, light=(0.4, 0.6, 0.9)
) -> None:
    """Draw a shaded mesh into matplotlib axes: orthographic, y up, back faces culled, painter's algorithm.

    `azimuth` and `elevation` in radians; `color` is used where the mesh has no vertex colours; `light` points to the
    light in view coordinates (right, up, towards the reader). The axes are in metres of the view plane.
    """
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgb

    vertices = mesh.vertices.detach().cpu().numpy().astype(float)
    faces = mesh.faces.cpu().numpy()
    ca, sa, ce, se = np.cos(azimuth), np.sin(azimuth), np.cos(elevation), np.sin(elevation)
    view = np.array([[ca, 0, -sa], [-se * sa, ce, -se * ca], [ce * sa, se, ce * ca]])
    corners = (vertices @ view.T)[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normals, axis=1)
    front = (normals[:, 2] > 0) & (length > 0)
    corners, normals, faces = corners[front], normals[front] / length[front, None], faces[front]
    direction = np.asarray(light) / np.linalg.norm(light)
    shade = 0.35 + 0.65 * np.clip(normals @ direction, 0, None)
    base = np.asarray(to_rgb(color)) if mesh.colors is None else mesh.colors.detach().cpu().numpy()[faces].mean(axis=1) ** (1 / 2.2)
    rgb = np.clip(shade[:, None] * base, 0, 1)
    order = np.argsort(corners[:, :, 2].mean(axis=1))
    axes.add_collection(
        PolyCollection(
            corners[order][:, :, :2],
            facecolors=rgb[order],
            edgecolors="#00000040" if edges else rgb[order],
            linewidths=0.4,
            rasterized=True,
        )
    )
    low, high = (vertices @ view.T)[:, :2].min(axis=0), (vertices @ view.T)[:, :2].max(axis=0)
    pad = 0.04 * (high - low).max()
    axes.set(xlim=(low[0] - pad, high[0] + pad), ylim=(low[1] - pad, high[1] + pad), aspect="equal")
