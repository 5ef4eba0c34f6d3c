"""A book that runs: dense 3-D vision in literate notebooks, executed as tests

Modules:

- `densebook.book.bench`: Benchmarks: implementations side by side in one process, one thread, process CPU time, medians; ratios are what counts.
- `densebook.book.benches.cpd`: Non-rigid coherent point drift: ours beside pycpd, probreg, rustcpd, cpd-pytorch and biocpd, as far as they are installed.
- `densebook.book.benches.descriptors`: Dense Object Nets: memory and time of a training step over the descriptor's length D, three ways to the same kind of loss.
- `densebook.book.benches.mesh_sdf`: Distance to a mesh: the tree in torch against libigl, Open3D and trimesh. Exact first, then fast.
- `densebook.book.benches.rasterizer`: Rendering forward and backward against the number of vertices (the paper's Figure 3), and what OpenGL's channels cost.
- `densebook.book.benches.sampling`: Farthest point sampling: ours beside the plain loop, and beside fpsample, Open3D and PyTorch3D when they are installed.
- `densebook.book.benches.se3_transformer`: SE(3)-Transformer: time and peak memory of two attention blocks, forward and backward, beside the packages that do the same.
- `densebook.book.site`: The site: notebooks with their committed outputs and an API reference, as static pages that ask nothing of the network.
- `densebook.core.checkpoints`: Checkpoints as safetensors: any nest of tensors and plain values, and a Lightning trainer that keeps its state so.
- `densebook.core.records`: Records: what one run of a notebook measured, with everything needed to trust the figure.
- `densebook.data.caps`: Caps and their pictures: procedural ones with exact correspondences, real ones, rendered views, and the files of both.
- `densebook.data.categories`: Object categories of the registration chapter: aligned instances, two of each held out, as closed meshes of even triangles.
- `densebook.data.faces`: Faces as point clouds with 68 landmarks: the ICT face model, a procedural toy, FaceScape's meshes and the author's files.
- `densebook.data.heads`: Coloured heads and their pictures: procedural ones with an exact surface, and files of pictures with samples around them.
- `densebook.data.makehuman`: MakeHuman's head (CC0): one base mesh, its targets for age, sex, ancestry, detail and expression, its skins.
- `densebook.data.registry`: Real data by name: found in the data folder, downloaded from its public source, its sha256 verified.
- `densebook.data.shards`: What the scripts that make data share: work in shards over processes, a note for each, resumed after any stop, checked by sha256.
- `densebook.data.streets`: Streets of the SSZ chapter: objects of nine classes around a camera at eye height, toy or real, and files of image and fruxels.
- `densebook.geometry.bvh`: A bounding volume hierarchy over triangles in plain torch: nearest points and winding numbers, batched, on any device.
- `densebook.geometry.mesh_files`: Mesh files: strict readers for OBJ, PLY, GLB, glTF and STL, and writers for OBJ, PLY and GLB.
- `densebook.geometry.mesh_gltf`: GLB and glTF 2.0, read and written: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html.
- `densebook.geometry.mesh_obj`: OBJ and MTL, read and written: positions, texture coordinates, vertex colours, materials and their pictures.
- `densebook.render.opengl`: Rasterising with OpenGL through moderngl: the mechanism behind `rasterize(..., backend="opengl")`.
- `densebook.testing`: Checks that notebooks and tests share: close with a useful message, gradients, equivariance, seeds.
- `densebook.viz.heatmap`: A page on which a mouse over one picture shows where its descriptor lies in another: Eq. 8, computed in the reader's browser."""

__version__ = "0.1.0"
