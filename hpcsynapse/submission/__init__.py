"""The login node: from a description to a job in a queue, and what became of it."""
