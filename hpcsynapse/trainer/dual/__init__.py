"""One network cut in two and trained on two ranks that exchange activations and targets; see strategies/admm.py."""
