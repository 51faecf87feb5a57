"""Inside the allocation: what job scripts call, standard library only."""
