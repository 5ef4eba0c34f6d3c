"""Checks that notebooks and tests share: close with a useful message, gradients, equivariance, seeds.

assert_close(poses.exp(poses.log(T)), T)
assert_grad(poses.log, T)
assert_equivariant(f, {"turn": (lambda x: x @ R.T, lambda y: y @ R.T)}, points)
with seeded(0) as generator: ...
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from densebook.core.errors import InputError

# dtype -> (relative, absolute): room for some hundred roundings; whole numbers must be equal
TOLERANCES = {
    torch.float16: (2e-3, 2e-4),
    torch.bfloat16: (2e-2, 2e-3),
    torch.float32: (1e-5, 1e-6),
    torch.float64: (1e-9, 1e-11),
}
_COMPLEX_TO_REAL = {torch.complex64: torch.float32, torch.complex128: torch.float64}


def _tolerance(*dtypes: torch.dtype) -> tuple[float, float]:
    """The widest default tolerance among `dtypes`: the coarser number decides what can be asked."""
    known = [TOLERANCES.get(_COMPLEX_TO_REAL.get(d, d), (0.0, 0.0)) for d in dtypes]
    return max(r for r, _ in known), max(a for _, a in known)


def _leaves(value) -> list[Tensor]:
    """A tensor, an array, a number, or a nest of them, as a flat list of tensors. Python floats count as float64."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [leaf for key in value for leaf in _leaves(value[key])]
    if isinstance(value, (tuple, list)) and any(isinstance(v, (Tensor, np.ndarray, tuple, list, Mapping)) for v in value):
        return [leaf for v in value for leaf in _leaves(v)]
    return [torch.as_tensor(np.asarray(value))]


def assert_close(actual, expected, rtol: float | None = None, atol: float | None = None) -> None:
    """Assert |actual - expected| <= atol + rtol |expected| everywhere; the message names the worst entry.

    Tensors, arrays, numbers, or tuples of them; shapes must be the same, but a plain number is compared with every entry.
    Without tolerances the coarser of the two dtypes sets them (TOLERANCES; whole numbers and booleans must be equal; a
    Python number takes the dtype of the other side). NaN equals nothing, infinity only itself. Raises AssertionError.
    """
    a_leaves, e_leaves = _leaves(actual), _leaves(expected)
    if len(a_leaves) != len(e_leaves):
        raise AssertionError(f"actual has {len(a_leaves)} parts, expected has {len(e_leaves)}")
    for part, (a, e) in enumerate(zip(a_leaves, e_leaves)):
        where = f" of part {part}" if len(a_leaves) > 1 else ""
        plain = isinstance(expected, (int, float, bool))
        if a.shape != e.shape and not (plain and e.ndim == 0):
            raise AssertionError(f"shape{where}: actual {tuple(a.shape)}, expected {tuple(e.shape)}")
        defaults = _tolerance(a.dtype) if plain else _tolerance(a.dtype, e.dtype)
        _assert_leaf(a, e, defaults[0] if rtol is None else rtol, defaults[1] if atol is None else atol, where)


def _assert_leaf(a: Tensor, e: Tensor, rtol: float, atol: float, where: str) -> None:
    """`assert_close` of two tensors of one shape."""
    wide = torch.complex128 if a.is_complex() or e.is_complex() else torch.float64
    exact = not (a.is_floating_point() or a.is_complex() or e.is_floating_point() or e.is_complex())
    a, e = a.detach().cpu(), e.detach().cpu().expand(a.shape)
    if a.numel() == 0 or (exact and rtol == atol == 0 and torch.equal(a.to(torch.int64), e.to(torch.int64))):
        return
    a, e = a.to(wide), e.to(wide)
    difference = (a - e).abs()
    allowed = atol + rtol * e.abs()
    bad = ~(((difference <= allowed) & difference.isfinite()) | (a == e))  # so that NaN is bad; a == e lets equal infinities through
    if not bad.any():
        return
    excess = torch.where(bad, difference - allowed, -1.0).nan_to_num(nan=torch.inf, posinf=torch.inf)
    index = tuple(int(i) for i in torch.unravel_index(excess.argmax(), excess.shape))
    raise AssertionError(
        f"{int(bad.sum())} of {bad.numel()} entries{where} differ; worst at {list(index)}: actual {a[index].item():.9g}, "
        f"expected {e[index].item():.9g}, difference {difference[index].item():.3g}, "
        f"allowed {allowed[index].item():.3g} (rtol {rtol:g}, atol {atol:g})"
    )


def assert_grad(f: Callable, *inputs: Tensor, eps: float = 1e-6, rtol: float = 1e-6) -> None:
    """Assert that autograd's gradient of `f` at `inputs` agrees with central finite differences, in float64.

    The outputs (a tensor or a tuple of them) are weighted with fixed random numbers and summed, so one backward pass
    meets every output; each entry of each floating input is then moved by +-eps max(1, |entry|). The error allowed is
    rtol times the largest derivative of that input, plus what rounding costs the differences. Other inputs pass as they
    are. Raises AssertionError naming input and entry.
    """
    values = [x.detach().double() if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs]
    places = [i for i, x in enumerate(values) if isinstance(x, Tensor) and x.is_floating_point()]
    if not places:
        raise InputError("assert_grad needs at least one floating-point tensor to differentiate by")

    def scalar(arguments) -> Tensor:
        outputs = [y for y in _leaves(f(*arguments)) if y.is_floating_point()]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return sum((y * (torch.rand(y.shape, dtype=torch.float64) + 0.5).to(y.device)).sum() for y in outputs)

    tracked = [x.clone().requires_grad_() if i in places else x for i, x in enumerate(values)]
    total = scalar(tracked)
    if not (isinstance(total, Tensor) and total.requires_grad):
        raise AssertionError("the outputs of f carry no gradient: something detached them")
    analytic = torch.autograd.grad(total, [tracked[i] for i in places], allow_unused=True)
    for i, gradient in zip(places, analytic):
        numeric = _central_differences(scalar, values, i, eps)
        gradient = torch.zeros_like(numeric) if gradient is None else gradient
        noise = 20 * torch.finfo(torch.float64).eps * max(1.0, abs(total.item())) / eps
        largest = numeric.abs().max().item() if numeric.numel() else 0.0
        try:
            assert_close(gradient, numeric, rtol=0.0, atol=rtol * largest + noise)
        except AssertionError as error:
            raise AssertionError(f"gradient by input {i}, autograd against finite differences: {error}") from None


@torch.no_grad()
def _central_differences(scalar: Callable, values: list, place: int, eps: float) -> Tensor:
    """d scalar / d values[place], entry by entry."""
    x = values[place]
    numeric = torch.zeros_like(x, memory_format=torch.contiguous_format)
    for k in range(x.numel()):
        moved = []
        for sign in (1.0, -1.0):
            y = x.clone(memory_format=torch.contiguous_format).view(-1)
            y[k] += sign * eps * max(1.0, abs(float(y[k])))
            moved.append((float(scalar([*values[:place], y.view(x.shape), *values[place + 1 :]])), float(y[k])))
        numeric.view(-1)[k] = (moved[0][0] - moved[1][0]) / (moved[0][1] - moved[1][1])
    return numeric


def assert_equivariant(f: Callable, actions: Mapping[str, tuple] | Iterable[tuple], *inputs, rtol=None, atol=None) -> None:
    """Assert f(g x) = g' f(x) for every pair (g, g') of `actions`, given as {name: (g, g')} or a sequence of pairs.

    `g` takes all `inputs` and returns as many (a tuple, or one tensor for one input); `g'` takes what `f` returns. None in
    place of `g'` stands for invariance, f(g x) = f(x). Raises AssertionError naming the action and the worst entry.
    """
    named = actions if isinstance(actions, Mapping) else {str(i): pair for i, pair in enumerate(actions)}
    if not named:
        raise InputError("assert_equivariant was given no actions; pass {name: (on_inputs, on_output)}")
    before = f(*inputs)
    for name, (on_inputs, on_output) in named.items():
        moved = on_inputs(*inputs)
        after = f(*moved) if isinstance(moved, tuple) else f(moved)
        try:
            assert_close(after, before if on_output is None else on_output(before), rtol=rtol, atol=atol)
        except AssertionError as error:
            raise AssertionError(f"not equivariant under {name}: {error}") from None


@contextmanager
def seeded(seed: int = 0, device="cpu") -> Iterator[torch.Generator]:
    """Inside the block every random number follows from `seed`; yields a `torch.Generator` on `device`, seeded too.

    Python's, NumPy's and torch's global states are seeded for code that takes no generator, and put back afterwards.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the legacy state is what others draw from
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            torch.manual_seed(seed)
            yield torch.Generator(device=device).manual_seed(seed)
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
