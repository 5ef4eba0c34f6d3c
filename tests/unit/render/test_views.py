"""Views: the whole mesh is seen, lights suit any mesh, stills, strip and widget; the chapter's names load when used."""

import math
import subprocess
import sys
from dataclasses import replace

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import densebook.render
from densebook.core.errors import InputError
from densebook.data import toy
from densebook.geometry.mesh import Mesh, transform
from densebook.render import shading, views
from densebook.testing import assert_close

BLOB = toy.blob_mesh(2)
SMALL = {"size": (40, 48), "backend": "torch"}


@settings(max_examples=25, deadline=None)
@given(st.floats(-7, 7), st.floats(-1.5, 1.5), st.sampled_from([(32, 32), (20, 60), (60, 20)]), st.integers(0, 10**6), st.floats(-3, 3))
def test_framing_sees_the_whole_mesh_and_fills_the_picture(azimuth, elevation, size, seed, exponent):
    draw = torch.Generator().manual_seed(seed)
    vertices = 10**exponent * (torch.randn(40, 3, generator=draw) * torch.rand(3, generator=draw) + torch.randn(3, generator=draw))
    camera = views.framing(Mesh(vertices, [[0, 1, 2]]), azimuth, elevation, size)
    uv, depth = camera.project(vertices)
    assert (depth > camera.near).all()
    assert (uv >= 0).all() and (uv <= uv.new_tensor([size[1], size[0]])).all()


def test_a_ball_fills_the_picture():
    ball = toy.icosphere(3)
    mask = (views.still(ball, background=0.0, size=(64, 64), backend="torch") > 0).all(-1)
    assert 0.65 < mask.float().mean() < math.pi / 4
    assert not mask[0].any() and not mask[:, 0].any() and not mask[-1].any() and not mask[:, -1].any()


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_scale_and_place_change_nothing(scale):
    T = torch.diag(torch.tensor([scale, scale, scale, 1.0]))
    T[:3, 3] = torch.tensor([1.0, -2.0, 3.0]) * scale
    before, after = (views.still(mesh, 0.4, **SMALL) for mesh in (BLOB, transform(BLOB, T)))
    assert before.shape == (40, 48, 3) and (before - after).abs().mean() < 2e-3


def test_studio_light_never_burns_out_and_goes_round_with_the_camera():
    normals = torch.nn.functional.normalize(torch.randn(3000, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    light = shading.shade(torch.ones_like(normals), normals, torch.zeros_like(normals), (0.0, 0.0, 5.0), views.studio())
    assert light.max() < 1 and light.min() > 0.05
    ball = toy.icosphere(4)
    front, side = (views.still(ball, azimuth, size=(48, 48), backend="torch") for azimuth in (0.0, 1.1))
    assert (front - side).abs().mean() < 5e-3
    fixed = [views.still(ball, azimuth, size=(48, 48), lights=views.studio(), backend="torch") for azimuth in (0.0, math.pi)]
    assert (fixed[0] - fixed[1]).abs().mean() > 0.03, "given lights stay where they are"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_still_is_srgb_without_gradients(dtype):
    mesh = replace(BLOB.to(dtype), vertices=BLOB.vertices.to(dtype).requires_grad_())
    picture = views.still(mesh, **SMALL)
    assert picture.dtype == dtype and not picture.requires_grad and 0 <= picture.min() and picture.max() <= 1
    assert_close(picture[0, 0], torch.ones(3, dtype=dtype))
    red = views.still(mesh, background=(0.5, 0.0, 0.0), lights=shading.Ambient(1.0), **SMALL)
    assert_close(red[0, 0], picture.new_tensor([1.055 * 0.5 ** (1 / 2.4) - 0.055, 0, 0]), atol=1e-6)


def test_supersampling_removes_steps():
    board = toy.textured_cube()
    exact = views.still(board, 0.5, over=6, **SMALL)
    errors = [(views.still(board, 0.5, over=n, antialias=False, **SMALL) - exact).square().mean() for n in (1, 3)]
    assert errors[1] < 0.3 * errors[0]


def test_turntable_is_a_strip_of_stills():
    figure = views.turntable(BLOB, count=4, size=(24, 24), columns=2, backend="torch")
    pictures = [axes.images[0].get_array() for axes in figure.axes]
    assert [axes.get_title() for axes in figure.axes] == ["0°", "90°", "180°", "270°"]
    still = views.still(BLOB, math.pi / 2, size=(24, 24), backend="torch")
    assert abs(pictures[1] / 255 - still.numpy()).max() <= 0.5 / 255 + 1e-6
    assert abs(pictures[0].astype(float) - pictures[2]).mean() > 1
    plt.close(figure)


def test_widget_renders_when_asked(monkeypatch):
    asked = []
    true = views.still
    monkeypatch.setattr(views, "still", lambda mesh, azimuth, **options: asked.append(azimuth) or true(mesh, azimuth, **options))
    box = views.widget(BLOB, count=6, size=(24, 24), alt="A blob", backend="torch")
    assert asked == [0.0] and "A blob, turned by 0 degrees" in box.children[1].value
    box.children[0].value = 3
    assert asked == [0.0, math.pi]


def test_refusals():
    with pytest.raises(InputError, match="over is 0"):
        views.still(BLOB, over=0)
    with pytest.raises(InputError, match="no vertices"):
        views.framing(Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64)))


def test_names_of_the_chapter_load_when_used():
    code = "import sys, densebook.render as r; assert 'torch' not in sys.modules; print(*dir(r)); r.Camera; assert 'torch' in sys.modules"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert set(printed) >= {"Camera", "look_at", "orbit", "rasterize", "render", "turntable", "widget"}
    for name in printed:
        assert getattr(densebook.render, name) is not None
    assert densebook.render.turntable is views.turntable
    assert not hasattr(densebook.render, "nothing")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda_agrees():
    assert (views.still(BLOB.to("cuda"), **SMALL).cpu() - views.still(BLOB, **SMALL)).abs().mean() < 2e-3
