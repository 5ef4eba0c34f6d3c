"""PHORHUM on heads: one picture to a coloured, relightable head."""
