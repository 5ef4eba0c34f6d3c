"""`densebook head photo.png -o head.glb`, in this process, with weights of a ball."""

import sys

import pytest
import torch
from PIL import Image, ImageDraw

from densebook.book import cli
from densebook.geometry.mesh import load
from densebook.phorhum import heads, networks

ABOUT = {"what": "toy heads", "heads": 3, "steps": 5, "size": 32, "profile": "smoke"}


@pytest.fixture
def weights(tmp_path):
    """A net that sees a ball in every picture."""
    net = networks.PhorhumNet(0.0625, 3, 0.125, torch.Generator().manual_seed(0))
    ball(net)
    net.trained_on = heads.describe(ABOUT)
    path = tmp_path / "w.safetensors"
    networks.save(net, path)
    return path


def ball(net) -> None:
    """Sets f to a sum of cosines of the coordinates: negative about the origin, a smooth closed surface."""
    with torch.no_grad():
        for layer in net.geometry_net.dense:
            layer.weight.zero_()
            layer.bias.zero_()
        first, features = net.geometry_net.dense[0], net.geometry_net.features
        first.weight[0, features + 3 : features + 6] = 1.0  # cos(pi x) + cos(pi y) + cos(pi z) + 20: swish is nearly linear there
        first.bias[0] = 20.0
        for layer in net.geometry_net.dense[1:-1]:
            layer.weight[0, 0] = 1.0
        net.geometry_net.dense[-1].weight[0, 0] = -0.3
        net.geometry_net.dense[-1].bias[0] = 0.3 * 21.5


@pytest.fixture
def photo(tmp_path):
    picture = Image.new("RGBA", (200, 200), (0, 0, 0, 0))
    ImageDraw.Draw(picture).ellipse((60, 30, 140, 150), fill=(200, 150, 120, 255))
    path = tmp_path / "photo.png"
    picture.save(path)
    return path


def run(monkeypatch, capsys, *arguments) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["densebook", "head", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    captured = capsys.readouterr()
    return stop.value.code or 0, captured.out + captured.err


@pytest.mark.parametrize("suffix", ["glb", "ply", "obj"])
def test_writes_a_mesh_in_metres_and_says_what_it_knows(monkeypatch, capsys, tmp_path, weights, photo, suffix):
    out = tmp_path / f"head.{suffix}"
    code, said = run(monkeypatch, capsys, photo, "-o", out, "--weights", weights, "--resolution", 24, "--height", 0.22)
    assert code == 0, said
    said = " ".join(said.split())
    assert "3 toy heads" in said and "no photo of a person" in said and "alpha channel" in said
    mesh = load(out)
    size = mesh.vertices.amax(0) - mesh.vertices.amin(0)
    assert mesh.colors is not None and 0.1 < float(size[1]) < 0.3
    assert float(size.max() - size.min()) < 0.02, "the field is round"


def test_lit_changes_colours_not_shape(monkeypatch, capsys, tmp_path, weights, photo):
    for name, flags in (("a", ()), ("b", ("--lit",))):
        assert run(monkeypatch, capsys, photo, "-o", tmp_path / f"{name}.ply", "--weights", weights, "--resolution", 16, *flags)[0] == 0
    a, b = load(tmp_path / "a.ply"), load(tmp_path / "b.ply")
    assert torch.equal(a.vertices, b.vertices) and not torch.allclose(a.colors, b.colors, atol=0.02)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(("-o", "head.stl"), "suffix"), (("--height", "0"), "height"), (("--weights", "nowhere.safetensors"), "no such file")],
)
def test_one_line_and_status_2(monkeypatch, capsys, weights, photo, arguments, word):
    given = arguments if "--weights" in arguments else (*arguments, "--weights", weights)
    code, said = run(monkeypatch, capsys, photo, *given)
    assert code == 2 and word in said and "Traceback" not in said


def test_without_weights_says_how_to_make_them(monkeypatch, capsys, tmp_path, photo):
    monkeypatch.setenv("DENSEBOOK_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)  # outside a checkout: no runs
    code, said = run(monkeypatch, capsys, photo)
    assert code == 2 and "densebook run phorhum/62_heads" in " ".join(said.split())


def test_foreign_weights_and_damaged_photo(monkeypatch, capsys, tmp_path, weights, photo):
    net = networks.load(weights)
    net.trained_on = ""
    networks.save(net, tmp_path / "silent.safetensors")
    code, said = run(monkeypatch, capsys, photo, "--weights", tmp_path / "silent.safetensors")
    assert code == 2 and "do not say" in said
    (tmp_path / "cut.png").write_bytes(photo.read_bytes()[:200])
    code, said = run(monkeypatch, capsys, tmp_path / "cut.png", "--weights", weights)
    assert code == 2 and "cannot be read" in " ".join(said.split())
