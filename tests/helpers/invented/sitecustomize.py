"""The row of the invented queue, for every Python that has this folder on its PYTHONPATH."""

from invented_queue import ROW

from hpcsynapse.spec.names import QUEUES

QUEUES["invented"] = ROW
