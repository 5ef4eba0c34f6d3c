"""The SSZ generator: skips that are never made, counts by hand, the loss against loops, ablations, gradients, bad input."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from densebook.core.errors import InputError
from densebook.ssz import generator as g
from densebook.testing import assert_close, assert_grad

quick = settings(deadline=None, max_examples=15, derandomize=True)
KINDS = [{}, {"decoder": "paper"}, {"ir2d": False}, {"ir3d": False}, {"ir2d": False, "ir3d": False, "decoder": "paper"}]


@pytest.fixture(params=[torch.float32, torch.float64])
def dtype(request):
    return request.param


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def net_of(dtype=torch.float32, size=16, widths=(4, 8), classes=5, **more):
    torch.manual_seed(0)
    net = g.SSZGenerator(classes, size, widths, **more).to(dtype)
    for block in net.decoder:  # as after some training: neither codes nor norms at their start
        block.code.data = draw(*block.code.shape, seed=1, dtype=dtype)
    return net


def pictures(batch=2, size=16, dtype=torch.float32, seed=0):
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# skips


def test_inflate_repeats_without_memory(dtype):
    flat = draw(2, 3, 4, 5, dtype=dtype)
    deep = g.inflate(flat, 7)
    assert torch.equal(deep, torch.cat([flat[:, :, None]] * 7, dim=2))
    assert deep.untyped_storage().nbytes() == flat.untyped_storage().nbytes()


@quick
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.integers(1, 6), st.booleans(), st.integers(0, 99))
def test_pointwise_of_concat_is_the_convolution_of_the_join(batch, inside, flat, out, biased, seed):
    volume, features = draw(batch, inside, 3, 4, 2, seed=seed), draw(batch, flat, 4, 2, seed=seed + 1)
    weight, bias = draw(out, inside + flat, seed=seed + 2), draw(out, seed=seed + 3) if biased else None
    copies = torch.cat([features[:, :, None]] * 3, dim=2)
    slow = F.conv3d(torch.cat([volume, copies], dim=1), weight[:, :, None, None, None], bias)
    assert_close(g.pointwise_of_concat(volume, features, weight, bias), slow)


def test_pointwise_of_concat_has_the_gradient():
    assert_grad(g.pointwise_of_concat, draw(1, 2, 3, 2, 2), draw(1, 2, 2, 2, seed=1), draw(3, 4, seed=2), draw(3, seed=3))


def test_skips_are_a_join_with_the_inflated_map(dtype):
    """A block with its skip equals the block without it, joined with the inflated map and the code, and a pointwise convolution."""
    block = net_of(dtype).eval().decoder[1]
    x, features = draw(1, 8, 8, 8, 4, dtype=dtype), draw(1, 4, 16, 16, seed=1, dtype=dtype)
    without = block(x, torch.zeros_like(features)) - block.code[:, None, None]
    joined = torch.cat([without.movedim(-1, 1), g.inflate(features, 16)], dim=1)
    weight = torch.cat([torch.eye(5, dtype=dtype), block.skip.weight], dim=1)
    expected = F.conv3d(joined, weight[:, :, None, None, None]).movedim(1, -1) + block.code[:, None, None]
    assert_close(block(x, features), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("more", KINDS)
def test_nothing_of_the_volumes_size_is_made_but_what_must_be(more):
    """The largest tensor of the fast decoder is its result; the inflated maps and joins do not exist."""
    seen = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            made = func(*args, **(kwargs or {}))
            seen.extend(t.untyped_storage().nbytes() for t in ((made,) if isinstance(made, torch.Tensor) else ()))
            return made

    net = net_of(size=32, widths=(4, 8, 8), classes=10, **more).eval()
    with torch.no_grad(), Watch():
        scores = net(pictures(1, 32))
    size = scores.numel() * scores.element_size()
    limit = 1 if more.get("decoder") != "paper" or not more.get("ir3d", True) else 2  # paper's layout: widened, at full size
    assert max(seen) <= limit * size


# the network


@pytest.mark.parametrize("more", KINDS)
@pytest.mark.parametrize("size", [8, 16, 32])
def test_shapes_and_every_parameter_learns(more, size, dtype):
    net = net_of(dtype, size, (3, 4, 5)[-(size.bit_length() - 3) :], **more).train()
    scores = net(pictures(2, size, dtype))
    assert scores.shape == (2, 5, size, size, size) and scores.dtype == dtype
    scores.square().mean().backward()
    for name, p in net.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), name
        if name.startswith("decoder") and "code" not in name:
            assert p.grad.abs().max() > 0, name


@pytest.mark.parametrize("more", KINDS)
def test_pictures_of_a_batch_do_not_meet(more, dtype):
    net = net_of(dtype, **more).eval()
    images = pictures(3, dtype=dtype)
    assert_close(net(images)[1:2], net(images[1:2]), rtol=1e-4, atol=1e-5)


def test_too_many_widths_leave_out_the_first():
    torch.manual_seed(0)
    a = g.SSZGenerator(5, 16, (64, 32, 4, 8))
    assert a.settings["widths"] == (4, 8) and g.costs(a) == g.costs(net_of())


def test_the_codes_tell_depths_apart():
    """Without codes and the step into depth, the filters' borders aside, all slices would be alike; with codes they are not."""
    net = net_of().eval()
    before = net(pictures(1))
    with torch.no_grad():
        net.decoder[-1].code[3] += 1.0
    changed = (net(pictures(1)) - before).abs().amax(dim=(0, 1, 3, 4))
    assert changed[3] > 0.9 and changed[[n for n in range(16) if n != 3]].max() == 0


def test_shuffle_is_a_transposed_convolution(dtype):
    x, kernel = draw(2, 3, 4, 5, 6, dtype=dtype), draw(8 * 7, 6, seed=1, dtype=dtype)
    expected = F.conv_transpose3d(x.movedim(-1, 1), kernel.view(2, 2, 2, 7, 6).permute(4, 3, 0, 1, 2), stride=2)
    assert_close(g._shuffle(F.linear(x, kernel)).movedim(-1, 1), expected)


def test_paper_block_against_layers_written_out(dtype):
    """NCDHW, torch's own layers, the join really made."""
    block = net_of(dtype, decoder="paper").eval().decoder[0]
    block.norm.running_mean.normal_(generator=torch.Generator().manual_seed(3))
    x, features = draw(1, 4, 4, 4, 8, dtype=dtype), draw(1, 4, 8, 8, seed=1, dtype=dtype)
    h = F.leaky_relu(block.norm(x.movedim(-1, 1).contiguous()), 0.2)
    pointwise = lambda layer, v: F.conv3d(v, layer.weight[:, :, None, None, None], layer.bias)  # noqa: E731
    y = F.leaky_relu(F.conv_transpose3d(F.leaky_relu(pointwise(block.expand, h), 0.2), block.filter.weight, block.filter.bias, 2, 1, groups=16), 0.2)
    joined = torch.cat([y, torch.cat([features[:, :, None]] * 8, dim=2)], dim=1)
    weight = torch.cat([block.project.weight, block.skip.weight], dim=1)[:, :, None, None, None]
    expected = F.conv3d(joined, weight, block.project.bias) + F.interpolate(pointwise(block.residual, h), scale_factor=2)
    assert_close(block(x, features).movedim(-1, 1), expected + block.code.T[None, :, :, None, None], rtol=1e-4, atol=1e-5)


def test_fast_block_against_layers_written_out(dtype):
    block = net_of(dtype).eval().decoder[0]
    x, features = draw(1, 4, 4, 4, 8, dtype=dtype), draw(1, 4, 8, 8, seed=1, dtype=dtype)
    h = F.leaky_relu(block.norm(x.movedim(-1, 1).contiguous()), 0.2)
    pointwise = lambda layer, v: F.conv3d(v, layer.weight[:, :, None, None, None], layer.bias)  # noqa: E731
    y = F.leaky_relu(F.conv3d(F.leaky_relu(pointwise(block.expand, h), 0.2), block.filter.weight, block.filter.bias, padding=1, groups=32), 0.2)
    kernel = block.project.weight.view(2, 2, 2, 4, 32).permute(4, 3, 0, 1, 2)
    grown = F.conv_transpose3d(y, kernel, stride=2) + block.project.bias.view(2, 2, 2, 4).permute(3, 0, 1, 2).repeat(1, 4, 4, 4)
    expected = grown + F.interpolate(pointwise(block.residual, h), scale_factor=2) + g.inflate(F.conv2d(features, block.skip.weight[:, :, None, None]), 8)
    assert_close(block(x, features).movedim(-1, 1), expected + block.code.T[None, :, :, None, None], rtol=1e-4, atol=1e-5)


def test_overfits_one_street():
    """A few steps on one picture: the classes of nearly all cells are learned."""
    net = net_of(classes=3).train()
    labels = torch.zeros(1, 16, 16, 16, dtype=torch.long)
    labels[:, :, 10:] = 2
    labels[:, 5:9, 4:10, 3:8] = 1
    weights = g.class_weights(torch.bincount(labels.flatten()))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(60):
        loss = g.weighted_nll(net(pictures(1)), labels, weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (net(pictures(1)).argmax(1) == labels).float().mean() > 0.97


def test_state_goes_into_another_net():
    net, other = net_of().eval(), g.SSZGenerator(**net_of().settings).eval()
    other.load_state_dict(net.state_dict())
    assert torch.equal(net(pictures()), other(pictures()))


# Z-GAN


def test_zgan_has_the_published_size():
    """39,754,113 parameters in its code, with 4 x 4 instead of 3 x 3 in the first layer and one number a cell instead of ten."""
    net = g.ZGAN()
    ours = sum(p.numel() for p in net.parameters())
    assert ours == 39_754_113 - 32 * 3 * (16 - 9) + (10 - 1) * (64 + 1)


def test_zgan_shapes(dtype):
    net = g.ZGAN(4, 16, 2).to(dtype)
    scores = net(pictures(1, dtype=dtype))
    assert scores.shape == (1, 4, 16, 16, 16) and scores.dtype == dtype
    scores.sum().backward()
    assert all(p.grad is not None for p in net.parameters())


# counts


@quick
@given(st.sampled_from([8, 16, 64]), st.integers(2, 12))
def test_costs_against_a_count_by_hand(size, classes):
    w = (3, 5, 6, 7)[-(size.bit_length() - 3) :]
    found = g.costs(g.SSZGenerator(classes, size, w))
    sides = [size >> n for n in range(len(w) + 1)]
    macs = size**2 * (27 * w[0] + 8 * w[0] ** 2 + 36 * w[0]) + 64 * w[-1] ** 2
    for i, o, side in zip((w[0], *w), w, sides):
        macs += side**2 * i * o + (side // 2) ** 2 * (16 * o + 2 * (8 * o**2 + 36 * o))
    for n, (i, o, s) in enumerate(zip(w[::-1], (*w[-2::-1], classes), (*w[-2::-1], w[0]))):
        macs += (4 << n) ** 3 * (4 * i * i + 108 * i + 33 * i * o) + (8 << n) ** 2 * s * o
    assert found.macs == macs


def test_costs_of_plain_layers():
    """Z-GAN at size 8, every layer counted: 1 + 3 + 3 + 1 layers, norms without multiply-adds."""
    net = g.ZGAN(3, 8, 2)
    found = g.costs(net)
    down = 16 * 9 * 3 * 2 * 4 + sum(s * s * 16 * i * o for s, i, o in ((4, 2, 4), (2, 4, 8), (1, 8, 16)))
    up = sum(s**3 * 64 * i * o for s, i, o in ((1, 16, 8), (2, 16, 4), (4, 8, 2)))
    assert found.macs == down + up + 8**3 * 4 * 3
    assert found.parameters == sum(p.numel() for p in net.parameters()) == sum(p for _, _, p, _ in found.layers)
    assert found.largest == 4 * 3 * 8**3 and found.activations >= found.largest


def test_costs_leave_the_net_as_it_was():
    net = net_of().train()
    state = {k: v.clone() for k, v in net.state_dict().items()}
    g.costs(net)
    assert net.training and all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks for m in net.modules())


def test_goal_of_the_full_network():
    """What the chapter states: below 5 G multiply-adds at 128^3 x 10, and no tensor beyond the scores' size."""
    found = g.costs(g.SSZGenerator())
    assert found.macs < 5e9 and found.largest == 4 * 10 * 128**3


# the loss


@quick
@given(st.integers(2, 6), st.integers(0, 99))
def test_weighted_nll_against_a_loop(classes, seed):
    logits = draw(2, classes, 2, 3, 2, seed=seed)
    labels = torch.randint(classes, (2, 2, 3, 2), generator=torch.Generator().manual_seed(seed))
    weights = draw(classes, seed=seed + 1).abs() + 0.1
    total = used = 0.0
    for place in torch.cartesian_prod(*(torch.arange(n) for n in labels.shape)).tolist():
        b, k, j, i = place
        c = int(labels[b, k, j, i])
        scores = [math.exp(float(logits[b, n, k, j, i])) for n in range(classes)]
        total += -float(weights[c]) * math.log(scores[c] / sum(scores))
        used += float(weights[c])
    expected = torch.tensor(total / used, dtype=torch.float64)
    last = logits.contiguous(memory_format=torch.channels_last_3d)
    for version in (logits, last):
        assert_close(g.weighted_nll(version, labels, weights), expected)
    assert_close(g.weighted_nll(logits, labels.to(torch.uint8), 7 * weights), expected)


def test_uniform_scores_cost_log_n(dtype):
    labels = torch.randint(4, (1, 3, 3, 3), generator=torch.Generator().manual_seed(0))
    assert_close(g.weighted_nll(torch.zeros(1, 4, 3, 3, 3, dtype=dtype), labels, torch.tensor([1.0, 9.0, 3.0, 0.1])), math.log(4))


def test_weights_matter_unlike_in_the_printed_equation():
    logits, labels = draw(1, 3, 2, 2, 2), torch.arange(8).view(1, 2, 2, 2) % 3
    values = [float(g.weighted_nll(logits, labels, torch.tensor(w))) for w in ((1.0, 1.0, 1.0), (5.0, 1.0, 1.0))]
    assert abs(values[0] - values[1]) > 1e-2
    assert_close(values[0], float(F.cross_entropy(logits, labels)))


def test_weighted_nll_has_the_gradient():
    labels = torch.randint(3, (1, 2, 2, 2), generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    assert_grad(lambda x: g.weighted_nll(x, labels, weights), draw(1, 3, 2, 2, 2))


@quick
@given(st.lists(st.integers(0, 10**7), min_size=2, max_size=10).filter(any), st.floats(0, 1))
def test_class_weights_laws(counts, power):
    counts = torch.tensor(counts)
    weights = g.class_weights(counts.double(), power)
    there = counts > 0
    assert_close(weights[there].mean(), 1.0)
    assert (weights[~there] == 0).all()
    order = counts[there].argsort()
    assert (weights[there][order].diff() <= 1e-12).all()
    assert_close(g.class_weights(3 * counts.double(), power), weights, rtol=1e-9)


def test_class_weights_known_values(dtype):
    assert_close(g.class_weights(torch.tensor([4.0, 1.0], dtype=dtype)), torch.tensor([2 / 3, 4 / 3], dtype=dtype))
    assert_close(g.class_weights(torch.tensor([3, 1, 0]), power=1.0), torch.tensor([0.5, 1.5, 0.0]))
    assert_close(g.class_weights(torch.tensor([5, 1]), power=0.0), torch.ones(2))


# bad input


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: g.SSZGenerator(size=100), "power of two"),
        (lambda: g.SSZGenerator(size=4), "power of two"),
        (lambda: g.SSZGenerator(size=True), "power of two"),
        (lambda: g.SSZGenerator(size=64, widths=(8, 16)), "give 4 whole numbers"),
        (lambda: g.SSZGenerator(size=8, widths=(0,)), "widths"),
        (lambda: g.SSZGenerator(decoder="quick"), "fast, paper"),
        (lambda: g.SSZGenerator(classes=1), "from 2 up"),
        (lambda: net_of()(torch.rand(1, 3, 32, 32)), "(B, 3, 16, 16)"),
        (lambda: net_of()(torch.rand(3, 16, 16)), "(B, 3, 16, 16)"),
        (lambda: net_of()(torch.rand(1, 4, 16, 16)), "(B, 3, 16, 16)"),
        (lambda: net_of()(torch.zeros(1, 3, 16, 16, dtype=torch.uint8)), "uint8"),
        (lambda: net_of()([0.0]), "list"),
        (lambda: g.ZGAN(size=12), "power of two"),
        (lambda: g.ZGAN(size=8)(torch.rand(1, 3, 16, 16)), "(B, 3, 8, 8)"),
        (lambda: g.weighted_nll(torch.zeros(1, 3, 2, 2, 2), torch.full((1, 2, 2, 2), 3), torch.ones(3)), "from 3 to 3"),
        (lambda: g.weighted_nll(torch.zeros(1, 3, 2, 2, 2), torch.full((1, 2, 2, 2), -1), torch.ones(3)), "from -1"),
        (lambda: g.weighted_nll(torch.zeros(1, 3, 2, 2, 2), torch.zeros(1, 2, 2, 2), torch.ones(3)), "float32"),
        (lambda: g.weighted_nll(torch.zeros(1, 3, 2, 2, 2), torch.zeros(2, 2, 2, dtype=torch.long), torch.ones(3)), "(1, 2, 2, 2)"),
        (lambda: g.weighted_nll(torch.zeros(1, 3, 2, 2, 2), torch.zeros(1, 2, 2, 2, dtype=torch.long), torch.ones(4)), "3 classes"),
        (lambda: g.class_weights(torch.zeros(3)), "not all 0"),
        (lambda: g.class_weights(torch.tensor([1.0, -1.0])), "from 0 up"),
        (lambda: g.class_weights(torch.tensor([1.0, math.nan])), "from 0 up"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, words):
    with pytest.raises(InputError) as caught:
        call()
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("more", KINDS)
def test_the_same_on_cuda(more):
    net = net_of(torch.float64, **more).eval()
    images = pictures(dtype=torch.float64)
    labels = torch.randint(5, (2, 16, 16, 16), generator=torch.Generator().manual_seed(0))
    here = g.weighted_nll(net(images), labels, torch.ones(5))
    there = g.weighted_nll(net.cuda()(images.cuda()), labels.cuda(), torch.ones(5).cuda())
    assert_close(there.cpu(), here, rtol=1e-6)


def test_mixed_precision_runs():
    net = net_of().eval()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        half = net(pictures())
    with torch.no_grad():
        assert_close(half.float(), net(pictures()), rtol=0.1, atol=0.1)
