"""The heatmap page in a real browser: the mouse moves the query, and each pixel drawn is the one that Python computes."""

import base64
import io
import os
import re
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from densebook.core.errors import InputError
from densebook.don import grasping
from densebook.viz import heatmap

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--no-sandbox --use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader --disable-background-networking "
    "--disable-component-update --disable-sync --no-first-run"
).split()
SIZE = (48, 64)


def things(count=3, dim=6, seed=0):
    """Smooth pictures and descriptor maps of unit length, each a little moved against the last."""
    draw = np.random.default_rng(seed)
    waves, phases = draw.normal(size=(dim, 2)) * 0.35, draw.uniform(0, 6, dim)
    rows, columns = np.meshgrid(np.arange(12.0), np.arange(16.0), indexing="ij")
    maps = []
    for k in range(count):
        found = np.sin(waves[:, :1, None] * (rows + k) + waves[:, 1:, None] * (columns - 2 * k) + phases[:, None, None])
        maps.append(found / np.linalg.norm(found, axis=0))
    pictures = [np.clip(0.5 + 0.4 * np.kron(m[:3], np.ones((1, 4, 4))).transpose(1, 2, 0), 0, 1) for m in maps]
    return pictures, maps


@pytest.fixture
def page():
    api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser.new_page(viewport={"width": 900, "height": 700})
        browser.close()


def opened(page, tmp_path, **options):
    pictures, maps = things()
    file = tmp_path / "heatmap.html"
    file.write_text("<!doctype html><title>t</title>" + heatmap.heatmap_html(pictures, maps, **options), encoding="utf-8")
    errors = []
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.goto(file.as_uri())
    return heatmap.encode(maps), errors


def drawn(page) -> np.ndarray:
    """The canvas' own pixels, before the page scales them."""
    from PIL import Image

    uri = page.locator("figure canvas").evaluate("c => c.toDataURL('image/png')")
    return np.array(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB"))


def hover(page, column, row):
    box = page.locator("figure .a").bounding_box()
    page.mouse.move(box["x"] + (column + 0.5) * box["width"] / SIZE[1], box["y"] + (row + 0.5) * box["height"] / SIZE[0])


@pytest.mark.browser
def test_every_pixel_under_the_mouse_is_pythons(page, tmp_path):
    codes, errors = opened(page, tmp_path, temperature=-1.0, zoom=3)
    assert (drawn(page) == heatmap.colors(heatmap.heat(codes, 0, (32, 24), 1, SIZE, -1.0))).all(), "before any move"
    for pixel in ((5, 7), (0, 0), (63, 47), (40, 13)):
        hover(page, *pixel)
        best = heatmap.heat(codes, 0, pixel, 1, SIZE, -1.0)
        assert (drawn(page) == heatmap.colors(best)).all(), pixel
        row, column = np.unravel_index(best.argmax(), SIZE)
        assert page.locator("figure output").inner_text() == f"t = -1.0: {pixel} is found at ({column}, {row}), heat {best.max():.3f}"
    assert errors == []


@pytest.mark.browser
def test_temperature_instance_and_arrow_keys(page, tmp_path):
    codes, errors = opened(page, tmp_path, temperature=0.0, start=(10, 20), labels=["one", "two", "three"], alt="Waves")
    hover(page, 10, 20)
    page.get_by_role("slider", name="Temperature").fill("-2.5")
    assert (drawn(page) == heatmap.colors(heatmap.heat(codes, 0, (10, 20), 1, SIZE, -2.5))).all()
    page.get_by_role("combobox", name="Search in").select_option("three")
    assert (drawn(page) == heatmap.colors(heatmap.heat(codes, 0, (10, 20), 2, SIZE, -2.5))).all()
    page.locator("figure .a").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    assert (drawn(page) == heatmap.colors(heatmap.heat(codes, 0, (12, 21), 2, SIZE, -2.5))).all()
    before = page.locator("figure .b img").get_attribute("src")
    page.get_by_role("combobox", name="Search in").select_option("one")
    assert page.locator("figure .b img").get_attribute("src") != before
    assert "(12, 21) is found at (12, 21), heat 1.000" in page.locator("figure output").inner_text() and errors == []


@pytest.mark.browser
@pytest.mark.slow
def test_in_jupyterlab_the_mouse_draws_too(page, tmp_path):
    """A private server, one notebook, Run All, then the mouse: the output's script runs in JupyterLab."""
    pytest.importorskip("jupyterlab")
    pictures, maps = things()
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "page.html").write_text(heatmap.heatmap_html(pictures, maps, temperature=-1.0), encoding="utf-8")
    with lab(tmp_path, "from IPython.display import HTML, display\ndisplay(HTML(open('page.html').read()))") as url:
        page.goto(url)
        # "Idle" below the page may come before the notebook has its kernel; running then would open a dialog over it
        session = "window.jupyterapp?.shell?.currentWidget?.sessionContext"
        page.wait_for_function(f"{session}?.isReady && {session}?.session?.kernel?.status === 'idle'", timeout=120_000)
        page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
        output = ".jp-OutputArea-output figure output"
        page.wait_for_function(f"document.querySelector('{output}')?.textContent.startsWith('t = ')", timeout=90_000)
        page.locator("figure .a").evaluate("e => e.scrollIntoView()")
        hover(page, 40, 13)
        page.wait_for_function(f"document.querySelector('{output}').textContent.includes('(40, 13) is found')")
        codes = heatmap.encode(maps)
        assert (drawn(page) == heatmap.colors(heatmap.heat(codes, 0, (40, 13), 1, SIZE, -1.0))).all()


class lab:
    """JupyterLab on a free port with folders of its own; a notebook of one cell is at the address it gives."""

    def __init__(self, folder, cell):
        self.folder, self.cell = folder, cell

    def __enter__(self) -> str:
        import json
        import socket
        import subprocess
        import sys
        import time
        import urllib.error
        import urllib.request

        notebook = {
            "cells": [{"cell_type": "code", "execution_count": None, "id": "one", "metadata": {}, "outputs": [], "source": self.cell}],
            "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
            "nbformat": 4,
            "nbformat_minor": 5,
        }
        (self.folder / "work" / "one.ipynb").write_text(json.dumps(notebook))
        config = self.folder / "config" / "labconfig"
        config.mkdir(parents=True)
        disabled = {"@jupyterlab/apputils-extension:announcements": True}
        (config / "page_config.json").write_text(json.dumps({"buildCheck": False, "buildAvailable": False, "disabledExtensions": disabled}))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        names = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython"}
        environment = os.environ | {k: str(self.folder / v) for k, v in names.items()}
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--ServerApp.port_retries=0"]
        command += ["--expose-app-in-browser", "--IdentityProvider.token=secret", f"--ServerApp.root_dir={self.folder / 'work'}"]
        self.log = open(self.folder / "log", "w")
        self.process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=self.log, stderr=subprocess.STDOUT)
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status?token=secret", timeout=2)
                break
            except (urllib.error.URLError, OSError):
                assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
                time.sleep(0.25)
        return f"http://127.0.0.1:{port}/doc/tree/one.ipynb?token=secret&reset"

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=20)
        self.log.close()


# What needs no browser


def test_python_twin_is_the_heatmap_of_the_chapter():
    _, maps = things()
    codes = heatmap.encode(maps)
    full = [F.normalize(F.interpolate(torch.as_tensor(codes.map(k))[None], SIZE, mode="bilinear")[0], dim=0) for k in (0, 1)]
    for column, row in ((3, 4), (63, 0), (20, 47)):
        query = torch.as_tensor(heatmap.descriptor(codes, 0, (column, row), SIZE))
        assert torch.allclose(query, full[0][:, row, column], atol=1e-12)
        theirs = grasping.heatmap(query, full[1], 0.3)
        assert np.allclose(heatmap.heat(codes, 0, (column, row), 1, SIZE, 0.3), theirs.numpy(), atol=1e-12)


def test_codes_are_half_a_step_off_at_most_and_colors_differ():
    _, maps = things()
    maps[1] = maps[1][:, :5, :7]
    codes = heatmap.encode(maps)
    assert [c.shape for c in codes.maps] == [(6, 12, 16), (6, 5, 7), (6, 12, 16)]
    for k, m in enumerate(maps):
        assert (np.abs(codes.map(k) - m) <= codes.step[:, None, None] * (0.5 + 1e-9)).all()
    assert len({tuple(c) for c in heatmap.palette()}) == 256
    flat = heatmap.encode([np.ones((2, 3, 3))])
    assert (flat.map(0) == 1).all()


def test_page_is_small_labelled_and_loads_nothing():
    pictures, maps = things()
    page = heatmap.heatmap_html(pictures, [torch.as_tensor(m) for m in maps], labels=["<one>", "two & two", "three"], alt='A "wave"')
    assert len(page) < 40_000
    assert "&lt;one&gt;" in page and "two &amp; two" in page and "<one>" not in page and 'A &quot;wave&quot;' in page
    assert not re.findall(r"https?://", page) and len(re.findall(r"data:image/jpeg", page)) == 4
    assert "</script" not in page.split("<script>")[1].split("</script>\n</figure>")[0]


@pytest.mark.parametrize(
    "change, words",
    [
        ({"pictures": things()[0][:1], "maps": things()[1][:1]}, "two or more"),
        ({"maps": things()[1][:2]}, "a map each"),
        ({"labels": ["a"]}, "labels"),
        ({"temperature": 9}, "temperature"),
        ({"start": (64, 0)}, "start"),
        ({"limit": 1000}, "over limit"),
        ({"maps": [np.ones((2, 3)), np.ones((2, 3)), np.ones((2, 3))]}, "shapes"),
        ({"maps": [np.full((2, 3, 3), np.nan)] * 3}, "NaN"),
    ],
)
def test_page_refuses(change, words):
    pictures, maps = things()
    with pytest.raises(InputError, match=words):
        heatmap.heatmap_html(**({"pictures": pictures, "maps": maps} | change))
