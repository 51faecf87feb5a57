"""A disk that takes SLOW_FSYNC seconds to keep a file, for every Python that has this folder on its PYTHONPATH."""

import os
import time

_fsync = os.fsync


def slow(descriptor):
    time.sleep(float(os.environ["SLOW_FSYNC"]))
    _fsync(descriptor)


os.fsync = slow
