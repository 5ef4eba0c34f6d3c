"""A scene that a reader can turn: live in Jupyter, and as precomputed frames on a static page."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import math
import os
from collections.abc import Callable, Sequence

from densebook.core.errors import InputError
from densebook.viz.turntable import angles as even_angles
from densebook.viz.turntable import same_size, to_bytes


def _data_uri(frame, quality: int) -> str:
    """A frame as a JPEG in a data URI."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format="jpeg", quality=quality, optimize=True, progressive=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _degrees(angle: float) -> str:
    return f"{math.degrees(angle):.0f} degrees"


def turntable(render: Callable, angles: Sequence[float] = even_angles(36), alt: str = "The scene", quality: int = 90):
    """An ipywidgets box: a slider over `angles` (radians) above the picture `render(angle) -> (H, W, 3)`, sRGB in [0, 1] or uint8.

    A frame is rendered when the slider first comes there, and kept. The slider works with the mouse and with the arrow keys;
    the picture's alternative text is `alt` with the angle. Raises InputError without angles or for a frame that is no picture.
    """
    import ipywidgets

    angles = tuple(float(a) for a in angles)
    if not angles or not all(map(math.isfinite, angles)):
        raise InputError("angles is empty or not finite; give at least one angle in radians")
    frames: dict[int, str] = {}

    def picture(index: int) -> str:
        if index not in frames:
            uri = _data_uri(to_bytes(render(angles[index])), quality)
            label = html.escape(f"{alt}, turned by {_degrees(angles[index])}", quote=True)
            frames[index] = f'<img src="{uri}" alt="{label}" style="max-width:100%;height:auto">'
        return frames[index]

    slider = ipywidgets.SelectionSlider(
        options=[(_degrees(a), i) for i, a in enumerate(angles)],
        value=0,
        description="Turn by",
        tooltip=f"Turn: {alt}",
        continuous_update=True,
        layout=ipywidgets.Layout(width="24em"),
    )
    image = ipywidgets.HTML(picture(0))
    slider.observe(lambda change: setattr(image, "value", picture(change["new"])), names="value")
    return ipywidgets.VBox([slider, image])


def show(widget) -> None:
    """Display a widget where someone can use it; say so instead where papermill prints the notebook.

    A printed copy has no kernel behind it: its widget would be an error message, and its state megabytes.
    """
    from IPython.display import Markdown, display

    if os.environ.get("PAPERMILL_OUTPUT_PATH"):
        display(Markdown("*Run this notebook in Jupyter to turn the scene live.*"))
    else:
        display(widget)


_PAGE = """<figure class="densebook-turntable" id="{name}" style="margin:0">
<img src="{first}" alt="{alt}, turned by {first_label}" width="{width}" height="{height}" style="max-width:100%;height:auto;display:block">
<label>Turn: <input type="range" min="0" max="{last}" value="0" step="1" aria-label="Turn: {alt}" aria-valuetext="{first_label}"
style="width:16em;vertical-align:middle"></label> <output>{first_label}</output>
<script>
(function () {{
  var root = document.getElementById("{name}"), frames = {frames}, labels = {labels}, alt = {alt_json};
  var image = root.querySelector("img"), slider = root.querySelector("input"), output = root.querySelector("output");
  slider.addEventListener("input", function () {{
    var i = Number(slider.value);
    image.src = frames[i];
    image.alt = alt + ", turned by " + labels[i];
    output.textContent = labels[i];
    slider.setAttribute("aria-valuetext", labels[i]);
  }});
}})();
</script>
</figure>"""


def turntable_html(
    frames: Sequence, angles: Sequence[float] | None = None, alt: str = "The scene", limit: int = 170_000, quality: int = 85
) -> str:
    """A piece of HTML with the frames (H, W, 3) inside it and a slider: it turns without a kernel and loads nothing.

    `angles` in radians label the frames (default: a whole turn). JPEG quality falls from `quality` until the whole is at most
    `limit` bytes. Without JavaScript the first frame stays. Raises InputError when even quality 30 is too large.
    """
    pictures = same_size(frames)
    angles = even_angles(len(pictures)) if angles is None else tuple(angles)
    if len(angles) != len(pictures):
        raise InputError(f"there are {len(angles)} angles for {len(pictures)} frames; give one each")
    labels = [_degrees(a) for a in angles]
    for attempt in range(quality, 29, -5):
        uris = [_data_uri(p, attempt) for p in pictures]
        page = _PAGE.format(
            name="turntable-" + hashlib.sha256("".join(uris).encode()).hexdigest()[:12],
            first=uris[0],
            alt=html.escape(alt, quote=True),
            first_label=labels[0],
            width=pictures[0].shape[1],
            height=pictures[0].shape[0],
            last=len(uris) - 1,
            frames=json.dumps(["", *uris[1:]]).replace('[""', "[root.querySelector('img').src", 1),
            labels=json.dumps(labels),
            alt_json=json.dumps(alt).replace("<", "\\u003c"),  # so that no text ends the script
        )
        if len(page) <= limit:
            return page
    raise InputError(f"frames take {len(page):,} bytes at the lowest quality, over limit={limit:,}; give fewer or smaller frames")
