"""A page on which a mouse over one picture shows where its descriptor lies in another: Eq. 8, computed in the reader's browser.

The low-resolution descriptor maps travel with the page as one byte a number; no kernel and no network is needed. `heat` and
`colors` are the same arithmetic in Python, so that what a browser shows can be checked pixel by pixel.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from densebook.core.errors import InputError
from densebook.viz.turntable import to_bytes
from densebook.viz.widgets import _data_uri

SPAN = (-6.0, 3.0)  # of the temperature's slider


@dataclass(frozen=True, eq=False)
class Codes:
    """Descriptor maps in one byte a number: descriptor = low + step * code, with one low and step for each channel."""

    maps: list[np.ndarray]  # uint8 (D, h, w) each
    low: np.ndarray  # float64 (D,)
    step: np.ndarray  # float64 (D,)

    def map(self, k: int) -> np.ndarray:
        """Map `k` as the browser decodes it, float64 (D, h, w)."""
        return self.low[:, None, None] + self.step[:, None, None] * self.maps[k]


def encode(maps: Sequence) -> Codes:
    """Maps (D, h, w) of any h and w in one byte a number; an entry moves by at most half a step, 1/510 of its channel's range.

    Raises InputError for no map, different D, and what is not finite.
    """
    arrays = [np.asarray(m.detach().cpu() if hasattr(m, "detach") else m, np.float64) for m in maps]
    if not arrays or any(a.ndim != 3 or a.size == 0 or len(a) != len(arrays[0]) for a in arrays):
        raise InputError(f"maps have shapes {[a.shape for a in arrays]}; give at least one (D, h, w), all with the same D")
    if not all(np.isfinite(a).all() for a in arrays):
        raise InputError("maps hold NaN or infinity; give finite descriptors")
    flat = np.concatenate([a.reshape(len(a), -1) for a in arrays], axis=1)
    low = flat.min(axis=1)
    step = (flat.max(axis=1) - low) / 255
    step = np.where(step > 0, step, 1.0)
    codes = [np.rint((a - low[:, None, None]) / step[:, None, None]).astype(np.uint8) for a in arrays]
    return Codes(codes, low, step)


def _corners(count: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of `size` pixels: the two of `count` cells that it lies between, and the second one's share."""
    at = np.maximum((np.arange(size) + 0.5) * (count / size) - 0.5, 0.0)
    first = np.minimum(np.floor(at).astype(int), count - 1)
    return first, np.minimum(first + 1, count - 1), at - first


def upsample(cells: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Cells (h, w) between which pixels lie as in `torch.nn.functional.interpolate(mode="bilinear")`, float64 (height, width)."""
    (r0, r1, dr), (c0, c1, dc) = (_corners(n, s) for n, s in zip(cells.shape, size))
    rows = cells[:, c0] * (1 - dc) + cells[:, c1] * dc
    return rows[r0] * (1 - dr[:, None]) + rows[r1] * dr[:, None]


def descriptor(codes: Codes, source: int, pixel: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """The descriptor (D,) at a pixel (column, row) of a picture of `size` (height, width): bilinear, then of length one."""
    found = codes.map(source)
    (r0, r1, dr), (c0, c1, dc) = (tuple(x[k] for x in _corners(n, s)) for n, s, k in zip(found.shape[1:], size, pixel[::-1]))
    above = found[:, r0, c0] * (1 - dc) + found[:, r0, c1] * dc
    below = found[:, r1, c0] * (1 - dc) + found[:, r1, c1] * dc
    mixed, square = above * (1 - dr) + below * dr, 0.0
    for value in mixed:  # in the browser's order, here and below, so that roundings agree
        square += value * value
    return mixed / max(math.sqrt(square), 1e-12)


def heat(codes: Codes, source: int, pixel: tuple[int, int], target: int, size: tuple[int, int], temperature: float) -> np.ndarray:
    """exp(-d^2 / exp(t)) at each pixel of picture `target` for the descriptor at a pixel of picture `source`, float64 (height, width).

    Both descriptors are bilinear between cells and then of length one, so d^2 = 2 - 2 q f / |f|: one product in each cell, brought to
    full size, and one map of |f| for each picture. No map of full size has D channels.
    """
    query, found = descriptor(codes, source, pixel, size), codes.map(target)
    dots, square = np.zeros(found.shape[1:]), np.zeros(size)
    for channel, value in zip(found, query):
        dots += channel * value
        square += upsample(channel, size) ** 2
    squared = 2 - 2 * (upsample(dots, size) / np.maximum(np.sqrt(square), 1e-12))
    return np.exp(-np.maximum(squared, 0) / math.exp(temperature))


def palette() -> np.ndarray:
    """256 different colours, dark violet over red to light yellow, uint8 (256, 3); told apart in grey too."""
    x = np.linspace(0, 1, 256)
    knots = np.array([[20, 10, 60], [110, 25, 110], [205, 60, 70], [245, 150, 40], [252, 250, 190]], float)
    return np.stack([np.rint(np.interp(x, np.linspace(0, 1, 5), knots[:, k])) for k in range(3)], axis=1).astype(np.uint8)


def colors(heat: np.ndarray) -> np.ndarray:
    """What the page draws for heat in [0, 1]: uint8 (height, width, 3)."""
    return palette()[np.floor(heat * 255 + 0.5).astype(int)]


_PAGE = """<figure class="densebook-heatmap" id="{name}" style="margin:0;max-width:{across}px">
<div style="display:flex;gap:8px;flex-wrap:wrap">
<div><div>{title_a}</div><div class="a" tabindex="0" role="application" aria-label="{alt}: move here with the mouse or the arrow keys"
style="position:relative;width:{shown_w}px;height:{shown_h}px;cursor:crosshair;touch-action:none">
<img alt="{alt}: the picture that is asked about" src="{first}" style="width:100%;height:100%;display:block;margin:0">
<span class="dot" style="position:absolute;width:9px;height:9px;margin:-6px;border:2px solid #fff;outline:1px solid #000;
border-radius:50%;pointer-events:none"></span>
</div></div>
<div><div>{title_b}</div><div class="b" style="position:relative;width:{shown_w}px;height:{shown_h}px">
<img alt="{alt}: the picture that is searched" src="{second}" style="width:100%;height:100%;display:block;margin:0">
<canvas width="{width}" height="{height}" role="img" aria-label="Heatmap"
style="position:absolute;left:0;top:0;width:100%;height:100%;opacity:0.6"></canvas>
<span class="dot" style="position:absolute;width:9px;height:9px;margin:-6px;border:2px solid #fff;outline:1px solid #000;
border-radius:50%;pointer-events:none"></span>
</div></div></div>
<div><label>Search in <select aria-label="Search in">{options}</select></label>
<label>temperature <input type="range" min="{t_low}" max="{t_high}" step="0.1" value="{temperature}"
aria-label="Temperature" style="width:10em;vertical-align:middle"></label>
</div><div><output></output></div>
<script>
(function () {{
  var root = document.getElementById("{name}"), data = {data};
  var W = data.size[1], H = data.size[0], D = data.low.length, maps = data.maps.map(function (m) {{
    var bytes = atob(m.codes), out = new Float64Array(bytes.length), cells = m.h * m.w;
    for (var i = 0; i < bytes.length; i++) {{ var d = Math.floor(i / cells); out[i] = data.low[d] + data.step[d] * bytes.charCodeAt(i); }}
    return {{h: m.h, w: m.w, values: out}};
  }});
  var a = root.querySelector(".a"), b = root.querySelector(".b"), canvas = root.querySelector("canvas"), context = canvas.getContext("2d");
  var choice = root.querySelector("select"), slider = root.querySelector("input"), output = root.querySelector("output");
  var image = context.createImageData(W, H), at = data.start.slice();
  function between(i, count, size) {{
    var x = Math.max((i + 0.5) * (count / size) - 0.5, 0), k = Math.min(Math.floor(x), count - 1);
    return [k, Math.min(k + 1, count - 1), x - k];
  }}
  function mark(box, u, v) {{
    var dot = box.querySelector(".dot");
    dot.style.left = 100 * (u + 0.5) / W + "%"; dot.style.top = 100 * (v + 0.5) / H + "%";
  }}
  function norms(m) {{
    var out = new Float64Array(W * H), u, v, d, pixel, columns = [];
    for (u = 0; u < W; u++) columns.push(between(u, m.w, W));
    for (d = 0; d < D; d++) {{
      for (v = 0, pixel = 0; v < H; v++) {{
        var y = between(v, m.h, H), one = d * m.h * m.w + y[0] * m.w, two = d * m.h * m.w + y[1] * m.w, f = m.values;
        for (u = 0; u < W; u++, pixel++) {{
          var x = columns[u], above = f[one + x[0]] * (1 - x[2]) + f[one + x[1]] * x[2];
          var e = above * (1 - y[2]) + (f[two + x[0]] * (1 - x[2]) + f[two + x[1]] * x[2]) * y[2];
          out[pixel] += e * e;
        }}
      }}
    }}
    return out.map(function (e) {{ return Math.max(Math.sqrt(e), 1e-12); }});
  }}
  function draw() {{
    var A = maps[0], B = maps[Number(choice.value)], t = Math.exp(Number(slider.value)), n = B.h * B.w, dots = new Float64Array(n);
    var r = between(at[1], A.h, H), c = between(at[0], A.w, W), d, i, q = [], square = 0;
    B.norms = B.norms || norms(B);
    for (d = 0; d < D; d++) {{
      var f = A.values, o = d * A.h * A.w;
      var over = f[o + r[0] * A.w + c[0]] * (1 - c[2]) + f[o + r[0] * A.w + c[1]] * c[2];
      var under = f[o + r[1] * A.w + c[0]] * (1 - c[2]) + f[o + r[1] * A.w + c[1]] * c[2];
      q.push(over * (1 - r[2]) + under * r[2]);
      square += q[d] * q[d];
    }}
    for (d = 0; d < D; d++) {{
      var value = q[d] / Math.max(Math.sqrt(square), 1e-12);
      for (i = 0; i < n; i++) dots[i] += B.values[d * n + i] * value;
    }}
    var best = -1, place = 0, pixel = 0, columns = [];
    for (var u = 0; u < W; u++) columns.push(between(u, B.w, W));
    for (var v = 0; v < H; v++) {{
      var y = between(v, B.h, H), one = y[0] * B.w, two = y[1] * B.w;
      for (u = 0; u < W; u++, pixel++) {{
        var x = columns[u];
        var above = dots[one + x[0]] * (1 - x[2]) + dots[one + x[1]] * x[2];
        var below = dots[two + x[0]] * (1 - x[2]) + dots[two + x[1]] * x[2];
        var squared = 2 - 2 * ((above * (1 - y[2]) + below * y[2]) / B.norms[pixel]);
        var h = Math.exp(-Math.max(squared, 0) / t);
        if (h > best) {{ best = h; place = pixel; }}
        var k = 3 * Math.floor(h * 255 + 0.5);
        image.data[4 * pixel] = data.palette[k]; image.data[4 * pixel + 1] = data.palette[k + 1];
        image.data[4 * pixel + 2] = data.palette[k + 2]; image.data[4 * pixel + 3] = 255;
      }}
    }}
    context.putImageData(image, 0, 0);
    mark(a, at[0], at[1]); mark(b, place % W, Math.floor(place / W));
    output.textContent = "t = " + Number(slider.value).toFixed(1) + ": (" + at[0] + ", " + at[1] + ") is found at (" + place % W + ", " +
      Math.floor(place / W) + "), heat " + best.toFixed(3);
  }}
  function move(u, v) {{
    at = [Math.min(Math.max(u, 0), W - 1), Math.min(Math.max(v, 0), H - 1)];
    draw();
  }}
  function follow(event) {{
    var box = a.getBoundingClientRect();
    move(Math.floor((event.clientX - box.left) / box.width * W), Math.floor((event.clientY - box.top) / box.height * H));
  }}
  a.addEventListener("pointermove", follow);
  a.addEventListener("pointerdown", follow);
  a.addEventListener("keydown", function (event) {{
    var step = {{ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}}[event.key];
    if (!step) return;
    event.preventDefault(); event.stopPropagation();
    move(at[0] + step[0], at[1] + step[1]);
  }});
  slider.addEventListener("input", draw);
  choice.addEventListener("change", function () {{
    b.querySelector("img").src = data.pictures[Number(choice.value)] || a.querySelector("img").src;
    draw();
  }});
  draw();
}})();
</script>
</figure>"""


def heatmap_html(
    pictures: Sequence,
    maps: Sequence,
    labels: Sequence[str] | None = None,
    temperature: float = 1.1,
    start: tuple[int, int] | None = None,
    alt: str = "Descriptors",
    zoom: float = 2.0,
    limit: int = 250_000,
    quality: int = 85,
) -> str:
    """A piece of HTML: move over the first picture, see the heat of its descriptor in another, chosen from a list.

    `pictures` (H, W, 3) of one size, sRGB in [0, 1] or uint8; `maps` (D, h, w) descriptors of each, at any lower resolution. The
    picture asked about is the first; the others, and it, can be searched. Descriptors have length one once they are interpolated.
    `start` is the first pixel (column, row), the middle if None. Works with mouse, touch and arrow keys, in JupyterLab and on a
    static page; without JavaScript the pictures stay. Pixels are drawn `zoom` times larger. D = 16 and cells of 4 x 4 pixels take
    27 kB a picture of 160 x 128 pixels. Raises InputError for fewer than two pictures, numbers that do not fit, and when the page is
    larger than `limit` bytes.
    """
    frames = [to_bytes(p) for p in pictures]
    if len(frames) < 2 or len(frames) != len(maps) or len({f.shape for f in frames}) > 1:
        raise InputError(f"there are {len(frames)} pictures and {len(maps)} maps; give two or more pictures of one size, and a map each")
    labels = [f"picture {k}" for k in range(len(frames))] if labels is None else [str(label) for label in labels]
    if len(labels) != len(frames):
        raise InputError(f"there are {len(labels)} labels for {len(frames)} pictures; give one each")
    if not isinstance(temperature, int | float) or not SPAN[0] <= temperature <= SPAN[1]:
        raise InputError(f"temperature is {temperature!r}; give a number from {SPAN[0]:g} to {SPAN[1]:g}")
    height, width = frames[0].shape[:2]
    start = (width // 2, height // 2) if start is None else tuple(int(x) for x in start)
    if not (len(start) == 2 and 0 <= start[0] < width and 0 <= start[1] < height):
        raise InputError(f"start {start} is no pixel (column, row) of a picture {width} wide and {height} high")
    codes = encode(maps)
    uris = [_data_uri(f, quality) for f in frames]
    data = {
        "size": [height, width],
        "start": start,
        "low": codes.low.tolist(),
        "step": codes.step.tolist(),
        "palette": palette().reshape(-1).tolist(),
        "maps": [{"h": m.shape[1], "w": m.shape[2], "codes": base64.b64encode(m.tobytes()).decode()} for m in codes.maps],
        "pictures": [None, *uris[1:]],
    }
    text = json.dumps(data, separators=(",", ":"))
    order = [*range(1, len(frames)), 0]
    page = _PAGE.format(
        name="heatmap-" + hashlib.sha256((text + uris[0]).encode()).hexdigest()[:12],
        first=uris[0],
        second=uris[1],
        title_a=html.escape(labels[0]),
        title_b="where its descriptor is found",
        options="".join(f'<option value="{k}">{html.escape(labels[k])}</option>' for k in order),
        alt=html.escape(alt, quote=True),
        width=width,
        height=height,
        shown_w=round(zoom * width),
        shown_h=round(zoom * height),
        across=round(2 * zoom * width) + 16,
        t_low=SPAN[0],
        t_high=SPAN[1],
        temperature=round(temperature, 1),
        data=text,
    )
    if len(page) > limit:
        raise InputError(f"the page takes {len(page):,} bytes, over limit={limit:,}; give fewer pictures, smaller maps or a smaller D")
    return page
