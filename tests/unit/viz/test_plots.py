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
