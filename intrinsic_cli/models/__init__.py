"""Pre-trained models: found, checked, loaded, with a fresh head."""
