"""Marching cubes side by side: grid to shared-vertex mesh, with the open or doubled edges counted."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np

from densebook.book.bench import interleave
from densebook.core import optional


def run(full: bool, say: Callable[[str], None]) -> list[dict]:
    """A ball and a bumpy ball at 128^3 and 256^3 (64^3 when not `full`), and integer noise for the edges; see `interleave`."""
    rows = []
    for size in (128, 256) if full else (64,):
        for name in ("sphere", "bumpy"):
            rows += _case(f"{name} {size}^3", _ball(size, 0.08 if name == "bumpy" else 0.0), 5, say)
    rows += _case("integer noise 40^3", _noise(40), 3, say)
    return rows


def _case(case: str, field, repeats: int, say: Callable[[str], None]) -> list[dict]:
    extract, mesh_of = {}, {}
    for name, make in MAKERS.items():
        try:
            extract[name], mesh_of[name] = make(field)
        except ImportError as error:
            say(f"{case}: {error}: row left out")
    times = interleave(extract, repeats=repeats)
    rows = []
    for name, seconds in times.items():
        vertices, faces = mesh_of[name](extract[name]())
        bad = bad_edges(faces)
        row = {"case": case, "implementation": name, "cpu_seconds": seconds, "ratio": seconds / times["densebook"]}
        rows.append(row | {"vertices": vertices, "faces": len(faces), "bad_edges": bad, "watertight": bad == 0})
        say(f"{case}: {name} {1000 * seconds:.1f} ms, {rows[-1]['ratio']:.2f}x, {bad} bad edges")
    return rows


def bad_edges(faces: np.ndarray) -> int:
    """Edges that are not used exactly once in each direction."""
    import torch

    from densebook.geometry.marching_cubes import edge_counts

    _, forward, backward = edge_counts(torch.as_tensor(np.array(faces, dtype=np.int64)))
    return int(((forward != 1) | (backward != 1)).sum())


def _ball(size: int, bump: float):
    import torch

    axis = torch.linspace(-1.2, 1.2, size)
    x, y, z = axis[:, None, None], axis[None, :, None], axis[None, None, :]
    return (x * x + y * y + z * z).sqrt() - 0.85 + bump * (12 * x).sin() * (12 * y).sin() * (12 * z).sin()


def _noise(size: int):
    import torch

    noise = torch.randint(-3, 4, (size - 2,) * 3, generator=torch.Generator().manual_seed(0)).float()
    return torch.nn.functional.pad(noise, (1,) * 6, value=1.0)


# Each gives (extract, mesh_of): what is timed, and how its result is read as (number of vertices, faces).


def _densebook(field):
    from densebook.geometry.marching_cubes import marching_cubes

    return lambda: marching_cubes(field), lambda mesh: (len(mesh.vertices), mesh.faces.numpy())


def _skimage(field):
    from skimage import measure

    values = field.numpy()
    return lambda: measure.marching_cubes(values, 0.0), lambda result: (len(result[0]), result[1])


def _mcubes(field):
    mcubes = optional.require("mcubes")
    values = field.numpy()
    return lambda: mcubes.marching_cubes(values, 0.0), lambda result: (len(result[0]), result[1])


def _vtk(field):
    optional.require("vtk")
    core, filters = (importlib.import_module(f"vtkmodules.{name}") for name in ("vtkCommonCore", "vtkFiltersCore"))
    model, support = (importlib.import_module(f"vtkmodules.{name}") for name in ("vtkCommonDataModel", "util.numpy_support"))
    core.vtkSMPTools.Initialize(1)  # one thread, as everybody here
    values = np.ascontiguousarray(field.numpy()).reshape(-1)  # kept alive by the closure; axes swapped, which costs nothing
    image = model.vtkImageData()
    image.SetDimensions(*field.shape[::-1])
    image.GetPointData().SetScalars(support.numpy_to_vtk(values))

    def extract():
        _ = values
        edges = filters.vtkFlyingEdges3D()
        edges.SetInputData(image)
        edges.SetValue(0, 0.0)
        edges.ComputeNormalsOff()
        edges.ComputeGradientsOff()
        edges.ComputeScalarsOff()
        edges.Update()
        return edges.GetOutput()

    def mesh_of(output):
        faces = support.vtk_to_numpy(output.GetPolys().GetConnectivityArray()).reshape(-1, 3)
        return output.GetNumberOfPoints(), faces

    return extract, mesh_of


def _pytorch3d(field):
    optional.require("pytorch3d")
    marching_cubes = importlib.import_module("pytorch3d.ops.marching_cubes").marching_cubes
    batch = field[None]
    return lambda: marching_cubes(batch, 0.0), lambda result: (len(result[0][0]), result[1][0].numpy())


def _igl(field):
    igl = optional.require("igl")
    values = field.numpy().astype(np.float64).ravel()
    nx, ny, nz = field.shape
    x, y, z = np.meshgrid(np.arange(nx), np.arange(ny), np.arange(nz), indexing="ij")
    points = np.stack([x, y, z], axis=-1).reshape(-1, 3).astype(np.float64)
    return lambda: igl.marching_cubes(values, points, nz, ny, nx, 0.0), lambda result: (len(result[0]), result[1])


MAKERS = {
    "densebook": _densebook,
    "scikit-image": _skimage,
    "PyMCubes": _mcubes,
    "VTK FlyingEdges3D": _vtk,
    "PyTorch3D": _pytorch3d,
    "libigl": _igl,
}
