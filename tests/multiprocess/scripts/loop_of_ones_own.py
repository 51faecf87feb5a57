"""A loop of one's own whose ranks drift apart: BroadcastEvery, and a stop at a step boundary. KIND, then a folder."""

import json
import sys
import time
from pathlib import Path

import torch

from hpcsynapse import BroadcastEvery, should_stop

KIND, FOLDER = sys.argv[1], Path(sys.argv[2])
rank = 0
if KIND == "ddp":
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
elif KIND == "horovod":
    import horovod.torch as hvd

    hvd.init()
    rank = hvd.rank()
elif KIND == "mpi":
    from mpi4py import MPI

    rank = MPI.COMM_WORLD.Get_rank()
model = torch.nn.Linear(4, 3)
with torch.no_grad():
    for parameter in model.parameters():
        parameter.fill_(1.0)
if KIND == "ddp":
    model = torch.nn.parallel.DistributedDataParallel(model)
broadcast = BroadcastEvery(model, every=3)
steps, drifts, end = 0, [], time.monotonic() + 900
while time.monotonic() < end:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * rank
    time.sleep(0.002)
    steps += 1
    drift = broadcast.step()
    if drift is not None:
        drifts.append(drift)
        assert all(bool((parameter == 1).all()) for parameter in model.parameters())
    if steps == 20:
        (FOLDER / f"at-20-{rank}").touch()
    if should_stop():
        break
assert should_stop()
(FOLDER / f"end-{rank}.json").write_text(json.dumps({"steps": steps, "drifts": drifts[:6]}))
if KIND == "ddp":
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
elif KIND == "horovod":
    hvd.shutdown()
