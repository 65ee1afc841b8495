"""Generalization bounds of finished runs, from the bits that describe θ."""
