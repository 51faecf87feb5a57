"""What is asked for: the description of a run and where its settings come from."""
