"""Rendering: cameras, a rasteriser, gradients that reach silhouettes, textures and light."""
