"""The sampler: one light process a node that records its load beside the ranks, and cannot harm them."""
