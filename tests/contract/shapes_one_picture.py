"""The shapes in the signatures of the two chapters that read one picture hold: a walk like that of shapes.py, in a process of its own."""

import math
import os
import sys
import tempfile
from pathlib import Path

import torch
from jaxtyping import install_import_hook
from PIL import Image

with install_import_hook(["densebook.ssz", "densebook.phorhum"], "tower.check"):
    from densebook.core import checkpoints
    from densebook.data import heads as data_heads
    from densebook.data import streets, toy
    from densebook.geometry import mesh as meshes
    from densebook.phorhum import heads, losses, networks
    from densebook.render import cameras, shading
    from densebook.ssz import dataset, fruxels, generator, training
    from densebook.ssz import pose_discriminator as poses


def walk_fruxels(dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)
    street = streets.toy_street(draw, size=(16, 24))
    frustum = fruxels.Frustum(2.0, 12.0, 16, math.radians(40), (16, 24))
    labels = fruxels.voxelize(street, frustum)
    points = frustum.points(dtype)
    frustum.index(points), frustum.volumes(dtype)
    fruxels.to_mesh(labels, frustum)
    grid, origin = fruxels.to_grid(labels, frustum, 0.5)
    fruxels.from_grid(grid, origin, 0.5, frustum)
    fruxels.iou(labels, labels, 10, frustum.volumes())


def walk_generator(dtype: torch.dtype) -> None:
    random = torch.Generator().manual_seed(0)
    volume, features = torch.randn(2, 3, 4, 5, 6, generator=random, dtype=dtype), torch.randn(2, 2, 5, 6, generator=random, dtype=dtype)
    weight, bias = torch.randn(7, 5, generator=random, dtype=dtype), torch.randn(7, generator=random, dtype=dtype)
    assert generator.inflate(features, 4).shape == (2, 2, 4, 5, 6)
    assert generator.pointwise_of_concat(volume, features, weight, bias).dtype == dtype
    generator.pointwise_of_concat(volume[:1], features[:1], weight)

    counts = torch.tensor([90, 9, 1])
    weights = generator.class_weights(counts)
    generator.class_weights(counts.to(dtype), 1.0)
    images = torch.rand(2, 3, 8, 8, generator=random, dtype=dtype)
    labels = torch.randint(3, (2, 8, 8, 8), generator=random)
    options = ({}, {"decoder": "paper"}, {"ir2d": False}, {"ir3d": False})
    for net in (*(generator.SSZGenerator(3, 8, (4,), **more) for more in options), generator.ZGAN(3, 8, 2)):
        net = net.to(dtype)
        loss = generator.weighted_nll(net(images), labels, weights.to(dtype))
        generator.weighted_nll(net.eval()(images[:1]), labels[:1].to(torch.uint8), weights.to(dtype)).backward()
        assert loss.dtype == dtype and generator.costs(net).macs > 0


def walk_pose_discriminator(dtype: torch.dtype) -> None:
    frustum = fruxels.Frustum(2.0, 12.0, 16, math.radians(40), (16, 16))
    scene = streets.instances(streets.toy_street(torch.Generator().manual_seed(0), size=(16, 16)))
    scene = streets.Instances(*(x.to(dtype) if x.is_floating_point() else x for x in scene))
    targets = poses.assign([scene, scene], frustum, (4, 4, 4))

    net = poses.PoseDiscriminator(10, 16, (4, 6)).to(dtype)
    images, logits = torch.rand(2, 3, 16, 16, dtype=dtype), torch.randn(2, 10, 16, 16, 16, dtype=dtype)
    volumes = poses.straight_through(logits).requires_grad_()
    cells = net(images, volumes)
    poses.decode(cells, frustum), poses.pose_errors(cells, targets, frustum)
    for form in poses.FORMS:
        poses.pose_loss(cells, targets, frustum, form)
    for kind in poses.KINDS:
        poses.discriminator_loss(cells, cells, targets.mask, kind), poses.generator_loss(cells, None, kind)
    poses.gradient_penalty(cells, volumes)

    labels = logits.argmax(1)
    poses.mirror(images, labels, [scene, scene])
    poses.fit_poses(net, images, labels, [scene, scene], frustum, steps=1, batch=2)
    assert cells.dtype == dtype and targets.mask.any()


def walk_dataset() -> None:
    frustum = fruxels.Frustum(2.0, 12.0, 16, 0.7, (32, 32))
    draws = torch.Generator().manual_seed(0)
    sky = dataset.exposed(toy.environment((8, 16)).double())
    assert sky.map.dtype == torch.float64
    (light,) = dataset.make_lights("toy")
    light = dataset.turned(dataset.draw_light([light], draws), 0.3, 1.1)
    street, _ = dataset.make_street(frustum, 3)
    dataset.picture(street, light)
    one = dataset.make_example(street, frustum, light)
    two = dataset.numbered_example(4, frustum, "toy", "test", [light])
    examples = dataset.join_examples([one, two, dataset.make_examples(2, frustum, draws)])
    dataset.class_counts(examples.labels), dataset.prior(examples.labels, power=0.5), dataset.best_constant(examples.labels, steps=3)
    with tempfile.TemporaryDirectory() as folder:
        written = dataset.write_examples(folder, examples, frustum)
        dataset.read_boxes(next(p for p in written if p.parent.name == "Boxes"))
        back, _ = dataset.read_examples(folder, only=slice(0, 2))
        streets.write_nuscenes(folder, ["a.png"], [street.camera], [streets.instances(street)])
        streets.read_nuscenes(folder)
    lines = dataset.edges(examples.images.double())
    assert lines.dtype == torch.float64 and back.labels.shape == (2, 16, 32, 32)
    dataset.edge_agreement(lines, lines)
    given = dataset.conditions(examples.images)
    net, _ = dataset.train_realism(examples.images, 1, draws, width=4, batch=2)
    dataset.PatchDiscriminator(4)(given, net(given))
    dataset.EdgesToImage(4, hint=0).double()(lines)
    dataset.restyle(net, examples.images)


def walk_training(dtype: torch.dtype) -> None:
    frustum = fruxels.Frustum(2.0, 12.0, 8, math.radians(40), (8, 8))
    streets_ = dataset.make_examples(3, frustum, torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    net, judge = generator.SSZGenerator(10, 8, (8,)).to(dtype), poses.PoseDiscriminator(10, 8, (4, 4)).to(dtype)
    images = streets_.images.to(dtype)
    lit = training.relight(images, torch.Generator().manual_seed(0))
    training.relight(images[:1], torch.Generator().manual_seed(0))
    assert lit.dtype == dtype
    found = training.predict(net, images, batch=2)
    training.predict(net, images[:1], twice=True)
    offset, _ = training.choose_offset(net, streets_._replace(images=images), torch.ones(10), frustum, powers=(0.0, 0.5))
    training.score(found, streets_.labels, frustum), training.score(found[:1].long(), streets_.labels[:1].long(), frustum)
    assert isinstance(training.evaluate(net, streets_._replace(images=images), frustum), training.Scores)
    for ground in (False, True):
        training.back_project(streets_.depth, streets_.labels, frustum, ground)
        training.back_project(streets_.depth[:1].to(dtype), streets_.labels[:1].long(), frustum, ground)
    for rival in (training.Pix2VoxSmall(10, 8, 4), training.R2N2Small(10, 8, 4)):
        assert rival.to(dtype)(images).dtype == dtype
    logits = net(images)
    made = poses.straight_through(logits)
    true = torch.nn.functional.one_hot(streets_.labels.long(), 10).movedim(-1, 1).to(dtype)
    training.adversarial_terms(judge, images, made, streets_.instances, frustum)
    training.judge_terms(judge, images, true, made.detach(), streets_.instances, frustum)
    training.rate(0.5)
    training.overlap_loss(torch.randn(2, 10, 4, 4, 4, dtype=dtype), torch.zeros(2, 4, 4, 4, dtype=torch.long))
    batches = training.StreetBatches(streets_, 2, 2)
    with tempfile.TemporaryDirectory() as folder:
        module = training.ssz_module(net.float(), frustum, torch.ones(10), judge.float(), 2, 1e-3, join=0.0)
        training.make_trainer(folder, 1).fit(module, training.loader(batches))
        checkpoints.load_state(f"{folder}/last.safetensors")
        checkpoints.save_state({"a": torch.ones(2)}, f"{folder}/state.safetensors")
        training.save(net, f"{folder}/net.safetensors")
        training.load(f"{folder}/net.safetensors")


def walk_networks(dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 16, 16, generator=draw, dtype=dtype)
    points = torch.rand(2, 5, 3, generator=draw, dtype=dtype) - 0.5
    camera = cameras.orbit(0.3, 0.1, 3.0, size=(16, 16)).to(dtype)
    K, T = camera.K, camera.cam_from_world
    assert networks.blur_pool(images).shape == (2, 3, 8, 8)
    networks.encode_points(points), networks.encode_points(points[0, 0])
    networks.pixel_features(images, K, T, points), networks.pixel_features(images, K.expand(2, 3, 3), T.expand(2, 4, 4), points)

    features, bottleneck = networks.FeatureNet(1 / 16, 3, draw).to(dtype)(images)
    geometry = networks.GeometryNet(features.shape[1], 1 / 16, draw).to(dtype)
    geometry(points, networks.pixel_features(features, K, T, points)), geometry(points[0, 0], features[0, :, 0, 0])
    shading_net = networks.ShadingNet(bottleneck.shape[1], 1 / 16, draw).to(dtype)
    shading_net(torch.nn.functional.normalize(points, dim=-1), shading_net.code(bottleneck))

    net = networks.PhorhumNet(1 / 16, 3, field=1 / 8, generator=draw).to(dtype)
    encoding = net.encode(images)
    assert isinstance(encoding, networks.Encoding)
    distance, _ = net.field(encoding, K, T, points)
    net.field_and_gradient(encoding, K[None], T[None], points), net.field_and_gradient(encoding, K, T, points, fixed=True)
    net.normals(encoding, K, T, points)
    head = net.head(encoding, K, T, 1)
    assert isinstance(head, networks.HeadSDF) and head(points[1]).dtype == dtype == distance.dtype
    head.color(points), head(points[1, 0])
    with tempfile.TemporaryDirectory() as folder:
        networks.save(net, f"{folder}/net.safetensors")
        assert networks.load(f"{folder}/net.safetensors").settings == net.settings


def walk_losses() -> None:
    for dtype in (torch.float32, torch.float64):
        draw = torch.Generator().manual_seed(0)
        batch = data_heads.make_heads(2, 16, draw, samples=(32, 40)).to(dtype)
        net = networks.PhorhumNet(width=1 / 16, levels=2, generator=draw).to(dtype)
        encoding, k = net.encode(batch.images), net.log_k.exp()
        view = encoding, batch.K, batch.cam_from_world

        distance, albedo, gradient = losses.field_gradient(net, *view, batch.surface)
        losses.field_gradient(net, *view, batch.surface, again=False)
        losses.geometry_loss(distance, gradient, batch.normals, losses.g1_weight(3, 10))
        losses.geometry_loss(distance[0, 0], gradient[0, 0], batch.normals[0, 0])
        losses.eikonal_loss(gradient), losses.eikonal_loss(gradient[0])
        losses.sign_loss(distance, distance > 0, k), losses.sign_loss(distance[0], distance[0] > 0, 40.0)
        losses.albedo_loss(albedo, batch.albedo, batch.point_albedo, batch.point_albedo)

        pixels = losses.patch_pixels(batch.masks, 8, draw)
        origins, rays = losses.pixel_rays(batch.K, batch.cam_from_world, pixels)
        assert losses.at_pixels(batch.images, pixels).dtype == origins.dtype == rays.dtype == dtype
        hits, truth = losses.trace_patch(net, *view, pixels), losses.patch_truth(batch, pixels)
        assert isinstance(hits, losses.PatchHits) and isinstance(truth, losses.PatchTruth)
        d, a, g = losses.field_gradient(net, *view, hits.front)
        assert losses.hit_points(hits.front, rays, d, g).dtype == dtype
        losses.hit_points(hits.front[0, 0], rays[0, 0], d[0, 0], g[0, 0])
        losses.rendering_loss(a, truth.front_albedo, a, truth.back_albedo, truth.mask)
        losses.predicted_shading_loss(a, a, truth.pixels, truth.mask)
        losses.true_shading_loss(truth.front_albedo[0], a[0], truth.pixels[0])
        losses.seen_samples(batch), losses.to_linear(batch.images), losses.subsample(batch, (8, 9), draw)

        vgg = losses.VGG(generator=draw).to(dtype)
        losses.perceptual_loss(batch.images, batch.images, vgg)
        parts = losses.point_losses(net, encoding, batch, k) | losses.patch_losses(net, encoding, batch, pixels, k, features=vgg)
        total, found = losses.total_loss(net, batch, 3, 10, draw, {"s": 1.0}, patch=8, count=(16, 20), features=vgg)
        assert total.dtype == dtype and set(parts) == set(found) <= set(losses.WEIGHTS) | {"g", "hits"}


def walk_heads() -> None:
    """float32 only: a network's weights, and the samples of HeadSet, are."""
    draw = torch.Generator().manual_seed(0)
    found = data_heads.make_heads(2, 32, draw, samples=(96, 96))
    for images, masks in ((found.images, found.masks), (found.images[0].double(), found.masks[0].double())):
        heads.compose(images, masks)
    heads.mirrored(found)
    batch = heads.draw_batch(found, 2, 32, draw)
    heads.seen_pixels(batch)
    net = networks.PhorhumNet(0.0625, 3, 0.125, draw)
    heads.quick_loss(net, batch)
    heads.train(net, found, 2, draw, batch=2, count=32)
    heads.train(net, found, 1, draw, batch=1, count=16, rays=8, weights={})
    camera = cameras.Camera(found.K[0], found.cam_from_world[0], (32, 32))
    heads.frontal(32)
    field = heads.encode_head(net, heads.compose(found.images, found.masks)[0], camera)
    heads.slope(field, 256, generator=draw)
    mesh, _ = heads.extract_head(field, 20)
    mesh = heads.reconstruct(net, heads.compose(found.images, found.masks)[0], camera, 20)
    heads.largest_piece(mesh)
    ball = toy.icosphere(2, 0.5)
    for dtype in (torch.float32, torch.float64):
        on = torch.nn.functional.normalize(torch.randn(300, 3, generator=draw, dtype=dtype), dim=-1)
        heads.to_samples(1.1 * on, on, on)
    heads.average([heads.evaluate(mesh, found.take(0), 50, draw)] * 2)
    heads.mean_head(found, 40, draw, 20)
    heads.fit_silhouette(ball, found.masks[0], camera, 2)
    heads.relight(mesh, toy.environment((8, 16)), size=16)
    heads.shaded(net, mesh, field.encoding.code[0])
    net.trained_on = heads.describe({"what": "toy heads", "heads": 2, "steps": 2, "size": 32, "profile": "smoke"})
    heads.warn(heads.about(net))
    with tempfile.TemporaryDirectory() as folder:
        picture = Image.new("RGBA", (80, 80))
        picture.paste((200, 150, 120, 255), (25, 10, 55, 55))
        picture.save(Path(folder) / "p.png")
        heads.prepare_photo(Path(folder) / "p.png", 32)
        heads.photo_to_mesh(Path(folder) / "p.png", net, 20, lit=True)
        heads.find_weights(Path(folder) / "p.png")
    assert meshes.area(mesh) > 0


def walk_heads_data(dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)
    head = data_heads.toy_head(draw, "test")
    points = torch.rand(4, 5, 3, generator=draw, dtype=dtype) - 0.5
    assert head.sdf(points).dtype == head.albedo(points[0, 0]).dtype == dtype
    head(points), head.project(points.reshape(-1, 3))
    surface = head.mesh(32)
    made = data_heads.make_heads(2, 16, draw, samples=(8, 12))
    data_heads.make_heads(1, 16, draw, [surface], "light", (8, 8), yaw=0.0)
    made.to(dtype).take([1])
    with tempfile.TemporaryDirectory() as folder:
        data_heads.write_heads(folder, made, 3)
        assert data_heads.read_heads(folder).images.shape == made.images.shape
    lamp = shading.Ambient(0.5)
    data_heads.photograph(surface, cameras.orbit(0.1, 0.0, 3.2, size=(16, 16)), lamp)
    if os.environ.get("DENSEBOOK_DATA"):
        data_heads.make_heads(1, 16, draw, "real", "test", (8, 8))
        data_heads.ict_head(draw, "expression")


if __name__ == "__main__":
    for dtype in (torch.float32, torch.float64):
        walk_fruxels(dtype)
        walk_generator(dtype)
        walk_pose_discriminator(dtype)
        walk_training(dtype)
        walk_networks(dtype)
        walk_heads_data(dtype)
    walk_dataset()
    walk_losses()
    walk_heads()
    print("every shape holds", file=sys.stdout)
