"""PCK and its area: closed forms, the slow count, laws, bad input, and the pitfall reproduced."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from densebook.core.errors import InputError
from densebook.don.metrics import pck, pck_auc, pixel_errors, released_auc, summary
from densebook.testing import assert_close

quick = settings(deadline=None, max_examples=25, derandomize=True)


@pytest.fixture(params=[torch.float32, torch.float64])
def dtype(request):
    return request.param


def made(n: int, spread: float, seed: int = 0, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    true = 400 * torch.rand(n, 2, generator=draw, dtype=dtype)
    return true + spread * torch.randn(n, 2, generator=draw, dtype=dtype), true


def test_known_errors(dtype):
    true = torch.zeros(5, 2, dtype=dtype)
    predicted = torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0], [0.0, -100.0], [100.0, 1.0]], dtype=dtype)
    assert_close(pixel_errors(predicted, true)[:4], torch.tensor([0.0, 5.0, 10.0, 100.0], dtype=dtype))
    assert_close(pck(predicted, true, torch.tensor([0.0, 4.99, 5.0, 10.0, 100.0, 101.0])), torch.tensor([0.2, 0.2, 0.4, 0.6, 0.8, 1.0], dtype=dtype))
    # e = 0: all 100 thresholds; 5: 96; 10: 91; 100: 1; 100.005: none
    assert_close(pck_auc(predicted, true), torch.tensor((1.0 + 0.96 + 0.91 + 0.01 + 0.0) / 5, dtype=dtype))
    assert_close(pck_auc(predicted, true, 5), torch.tensor((1.0 + 0.2) / 5, dtype=dtype))


@quick
@given(st.integers(1, 60), st.floats(0, 80), st.integers(1, 120), st.integers(0, 5))
def test_area_is_the_mean_of_the_curve(n, spread, k_max, seed):
    predicted, true = made(n, spread, seed)
    slow = sum(float(((predicted - true).norm(dim=-1) <= k).double().mean()) for k in range(1, k_max + 1)) / k_max
    assert_close(pck_auc(predicted, true, k_max), slow)
    curve = pck(predicted, true, torch.arange(1.0, k_max + 1, dtype=torch.float64))
    assert_close(curve.mean(), slow)
    assert (curve.diff() >= 0).all(), "PCK rises with k"


def test_laws(dtype):
    predicted, true = made(500, 6.0, dtype=dtype)
    shift = torch.tensor([37.0, -12.0], dtype=dtype)
    assert_close(pck(predicted + shift, true + shift, 5.0), pck(predicted, true, 5.0), atol=0.005)
    assert_close(pck_auc(predicted.view(5, 100, 2), true.view(5, 100, 2)), pck_auc(predicted, true))
    assert_close(pck(predicted / 2, true / 2, 2.5), pck(predicted, true, 5.0), atol=0.005)
    # errors of a 2-D Gaussian: Rayleigh
    assert abs(float(pck(predicted, true, 6.0)) - (1 - math.exp(-0.5))) < 0.06


def test_no_answer_is_a_miss():
    predicted, true = made(10, 0.0)
    predicted[:3] = torch.nan
    predicted[3] = torch.inf
    assert float(pck(predicted, true, 1e6)) == 0.6
    assert_close(pck_auc(predicted, true), 0.6)
    assert pixel_errors(predicted, true)[:4].isinf().all()
    assert set(summary(predicted, true)) == {"AUC@1..100", "AUC@1..20", "PCK@1", "PCK@3", "PCK@5", "PCK@10", "median_px"}
    assert summary(*made(1001, 2.0))["median_px"] == pytest.approx(2 * math.sqrt(2 * math.log(2)), rel=0.1)


def test_the_released_metric_rewards_guessing():
    draw = torch.Generator().manual_seed(0)
    box = torch.tensor([200.0, 160.0]), torch.tensor([240.0, 180.0])  # an object in a 640 x 480 picture
    true, guess = (box[0] + box[1] * torch.rand(4000, 2, generator=draw) for _ in range(2))
    assert released_auc(guess, true) > 0.9
    assert released_auc(true, true) < 0.97, "the perfect matcher, in swapped order"
    assert released_auc(true, true, swapped=False) > 0.99
    assert pck_auc(guess, true) < 0.4 and pck_auc(true, true) == 1
    # by hand: a cosine of 0.6 is correct for k = 1..60; the trapezium rule has 99 steps of 1/99
    predicted, truth = torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.tensor([[3.01, 4.0]], dtype=torch.float64)
    assert_close(released_auc(predicted, truth, swapped=False), 59.5 / 99)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p, t: pck(p, t[:-1], 5.0), "one truth for each"),
        (lambda p, t: pck(p.long(), t.long(), 5.0), "float tensor"),
        (lambda p, t: pck(p[:, :1], t[:, :1], 5.0), "(..., 2)"),
        (lambda p, t: pck_auc(p[:0], t[:0]), "no match"),
        (lambda p, t: pck(p, t, -1.0), "from 0 pixels up"),
        (lambda p, t: pck(p, t, math.nan), "from 0 pixels up"),
        (lambda p, t: pck_auc(p, t, 0), "k_max"),
        (lambda p, t: pck_auc(p, t, 2.5), "k_max"),
        (lambda p, t: summary(p, t * math.nan), "true_uv holds NaN"),
        (lambda p, t: released_auc(p, t * math.inf), "true_uv holds NaN"),
        (lambda p, t: pixel_errors(p.tolist(), t), "predicted_uv is list"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InputError) as caught:
        call(*made(4, 1.0))
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda():
    predicted, true = made(200, 5.0)
    assert_close(pck_auc(predicted.cuda(), true.cuda()).cpu(), pck_auc(predicted, true))
    assert_close(pck(predicted.cuda(), true.cuda(), torch.tensor([1.0, 5.0]).cuda()).cpu(), pck(predicted, true, torch.tensor([1.0, 5.0])))
