"""Records the steps of a PyTorch program that knows nothing of hpcsynapse, from inside its own Python.

The rank's first process puts `site/` in front of PYTHONPATH; `site/sitecustomize.py` loads this package from its files
under a name of its own, since the program's Python need not have hpcsynapse. So all here needs the standard library
alone, runs on any Python from 3.8, imports nothing of hpcsynapse, and never imports torch: it waits for the program to.
"""
