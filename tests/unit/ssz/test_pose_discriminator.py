"""The pose discriminator: assignment against a loop, exact decoding, losses of known value, gradients, and learning that learns."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from densebook.core.errors import InputError
from densebook.data import streets
from densebook.data.streets import Instances
from densebook.geometry import poses
from densebook.ssz import pose_discriminator as pd
from densebook.ssz.fruxels import Frustum
from densebook.testing import assert_close, assert_grad

quick = settings(deadline=None, max_examples=15, derandomize=True)
FRUSTUM = Frustum(2.0, 12.0, 16, math.radians(40), (16, 16))
CELLS = (4, 4, 4)


@pytest.fixture(params=[torch.float32, torch.float64])
def dtype(request):
    return request.param


def boxes(count: int, seed: int = 0, dtype=torch.float64, label: int | None = None) -> Instances:
    """Objects anywhere in and around the frustum, turned any way."""
    draw = torch.Generator().manual_seed(seed)
    coordinates = torch.rand(count, 3, generator=draw, dtype=torch.float64) * 20 - 2
    rotations = poses.so3_exp(2 * torch.randn(count, 3, generator=draw, dtype=torch.float64))
    sizes = 0.5 + 4 * torch.rand(count, 3, generator=draw, dtype=torch.float64)
    labels = torch.randint(1, 9, (count,), generator=draw) if label is None else torch.full((count,), label)
    return Instances(FRUSTUM.at(coordinates).to(dtype), rotations.to(dtype), sizes.to(dtype), labels)


def said(targets: pd.Targets, frustum: Frustum = FRUSTUM, length: float = 1.7) -> torch.Tensor:
    """The cells that say exactly what the targets ask for: `decode` turned round."""
    m = targets.mask
    size = torch.tensor(frustum.shape) // torch.tensor(m.shape[1:])
    index = torch.stack(torch.meshgrid(*[torch.arange(n) for n in m.shape[1:]], indexing="ij"), dim=-1).expand(*m.shape, 3)[m]
    off = frustum.coordinates(targets.translations[m]) / size.to(targets.translations) - index - 0.5
    cells = targets.translations.new_zeros(*m.shape, 8)
    cells[m] = torch.cat([(off / pd.REACH).atanh(), length * targets.quaternions[m], torch.zeros_like(off[:, :1])], dim=1)
    return cells.movedim(-1, 1)


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def street(seed: int = 0, dtype=torch.float32) -> Instances:
    found = streets.instances(streets.toy_street(torch.Generator().manual_seed(seed), size=(16, 16)))
    return Instances(*(x.to(dtype) if x.is_floating_point() else x for x in found))


# Assignment -------------------------------------------------------------------------------------------------------------


@quick
@given(st.lists(st.integers(0, 12), min_size=1, max_size=3), st.integers(0, 99), st.sampled_from([(4, 4, 4), (2, 8, 4), (1, 1, 1), (16, 16, 16)]))
def test_assignment_is_that_of_a_loop(counts, seed, cells):
    scenes = [boxes(n, seed + 7 * i) for i, n in enumerate(counts)]
    targets = pd.assign(scenes, FRUSTUM, cells)
    for n, scene in enumerate(scenes):
        owner = {}
        for one in range(len(scene.labels)):
            index, inside = FRUSTUM.index(scene.centers[one])
            if inside:
                cell = tuple(int(i) * c // s for i, c, s in zip(index, cells, FRUSTUM.shape))
                if cell not in owner or scene.centers[one, 2] < scene.centers[owner[cell], 2]:
                    owner[cell] = one
        assert {tuple(c) for c in targets.mask[n].nonzero().tolist()} == set(owner)
        assert int(targets.missed[n]) == len(scene.labels) - len(owner)
        for cell, one in owner.items():
            assert torch.equal(targets.translations[n][cell], scene.centers[one])
            assert torch.equal(targets.sizes[n][cell], scene.sizes[one]) and targets.labels[n][cell] == scene.labels[one]
            assert_close(poses.rotation_from_quaternion(targets.quaternions[n][cell]), scene.rotations[one], atol=1e-12)
        assert not targets.translations[n][~targets.mask[n]].any()


def test_scenes_do_not_mix_and_empty_ones_are_empty():
    one, two = boxes(9, 1), boxes(9, 2)
    both = pd.assign([one, boxes(0), two], FRUSTUM, CELLS)
    assert not both.mask[1].any() and both.missed[1] == 0
    for n, scene in ((0, one), (2, two)):
        alone = pd.assign([scene], FRUSTUM, CELLS)
        for a, b in zip(both, alone):
            assert torch.equal(a[n], b[0])


def test_the_nearer_of_two_owns_the_cell_in_any_order():
    near, far = FRUSTUM.at(torch.tensor([5.2, 5.5, 5.5])), FRUSTUM.at(torch.tensor([5.8, 5.5, 5.5]))
    for first, second in ((near, far), (far, near)):
        two = Instances(torch.stack([first, second]), torch.eye(3).expand(2, 3, 3), torch.ones(2, 3), torch.tensor([2, 3]))
        targets = pd.assign([two], FRUSTUM, CELLS)
        assert torch.equal(targets.translations[targets.mask], near[None]) and targets.missed.tolist() == [1]


# Decoding and errors ----------------------------------------------------------------------------------------------------


def test_decode_is_the_inverse_of_what_is_asked_for(dtype):
    targets = pd.assign([boxes(30, 3, dtype), boxes(30, 4, dtype)], FRUSTUM, CELLS)
    assert targets.mask.sum() > 15
    t, q, r = pd.decode(said(targets), FRUSTUM)
    m = targets.mask
    assert t.dtype == q.dtype == r.dtype == dtype
    assert_close(t[m], targets.translations[m], atol=1e-4 if dtype == torch.float32 else 1e-10)
    assert_close(q[m], targets.quaternions[m], atol=1e-5)
    assert_close(r, torch.full_like(r, 0.5))
    metres, angle, labels = pd.pose_errors(said(targets), targets, FRUSTUM)
    assert metres.max() < 1e-4 and angle.nan_to_num(0).max() < (2e-3 if dtype == torch.float32 else 1e-6)
    assert torch.equal(labels, targets.labels[m]) and torch.equal(angle.isnan(), labels == streets.CLASSES.index("tree"))


@quick
@given(st.integers(0, 99), st.floats(0, 30))
def test_decoded_places_stay_by_their_cells(seed, loud):
    t, q, r = pd.decode(loud * draw(2, 8, *CELLS, seed=seed), FRUSTUM)
    index = torch.stack(torch.meshgrid(*[torch.arange(4)] * 3, indexing="ij"), dim=-1) + 0.5
    off = FRUSTUM.coordinates(t) / 4 - index
    assert off.abs().max() <= pd.REACH + 1e-9
    assert_close(q.norm(dim=-1), torch.ones_like(r))
    assert ((r >= 0) & (r <= 1)).all()


def test_a_silent_cell_is_its_middle_and_the_identity(dtype):
    t, q, r = pd.decode(torch.zeros(1, 8, 2, 2, 2, dtype=dtype), FRUSTUM)
    assert_close(t[0, 0, 0, 0], FRUSTUM.at(torch.tensor([4.0, 4.0, 4.0], dtype=dtype)))
    assert_close(q[0, 1, 1, 1], torch.tensor([1.0, 0, 0, 0], dtype=dtype))
    assert (r == 0.5).all()


@quick
@given(st.integers(0, 99), st.floats(0.01, 3.1))
def test_angles_are_geodesic_and_blind_to_sign(seed, turn):
    targets = pd.assign([boxes(8, seed, label=2)], FRUSTUM, CELLS)
    cells = said(targets)
    axis = F.normalize(draw(3, seed=seed), dim=0)
    m = targets.mask
    R = poses.rotation_from_quaternion(targets.quaternions[m]) @ poses.so3_exp(turn * axis)
    cells.movedim(1, -1)[..., 3:7][m] = -poses.quaternion_from_rotation(R)
    _, angle, _ = pd.pose_errors(cells, targets, FRUSTUM)
    assert_close(angle, torch.full_like(angle, turn), atol=1e-6)


def test_turns_that_look_alike_cost_nothing():
    half = poses.so3_exp(torch.tensor([0.0, math.pi, 0.0], dtype=torch.float64))
    any_turn = poses.so3_exp(torch.tensor([0.0, 1.1, 0.0], dtype=torch.float64))
    for name, turn, free in (("building", half, True), ("building", any_turn, False), ("tree", any_turn, True), ("car", half, False)):
        targets = pd.assign([boxes(30, 5, label=streets.CLASSES.index(name))], FRUSTUM, CELLS)
        m = targets.mask
        cells = said(targets)
        R = poses.rotation_from_quaternion(targets.quaternions[m]) @ turn
        cells.movedim(1, -1)[..., 3:7][m] = poses.quaternion_from_rotation(R)
        for form in ("separate", "corners"):
            loss = float(pd.pose_loss(cells, targets, FRUSTUM, form))
            assert (loss < 1e-6) == free, (name, form, loss)


# Pose losses ------------------------------------------------------------------------------------------------------------


def test_losses_are_zero_at_the_truth_and_known_beside_it(dtype):
    targets = pd.assign([boxes(30, 6, dtype, label=2)], FRUSTUM, CELLS)
    cells = said(targets)
    for form in pd.FORMS:
        assert float(pd.pose_loss(cells, targets, FRUSTUM, form)) < (1e-4 if dtype == torch.float32 else 1e-7), form
    m = targets.mask
    shifted = targets._replace(translations=targets.translations + torch.tensor([0.3, 0.0, -0.4], dtype=dtype))
    assert float(pd.pose_loss(cells, shifted, FRUSTUM, "separate")) == pytest.approx(0.7, abs=1e-4)
    assert float(pd.pose_loss(cells, shifted, FRUSTUM, "corners")) == pytest.approx(0.5, abs=1e-2)
    assert float(pd.pose_loss(cells, shifted, FRUSTUM, "paper")) == pytest.approx(0.25, abs=1e-4)
    turned = poses.rotation_from_quaternion(targets.quaternions[m]) @ poses.so3_exp(torch.tensor([0.0, 0.8, 0.0], dtype=dtype))
    other = targets.quaternions.clone()
    other[m] = poses.quaternion_from_rotation(turned)
    loss = pd.pose_loss(cells, targets._replace(quaternions=other), FRUSTUM, "separate")
    assert float(loss) == pytest.approx(2 * math.sin(0.4) ** 2, abs=1e-4), "once for the angle, once for the axis"
    arm = targets.sizes[m][:, [0, 2]].norm(dim=1).mean() / 2
    corner = pd.pose_loss(cells, targets._replace(quaternions=other), FRUSTUM, "corners")
    assert float(corner) == pytest.approx(float(2 * arm * math.sin(0.4)), abs=1e-2)


@quick
@given(st.integers(0, 99))
def test_equation_3_has_a_family_of_wrong_zeros(seed):
    one = boxes(30, 7, label=2)
    targets = pd.assign([one], FRUSTUM, CELLS)
    m = targets.mask
    R = poses.rotation_from_quaternion(targets.quaternions[m])
    wrong = poses.so3_exp(2 * draw(int(m.sum()), 3, seed=seed))
    t, q = targets.translations.clone(), targets.quaternions.clone()
    t[m] = (wrong.mT @ R @ targets.translations[m][..., None])[..., 0]
    q[m] = poses.quaternion_from_rotation(wrong)
    cells, lie = said(targets), targets._replace(translations=t, quaternions=q)
    assert float(pd.pose_loss(cells, lie, FRUSTUM, "paper")) < 1e-10
    assert float(pd.pose_loss(cells, lie, FRUSTUM, "separate")) > 0.5
    assert float(pd.pose_loss(cells, lie, FRUSTUM, "corners")) > 0.5


@pytest.mark.parametrize("form", pd.FORMS)
def test_gradients_agree_and_reach_owned_cells_only(form):
    targets = pd.assign([boxes(6, 8), street(1, torch.float64)], FRUSTUM, (2, 2, 2))
    cells = draw(2, 8, 2, 2, 2)
    assert_grad(lambda c: pd.pose_loss(c, targets, FRUSTUM, form), cells)
    cells.requires_grad_()
    (gradient,) = torch.autograd.grad(pd.pose_loss(cells, targets, FRUSTUM, form), cells)
    assert not gradient.movedim(1, -1)[~targets.mask].any() and not gradient[:, 7].any()


def test_no_objects_no_loss_but_a_graph():
    cells = draw(1, 8, *CELLS).requires_grad_()
    loss = pd.pose_loss(cells, pd.assign([boxes(0)], FRUSTUM, CELLS), FRUSTUM)
    loss.backward()
    assert loss == 0 and not cells.grad.any()


def test_the_axis_can_be_learnt_before_the_front():
    targets = pd.assign([boxes(30, 9, label=2)], FRUSTUM, CELLS)
    m = targets.mask
    R = poses.rotation_from_quaternion(targets.quaternions[m])

    def loss(turn: float) -> float:
        """Of a rotation said `turn` off, when front and back are as likely as one another."""
        total = 0.0
        for half in (0.0, math.pi):
            true = targets.quaternions.clone()
            true[m] = poses.quaternion_from_rotation(R @ poses.so3_exp(torch.tensor([0.0, turn + half, 0.0], dtype=torch.float64)))
            total += float(pd.pose_loss(said(targets), targets._replace(quaternions=true), FRUSTUM)) / 2
        return total

    assert loss(0.0) == pytest.approx(0.5, abs=1e-4)
    assert loss(0.0) < loss(0.4) < loss(0.9) < loss(1.5)


# Straight-through and adversarial losses --------------------------------------------------------------------------------


def test_straight_through_is_arg_max_forwards_and_soft_max_backwards(dtype):
    logits, weights = 3 * draw(2, 5, 3, 4, dtype=dtype), draw(2, 5, 3, 4, seed=1, dtype=dtype)
    logits.requires_grad_()
    hard = pd.straight_through(logits)
    assert torch.equal(hard, F.one_hot(logits.argmax(1), 5).movedim(-1, 1).to(dtype))
    (a,), (b,) = (torch.autograd.grad((x * weights).sum(), logits) for x in (hard, logits.softmax(1)))
    assert_close(a, b)
    assert pd.straight_through(torch.zeros(1, 3, 2)).sum() == 2, "ties have one winner"


def test_adversarial_losses_have_their_values(dtype):
    cells = draw(2, 8, 2, 3, 4, dtype=dtype)
    other, mask = draw(2, 8, 2, 3, 4, seed=1, dtype=dtype), draw(2, 2, 3, 4, seed=2) > 0
    for m in (None, mask):
        r, f = (x[:, 7].flatten() if m is None else x[:, 7][m] for x in (cells, other))
        bce = -(0.9 * r.sigmoid().log() + 0.1 * (1 - r.sigmoid()).log()).mean() / 2 - (1 - f.sigmoid()).log().mean() / 2
        assert_close(pd.discriminator_loss(cells, other, m, smoothing=0.1), bce)
        assert_close(pd.discriminator_loss(cells, other, m, "hinge"), ((1 - r).clamp_min(0).mean() + (1 + f).clamp_min(0).mean()) / 2)
        assert_close(pd.generator_loss(other, m), -f.sigmoid().log().mean())
        assert_close(pd.generator_loss(other, m, "hinge"), -f.mean())


def test_gradient_penalty_of_a_linear_judge_is_its_slope():
    slope = draw(3, 4, 4, 4)
    volumes = draw(2, 3, 4, 4, 4, seed=1).requires_grad_()
    logit = (volumes * slope).flatten(1).sum(1)
    cells = torch.zeros(2, 8, 1, 1, 1, dtype=torch.float64).index_copy(1, torch.tensor([7]), logit.view(2, 1, 1, 1, 1))
    assert_close(pd.gradient_penalty(cells, volumes), slope.square().sum())


# The network ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spectral", [True, False])
def test_network_shapes_types_and_gradients(dtype, spectral):
    torch.manual_seed(0)
    net = pd.PoseDiscriminator(5, 16, (6, 8), spectral).to(dtype)
    images, volumes = torch.rand(2, 3, 16, 16, dtype=dtype), torch.rand(2, 5, 16, 16, 16, dtype=dtype).requires_grad_()
    cells = net(images, volumes)
    assert cells.shape == (2, 8, 4, 4, 4) and cells.dtype == dtype
    cells.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert volumes.grad.abs().amax(dim=(0, 2, 3, 4)).min() > 0
    net.eval()
    alone = net(images[:1], volumes[:1])
    assert_close(alone, net(images, volumes)[:1], atol=1e-5)


def test_the_net_sees_picture_and_volume_and_spectral_norm_forgets_size():
    torch.manual_seed(0)
    net = pd.PoseDiscriminator(5, 16, (6, 8)).eval()
    images, volumes = torch.rand(1, 3, 16, 16), torch.rand(1, 5, 16, 16, 16)
    with torch.no_grad():
        cells = net(images, volumes)
        assert (net(0 * images, volumes) - cells).abs().max() > 1e-3 and (net(images, volumes.flip(2)) - cells).abs().max() > 1e-3
        net.real.parametrizations.weight.original.mul_(5.0)
        assert_close(net(images, volumes), cells, atol=1e-5)


def test_a_mirrored_scene_has_mirrored_targets():
    scene = street(2)
    images, labels = torch.rand(1, 3, 16, 16), torch.randint(0, 10, (1, 16, 16, 16))
    pictures, classes, (turned,) = pd.mirror(images, labels, [scene])
    assert torch.equal(pictures, images.flip(3)) and torch.equal(classes, labels.flip(3))
    assert_close(torch.linalg.det(turned.rotations), torch.ones(len(turned.labels)))
    a, b = pd.assign([scene], FRUSTUM, CELLS), pd.assign([turned], FRUSTUM, CELLS)
    assert torch.equal(a.mask, b.mask.flip(3))
    corners = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * 3) * scene.sizes[:, None]
    here = corners @ scene.rotations.mT + scene.centers[:, None]
    there = (corners * torch.tensor([-1.0, 1, 1])) @ turned.rotations.mT + turned.centers[:, None]
    assert_close(there, here * torch.tensor([-1.0, 1, 1]), atol=1e-5)


def toys(count: int):
    """Volumes of one solid block each, turned about the upright axis by 0 or a right angle, and its box; cheap to make."""
    draw_ = torch.Generator().manual_seed(0)
    labels, found = torch.zeros(count, 16, 16, 16, dtype=torch.int64), []
    for n in range(count):
        k, j, i = (int(x) for x in torch.randint(3, 12, (3,), generator=draw_))
        labels[n, k - 1 : k + 2, j - 1 : j + 1, i - 2 : i + 2] = 2
        center = FRUSTUM.at(torch.tensor([[k + 0.5, float(j), float(i)]]))
        found.append(Instances(center, torch.diag(torch.tensor([1.0, -1, -1]))[None], torch.ones(1, 3), torch.tensor([2])))
    return torch.full((count, 3, 16, 16), 0.5), labels, found


def test_learning_beats_silence_and_is_repeatable():
    images, labels, found = toys(40)
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        net = pd.PoseDiscriminator(10, 16, (8, 16))
        before = {n: p.clone() for n, p in net.named_parameters()}
        history = pd.fit_poses(net, images[:32], labels[:32], found[:32], FRUSTUM, steps=80, lr=1e-2, generator=torch.Generator().manual_seed(0))
        results.append(history)
    assert results[0] == results[1] and len(history) == 80
    assert all(torch.equal(p, before[n]) for n, p in net.named_parameters() if n.startswith("real")), "realness is left alone"
    targets = pd.assign(found[32:], FRUSTUM, CELLS)
    with torch.no_grad():
        cells = net(images[32:], F.one_hot(labels[32:], 10).movedim(-1, 1).float())
    metres, angle, _ = pd.pose_errors(cells, targets, FRUSTUM)
    silent, _, _ = pd.pose_errors(torch.zeros_like(cells), targets, FRUSTUM)
    assert metres.mean() < 0.6 * silent.mean() and angle.mean() < 0.4


# Bad input --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attempt", "word"),
    [
        (lambda: pd.assign([], FRUSTUM, CELLS), "empty"),
        (lambda: pd.assign([boxes(2)], FRUSTUM, (3, 4, 4)), "divide"),
        (lambda: pd.assign([boxes(2)], FRUSTUM, (4, 4)), "divide"),
        (lambda: pd.assign([boxes(2)], FRUSTUM, (0, 4, 4)), "divide"),
        (lambda: pd.decode(torch.zeros(1, 7, 4, 4, 4), FRUSTUM), "(B, 8, u, v, w)"),
        (lambda: pd.decode(torch.zeros(1, 8, 5, 4, 4), FRUSTUM), "divide"),
        (lambda: pd.pose_loss(torch.zeros(1, 8, 4, 4, 4), pd.assign([boxes(2)], FRUSTUM, CELLS), FRUSTUM, "corner"), "corners"),
        (lambda: pd.pose_loss(torch.zeros(1, 8, 2, 2, 2), pd.assign([boxes(2)], FRUSTUM, CELLS), FRUSTUM), "assign to the net's cells"),
        (lambda: pd.discriminator_loss(torch.zeros(1, 8, 1, 1, 1), torch.zeros(1, 8, 1, 1, 1), kind="wgan"), "wgan"),
        (lambda: pd.generator_loss(torch.zeros(1, 8, 1, 1, 1), kind="bse"), "bce"),
        (lambda: pd.PoseDiscriminator(size=24, widths=(8, 8, 8, 8)), "halved"),
        (lambda: pd.PoseDiscriminator(size=16, widths=()), "halved"),
        (lambda: pd.PoseDiscriminator(size=4, widths=(8, 8)), "halved"),
        (lambda: pd.PoseDiscriminator(5, 16, (4, 4))(torch.zeros(1, 3, 8, 16), torch.zeros(1, 5, 16, 16, 16)), "do not fit"),
        (lambda: pd.PoseDiscriminator(5, 16, (4, 4))(torch.zeros(1, 3, 16, 16), torch.zeros(1, 4, 16, 16, 16)), "do not fit"),
    ],
)
def test_bad_input_is_named(attempt, word):
    with pytest.raises(InputError, match=".") as caught:
        attempt()
    assert word in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda_agrees():
    scenes = [boxes(9, n, torch.float32) for n in range(3)]
    there = [Instances(*(x.cuda() for x in scene)) for scene in scenes]
    targets, other = pd.assign(scenes, FRUSTUM, CELLS), pd.assign(there, FRUSTUM, CELLS)
    for a, b in zip(targets, other):
        assert_close(b.cpu(), a)
    torch.manual_seed(0)
    net = pd.PoseDiscriminator(5, 16, (6, 8)).eval()
    images, volumes = torch.rand(3, 3, 16, 16), torch.rand(3, 5, 16, 16, 16)
    with torch.no_grad():
        cells = net(images, volumes)
        assert_close(net.cuda()(images.cuda(), volumes.cuda()).cpu(), cells, atol=1e-3)
    for form in pd.FORMS:
        assert_close(pd.pose_loss(cells.cuda(), other, FRUSTUM, form).cpu(), pd.pose_loss(cells, targets, FRUSTUM, form), rtol=1e-4)
