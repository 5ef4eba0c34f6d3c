"""A book that runs: dense 3-D vision in literate notebooks, executed as tests

Modules:

- `densebook.book.bench`: Benchmarks: implementations side by side in one process, one thread, process CPU time, medians; ratios are what counts.
- `densebook.book.benches.mesh_sdf`: Distance to a mesh: the tree in torch against libigl, Open3D and trimesh. Exact first, then fast.
- `densebook.book.site`: The site: notebooks with their committed outputs and an API reference, as static pages that ask nothing of the network.
- `densebook.core.records`: Records: what one run of a notebook measured, with everything needed to trust the figure.
- `densebook.data.registry`: Real data by name: found in the data folder, downloaded from its public source, its sha256 verified.
- `densebook.geometry.bvh`: A bounding volume hierarchy over triangles in plain torch: nearest points and winding numbers, batched, on any device.
- `densebook.geometry.mesh_files`: Mesh files: strict readers for OBJ, PLY, GLB, glTF and STL, and writers for OBJ, PLY and GLB.
- `densebook.testing`: Checks that notebooks and tests share: close with a useful message, gradients, equivariance, seeds."""

__version__ = "0.1.0"
