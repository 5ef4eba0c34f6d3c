"""The turntable: live widget, static page, contact sheet."""

import math
import re

import numpy as np
import pytest
import torch

from densebook.core.errors import InputError
from densebook.viz import turntable, widgets


def frame(angle: float, size=(24, 32)) -> np.ndarray:
    u = np.linspace(0, 2 * math.pi, size[1])
    return np.broadcast_to((0.5 + 0.5 * np.sin(u + angle))[None, :, None], (*size, 3)).astype(np.float32)


def test_widget_renders_lazily_and_once():
    asked = []
    box = widgets.turntable(lambda a: asked.append(a) or frame(a), angles=(0.0, 1.0, 2.0), alt='A "cow" <b>')
    slider, image = box.children
    first = image.value
    assert asked == [0.0]
    slider.value = 2
    assert asked == [0.0, 2.0] and image.value != first
    slider.value = 0
    assert asked == [0.0, 2.0] and image.value == first
    assert "&quot;cow&quot; &lt;b&gt;, turned by 0 degrees" in first and "<b>" not in first
    assert slider.description and slider.options[1][0] == "57 degrees"


def test_widget_takes_tensors_and_bytes():
    for value in (torch.rand(8, 8, 3), torch.rand(8, 8, 3, requires_grad=True), np.zeros((8, 8, 3), np.uint8)):
        assert "data:image/jpeg" in widgets.turntable(lambda a, value=value: value, angles=(0.0,)).children[1].value


@pytest.mark.parametrize("angles", [(), (math.nan,)])
def test_widget_refuses_angles(angles):
    with pytest.raises(InputError, match="angles"):
        widgets.turntable(frame, angles=angles)


def test_show_prints_words_under_papermill(monkeypatch, capsys):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    box = widgets.turntable(frame, angles=(0.0,))
    monkeypatch.delenv("PAPERMILL_OUTPUT_PATH", raising=False)
    widgets.show(box)
    assert shown == [box]
    monkeypatch.setenv("PAPERMILL_OUTPUT_PATH", "x.ipynb")
    widgets.show(box)
    assert "Jupyter" in shown[1].data


def test_page_holds_every_frame_and_a_labelled_slider():
    frames = [frame(a) for a in turntable.angles(9)]
    page = widgets.turntable_html(frames, alt="A cow & a ring")
    assert len(set(re.findall(r"data:image/jpeg;base64,[A-Za-z0-9+/=]+", page))) == 9
    assert 'aria-label="Turn: A cow &amp; a ring"' in page and 'max="8"' in page and "turned by 0 degrees" in page
    assert "http" not in page
    assert widgets.turntable_html(frames, alt="A cow & a ring") == page, "the same frames give the same page"


def test_page_text_cannot_leave_the_script():
    page = widgets.turntable_html([frame(0.0)], alt="</script><script>alert(1)</script>")
    assert page.count("</script>") == 1 and page.count("<script>") == 1


def test_page_keeps_the_limit():
    noise = np.random.default_rng(0).random((9, 96, 96, 3)).astype(np.float32)
    small = widgets.turntable_html(list(noise), limit=60_000)
    assert len(small) <= 60_000 < len(widgets.turntable_html(list(noise), limit=10**6))
    with pytest.raises(InputError, match="limit"):
        widgets.turntable_html(list(noise), limit=5_000)


def test_frames_are_checked():
    with pytest.raises(InputError, match="empty"):
        widgets.turntable_html([])
    with pytest.raises(InputError, match="differ in size"):
        turntable.strip([frame(0.0), frame(0.0, (8, 8))])
    with pytest.raises(InputError, match="shape"):
        turntable.to_bytes(np.zeros((4, 4)))
    with pytest.raises(InputError, match="NaN"):
        turntable.to_bytes(np.full((4, 4, 3), np.nan))
    with pytest.raises(InputError, match="labels"):
        turntable.strip([frame(0.0)], labels=["a", "b"])
    with pytest.raises(InputError, match="angles"):
        widgets.turntable_html([frame(0.0)], angles=(0.0, 1.0))
    with pytest.raises(InputError, match="count"):
        turntable.angles(0)


def test_strip_draws_every_frame():
    figure = turntable.strip([frame(a) for a in turntable.angles(7)], labels=list("abcdefg"), columns=4)
    assert len(figure.axes) == 8 and sum(len(a.images) for a in figure.axes) == 7
    assert np.array_equal(turntable.to_bytes(np.array([[[0.0, 0.5, 1.0]]])), [[[0, 128, 255]]])
    assert turntable.angles(4) == pytest.approx((0, math.pi / 2, math.pi, 3 * math.pi / 2))
