"""From a data set to scores: sources, columns, batches, and metrics."""
