"""A model trained in a subspace: which weights move, how they are written, how their gradients are folded."""
