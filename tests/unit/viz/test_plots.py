"""Figures: small PNGs, captions and alt texts required, meshes drawn with their outside towards the reader."""

import io

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from densebook.core import records
from densebook.core.errors import InputError
from densebook.geometry.mesh import Mesh
from densebook.viz import plots

TETRAHEDRON = Mesh(
    torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]),
)


def test_show_needs_caption_and_alt_and_keeps_the_picture(tmp_path, capsys):
    record = records.start("x", profile="smoke", seed=0, device="cpu", data="toy", out_dir=str(tmp_path))
    before = plt.get_fignums()
    figure, axes = plt.subplots()
    axes.plot([0, 1], [1, 0])
    with pytest.raises(InputError, match="caption and an alt"):
        plots.show(figure, caption="A line.", alt="")
    plots.show(figure, caption="A line.", alt="A falling line.", record=record, name="line")
    assert Image.open(tmp_path / "figures" / "line.png").size == (640, 480)
    assert plt.get_fignums() == before, "shown figures are closed"


def test_png_is_small():
    figure, axes = plt.subplots()
    axes.imshow(np.linspace(0, 1, 64 * 64).reshape(64, 64))
    raw = io.BytesIO()
    figure.savefig(raw, format="png")
    assert len(plots.png(figure)) < 0.8 * len(raw.getvalue())
    plt.close(figure)


def soft_picture():
    """Three balls in soft light on white paper: more colours than a palette holds."""
    u, v = np.meshgrid(np.linspace(-1.1, 1.1, 120), np.linspace(1.1, -1.1, 120))
    inside = u * u + v * v < 1
    light = 0.1 + 0.9 * np.clip(0.4 * u + 0.5 * v + 0.76 * np.sqrt(np.where(inside, 1 - u * u - v * v, 0)), 0, None)
    balls = [np.where(inside[..., None], light[..., None] * np.array(c), 1.0) for c in ((0.9, 0.3, 0.2), (0.3, 0.6, 0.9), (0.9, 0.9, 0.5))]
    figure = plt.figure(figsize=(3.6, 1.2), dpi=100, layout="none")
    figure.figimage(np.concatenate(balls, axis=1).clip(0, 1))
    return figure


def pixels(data) -> np.ndarray:
    return np.asarray(Image.open(data).convert("RGB")).astype(float)


@pytest.mark.parametrize("colors", [16, 256])
def test_dithering_removes_bands_and_leaves_the_paper_clean(colors):
    figure = soft_picture()
    raw = io.BytesIO()
    figure.savefig(raw, format="png", dpi=100)
    true = pixels(raw)

    def bands(**options):
        found = pixels(io.BytesIO(plots.png(figure, colors, **options)))
        assert len(np.unique(found.reshape(-1, 3), axis=0)) <= colors
        white = (true == 255).all(axis=-1)
        assert (found[white] == 255).all() or not options
        error = (found - true)[: 120 // 6 * 6, : 360 // 6 * 6].reshape(20, 6, 60, 6, 3).mean(axis=(1, 3))
        return np.sqrt((error**2).mean())  # what is left of the error when the eye averages over 6 x 6 pixels

    assert bands(dither=True) < (0.8 * bands() if colors == 16 else 0.5)  # 256 colours are enough for these three
    plt.close(figure)


def test_show_dithers_when_asked(tmp_path):
    record = records.start("x", profile="smoke", seed=0, device="cpu", data="toy", out_dir=str(tmp_path))
    for name, dither in (("plain", False), ("dithered", True)):
        plots.show(soft_picture(), caption="Balls.", alt="Three balls.", record=record, name=name, dither=dither)
    plain, dithered = ((tmp_path / "figures" / f"{name}.png").read_bytes() for name in ("plain", "dithered"))
    assert plain != dithered and dithered == plots.png(soft_picture(), dither=True)


@pytest.mark.parametrize("flip", [False, True])
def test_back_faces_are_culled(flip):
    mesh = Mesh(TETRAHEDRON.vertices, TETRAHEDRON.faces.flip(1) if flip else TETRAHEDRON.faces)
    _, axes = plt.subplots()
    plots.draw_mesh(axes, mesh, azimuth=0.6, elevation=0.5)
    drawn = len(axes.collections[0].get_paths())
    assert drawn == (3 if flip else 1), "from (+,+,+) only the slanted face looks at the reader"
    plt.close("all")


def test_vertex_colours_are_shown():
    mesh = Mesh(TETRAHEDRON.vertices, TETRAHEDRON.faces, colors=torch.tensor([[1.0, 0, 0]] * 4))
    _, axes = plt.subplots()
    plots.draw_mesh(axes, mesh)
    red, green, blue = axes.collections[0].get_facecolor()[0][:3]
    assert red > 0.3 and green == 0 and blue == 0
    plt.close("all")
