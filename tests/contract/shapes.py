"""The shapes in the signatures hold: one walk through each chapter with every call checked by jaxtyping and beartype.

Run by test_shapes.py in a process of its own: the hook must stand before densebook is imported, and the other tests, which
hand over wrong shapes on purpose, must meet the library's own errors.
"""

import math
import sys

import torch
from jaxtyping import install_import_hook

CHAPTERS = ["densebook.geometry", "densebook.render", "densebook.registration", "densebook.don", "densebook.se3"]
with install_import_hook(CHAPTERS, "tower.check"):
    from densebook.data import caps, categories, toy
    from densebook.don import correspondences, dense_object_nets, grasping, keypoints, metrics
    from densebook.geometry import marching_cubes, mesh, octree, poses, sdf, sphere_tracing
    from densebook.registration import cpd, render_and_compare, shape_space
    from densebook.render import cameras, differentiable, rasterizer, shading
    from densebook.se3 import landmarks, representations, se3_transformer, se3_unet


def walk_geometry(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(4, 5, 3, generator=generator, dtype=dtype)
    xi = torch.randn(4, 6, generator=generator, dtype=dtype)

    T = poses.exp(xi)
    poses.log(poses.interpolate(T, poses.inverse(T), 0.5))
    poses.kabsch(points, poses.transform(T, points))

    shape = sdf.SmoothUnion(sdf.Box((0.5, 0.4, 0.3)), sdf.Transform(sdf.Torus(0.6, 0.15), T[0].float()), k=0.1)
    painted = sdf.Colored(shape, (0.8, 0.2, 0.1))
    painted(points), sdf.color(painted, points), sdf.normals(painted, points), sdf.lipschitz(painted, points)
    bounds = torch.tensor([[-1.2] * 3, [1.2] * 3], dtype=dtype)

    surface, _ = octree.extract(painted, bounds, 32, normals=True, colors=True)
    octree.estimate_lipschitz(shape, bounds, generator=generator)
    field = torch.randn(9, 8, 7, generator=generator, dtype=dtype)
    marching_cubes.marching_cubes(field, level=0.1, spacing=(0.1, 0.2, 0.3), origin=1.0)
    marching_cubes.marching_squares(field[0])

    origins, directions = sphere_tracing.pinhole_rays((16, 24), math.pi / 4, eye=torch.tensor([2.0, 1.0, 3.0], dtype=dtype))
    hits = sphere_tracing.trace(painted, origins, directions)
    sphere_tracing.trace(painted, origins, directions, surface="back")
    sphere_tracing.march(painted, origins, directions, far=5.0)
    sphere_tracing.to_srgb(sphere_tracing.shade(painted, hits, light=(1.0, 2.0, 3.0)))

    blob = toy.blob_mesh(2).to(dtype)
    mesh.vertex_normals(blob), mesh.face_normals(blob), mesh.volume(blob), mesh.sample_surface(blob, 10, generator=generator)
    distance = sdf.MeshSDF(blob)
    distance(points), distance.closest(points)
    assert surface.vertices.dtype == dtype and hits.mask.any()


def walk_render(dtype: torch.dtype) -> None:
    scene, sky = toy.scene().to(dtype), toy.environment((16, 32)).to(dtype)
    camera = cameras.orbit(0.5, 0.4, 4.0, size=(24, 32)).to(dtype)
    assert camera.rays()[1].dtype == dtype
    uv, depth = camera.project(scene.vertices)
    camera.resized((12, 16)).unproject(uv, depth)
    cameras.from_opengl(*cameras.to_opengl(camera), camera.size)
    cameras.from_opencv(*cameras.to_opencv(camera), camera.size)
    cameras.from_pytorch3d(**cameras.to_pytorch3d(camera))
    cameras.from_blender(**cameras.to_blender(camera))
    cameras.tone_map(cameras.sample_environment(sky, cameras.uv_to_directions(torch.rand(4, 2, dtype=dtype))))

    fragments = rasterizer.rasterize(scene, camera, backend="torch")
    rasterizer.normals(scene, fragments), rasterizer.objects(scene, fragments)
    rasterizer.interpolate(fragments, (scene.faces, scene.vertices))
    rasterizer.perspective_barycentrics(scene, camera, fragments.face)

    seen = fragments.mask
    albedo = shading.albedo(scene, fragments.face[seen], fragments.barycentrics[seen])
    normals = rasterizer.normals(scene, fragments)[seen]
    lights = (shading.Environment(sky), shading.Ambient(0.1), shading.Directional((1.0, 2.0, 3.0), 0.5), shading.Point((1.0, 2.0, 3.0), 0.5))
    shading.shade(albedo, normals, normals, camera.center, lights, specular=0.2)
    shading.irradiance(shading.sh_project(sky), normals)
    shading.prefilter(sky, 16.0), shading.extract_lamps(sky), shading.mip_pyramid(sky)

    vertices = scene.vertices.clone().requires_grad_()
    image = differentiable.render(mesh.replace(scene, vertices=vertices), camera, lights=lights, backend="torch", background=0.2)
    (image.color.sum() + image.mask.sum() + image.depth.sum() + image.normal.sum()).backward()
    assert image.color.dtype == dtype and vertices.grad.isfinite().all()


def walk_registration(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(30, 3, generator=generator, dtype=dtype)
    target = source[:25] * 1.1 + 0.1
    for kind in cpd.KINDS:
        cpd.register(source, target, kind).displace(target)
    cpd.register(source, target, rank=10, max_iterations=3)
    cpd.expectation(source, target, 0.5, 0.1)

    made = [i.mesh for i in categories.instances("bottle", "toy", 8, dtype)][:4]
    space = shape_space.ShapeSpace.fit(made[0], made[1:], latents=2, points=40, generator=generator)
    shape_space.surface_error(space.mesh(space.encode(made[1].vertices)), made[1], 50, generator)
    shape_space.fit_points(space, categories.points(made[1], 30, generator), pose=True)

    camera = render_and_compare.viewpoint(made[1], generator, (24, 24))
    shot = render_and_compare.snapshot(made[1], camera, generator)
    net = render_and_compare.SegmentationUNet(2, width=4).to(dtype)
    render_and_compare.feature_loss(render_and_compare.feature_map(net, shot.color), render_and_compare.feature_map(net, shot.color))
    found = render_and_compare.fit(space, shot.mask, camera, steps=2, pose=True)
    assert found.z.dtype == dtype and space.decode(found.z).shape == made[0].vertices.shape


def walk_don(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    made = caps.toy_caps(2).to(dtype)
    views = caps.render_views(made, 4, size=(48, 64), generator=generator).to(dtype)
    uv = correspondences.sample_mask(views.mask[0], 20, generator).to(dtype)
    correspondences.match_depth(uv, views.depth[0], views.camera(0), views.camera(1), views.depth[1])
    correspondences.augment(views.rgb[0], views.mask[0], generator)
    found = correspondences.pairs(views, 2, 12, made, generator)

    net = dense_object_nets.DenseObjectNet(dim=4).to(dtype)
    dense_object_nets.train_loss(net, views.rgb, found).backward()
    predicted = dense_object_nets.predict(net, views, found)
    metrics.pck(predicted, found.uv_b, 3.0), metrics.pck_auc(predicted, found.uv_b), metrics.summary(predicted, found.uv_b)

    logits = torch.randn(2, 3, 6, 8, generator=generator, dtype=dtype)
    for moments in keypoints.MOMENTS:
        points = keypoints.expectation(logits, logits.exp(), (48, 64), views.mask[:2], moments)
    space = keypoints.lift(points.uv, points.depth, views.K[:2, None])
    keypoints.multi_view_consistency(space[0], space[1], torch.eye(4, dtype=dtype)), keypoints.separation(points.uv)

    features = net(views.rgb[:1])[0].detach()
    heat = grasping.heatmap(features[:, 5, 5], features)
    grasping.locate(grasping.squared_distances(features[:, 5, 5], features))
    assert heat.dtype == dtype
    grasping.pinch_grasp(views.depth[0], uv[0], views.camera(0))


def walk_se3(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(40, 3, generator=generator, dtype=dtype)
    batch = torch.arange(2).repeat_interleave(20)
    R = representations.random_rotation(generator=generator).to(dtype)
    features = {0: torch.randn(40, 2, 1, generator=generator, dtype=dtype), 1: torch.randn(40, 1, 3, generator=generator, dtype=dtype)}
    representations.rotate(features, R), representations.clebsch_gordan(1, 1, 2)
    representations.spherical_harmonics(2, representations.from_type1(representations.to_type1(points)))

    edge_index = se3_transformer.knn_graph(se3_transformer.center(points, batch), 6, batch)
    for backend in ("torch", "plain"):
        net = se3_transformer.SE3Transformer({0: 2, 1: 1}, {0: 2, 1: 2}, {0: 3, 1: 1}, backend=backend).to(dtype)
        sum(f.square().sum() for f in net(points, features, edge_index).values()).backward()
    for kind in ("1x1", "attentive"):
        se3_transformer.SelfInteraction({0: 2, 1: 1}, {0: 2, 1: 2}, kind).to(dtype)(features)

    se3_unet.farthest_points(points, 8, batch)
    logits = se3_unet.SE3UNet(landmarks=5, k=6).to(dtype)(points, batch)
    targets = landmarks.heatmaps(points, points[:5])
    assert logits.dtype == dtype and landmarks.iou(logits.sigmoid(), targets, 0.2).isfinite().all()
    landmarks.expected_positions(points, targets), landmarks.adaptive_wing(logits.sigmoid(), targets).backward()
    landmarks.icp(points, points @ R.mT, torch.eye(4, dtype=dtype))


if __name__ == "__main__":
    for dtype in (torch.float32, torch.float64):
        walk_geometry(dtype)
        walk_render(dtype)
        walk_registration(dtype)
        walk_don(dtype)
        walk_se3(dtype)
    print("every shape holds", file=sys.stdout)
