"""Deformable registration from one picture: coherent point drift, a latent shape space, render-and-compare."""
