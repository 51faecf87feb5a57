"""Gives a process the variables that hpcsynapse gives to every rank, whatever started it, and becomes the program."""

import os
import sys

rank = next(
    os.environ[name] for name in ("RANK", "OMPI_COMM_WORLD_RANK", "HOROVOD_RANK") if os.environ.get(name, "") != ""
)
os.environ.update(RANK=rank, LOCAL_RANK=rank)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
