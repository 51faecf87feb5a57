"""Studies: one description, run at every point of a grid of nodes, ranks, strategies, engines, models and batches."""
