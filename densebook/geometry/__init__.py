"""Chapter 1: poses, signed distance functions, marching cubes, octree extraction, sphere tracing."""
