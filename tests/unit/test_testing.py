"""The shared checks must pass what is right and, above all, fail what is wrong."""

import random

import numpy as np
import pytest
import torch

from densebook.core.errors import InputError
from densebook.testing import assert_close, assert_equivariant, assert_grad, seeded

DTYPES = (torch.float32, torch.float64)


@pytest.mark.parametrize("dtype", DTYPES)
def test_close_goes_by_the_coarser_dtype(dtype):
    x = torch.linspace(0.5, 2, 7, dtype=dtype)
    step = {torch.float32: 1e-6, torch.float64: 1e-10}[dtype]
    assert_close(x * (1 + step), x)
    with pytest.raises(AssertionError):
        assert_close(x * (1 + 100 * step), x)
    assert_close(x.float() * (1 + 1e-6), x.double())  # float32 beside float64: float32's room


def test_close_names_the_worst_entry():
    expected = torch.zeros(4, 5)
    actual = expected.clone()
    actual[1, 2], actual[3, 4] = 1e-3, -0.25
    with pytest.raises(AssertionError, match=r"2 of 20 entries differ; worst at \[3, 4\]: actual -0.25, expected 0"):
        assert_close(actual, expected)


def test_close_refuses_nan_shape_and_parts():
    nan = torch.tensor([0.0, torch.nan])
    with pytest.raises(AssertionError, match=r"worst at \[1\]"):
        assert_close(nan, nan)
    inf = torch.tensor([torch.inf, -torch.inf])
    assert_close(inf, inf)
    with pytest.raises(AssertionError):
        assert_close(inf, -inf)
    with pytest.raises(AssertionError, match="shape"):
        assert_close(torch.zeros(3), torch.zeros(3, 1))
    with pytest.raises(AssertionError, match="2 parts"):
        assert_close((torch.zeros(1), torch.zeros(1)), torch.zeros(1))
    with pytest.raises(AssertionError, match="of part 1"):
        assert_close((torch.zeros(1), torch.ones(1)), (torch.zeros(1), torch.zeros(1)))


def test_close_takes_numbers_arrays_and_whole_numbers():
    assert_close(torch.full((3,), 0.1), 0.1)  # a Python number takes the tensor's dtype
    assert_close(np.arange(3), torch.arange(3))
    assert_close([1.0, 2.0], np.array([1.0, 2.0]))
    assert_close(torch.tensor([2**53 + 1]), torch.tensor([2**53 + 1]))
    with pytest.raises(AssertionError):
        assert_close(torch.tensor([1, 2]), torch.tensor([1, 3]))
    with pytest.raises(AssertionError):
        assert_close(torch.tensor([True, False]), torch.tensor([True, True]))
    assert_close(torch.zeros(0, 3), torch.zeros(0, 3))
    assert_close(torch.tensor(1.0), torch.tensor(1.05), atol=0.1)


class _WrongSquare(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * x  # half of the truth


@pytest.mark.parametrize("dtype", DTYPES)
def test_grad_passes_right_and_fails_wrong(dtype):
    x = torch.tensor([[0.3, -1.7], [250.0, 0.0]], dtype=dtype)
    assert_grad(lambda x: x * x, x)
    assert_grad(lambda x, y: (torch.sin(x), x @ y), x, x.T)
    with pytest.raises(AssertionError, match=r"input 0, autograd against finite differences.*worst at \[1, 0\]"):
        assert_grad(_WrongSquare.apply, x)


def test_grad_sees_nan_detached_and_unused():
    with pytest.raises(AssertionError, match="nan"):
        assert_grad(lambda x: torch.where(x > 0, x.sqrt(), x), torch.tensor([-1.0]))  # the classic where/NaN trap
    with pytest.raises(AssertionError, match="detached"):
        assert_grad(lambda x: x.detach() * 2, torch.ones(2))
    with pytest.raises(AssertionError, match="input 1"):
        assert_grad(lambda x, y: x * y.detach(), torch.ones(2), torch.ones(2))
    assert_grad(lambda x, y: 2 * x, torch.ones(2), torch.ones(2))  # truly unused
    assert_grad(lambda x, k: x[k], torch.ones(3), torch.tensor([0, 2]))  # whole numbers pass through
    with pytest.raises(InputError, match="floating-point"):
        assert_grad(lambda k: k, torch.arange(3))


def test_equivariant_passes_right_and_fails_wrong():
    points = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    actions = {"turn": (lambda x: x @ turn.T, lambda y: y @ turn.T), "order": (lambda x: x.flip(0), None)}
    assert_equivariant(lambda x: x.mean(0), actions, points)
    with pytest.raises(AssertionError, match="not equivariant under turn"):
        assert_equivariant(lambda x: x.abs().mean(0), actions, points)
    with pytest.raises(AssertionError, match="not equivariant under order"):
        assert_equivariant(lambda x: x[0], actions, points)
    assert_equivariant(torch.add, [(lambda a, b: (b, a), None)], points, points * 2)  # two inputs, a sequence of pairs
    with pytest.raises(InputError, match="no actions"):
        assert_equivariant(torch.sin, {}, points)


def test_seeded_repeats_and_puts_back():
    def draw(generator):
        return torch.rand(2, generator=generator), torch.rand(2), np.random.rand(2), random.random()  # noqa: NPY002

    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    outside = torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    with seeded(3) as generator:
        first = draw(generator)
    assert_close((torch.rand(1), np.random.rand(), random.random()), outside)  # noqa: NPY002
    with seeded(3) as generator:
        assert_close(draw(generator), first)
    with seeded(4) as generator, pytest.raises(AssertionError):
        assert_close(draw(generator), first)
