"""SSZ: frustum voxel models (fruxels), and one picture to a semantic voxel model."""
