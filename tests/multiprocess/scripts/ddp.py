"""DistributedDataParallel as its tutorial has it."""

import problem
import stopwatch
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data.distributed import DistributedSampler

dist.init_process_group("gloo")
model = DistributedDataParallel(problem.model())
optimizer = torch.optim.Adam(model.parameters())
sampler = DistributedSampler(problem.data())
loader = problem.loader(shuffle=False, sampler=sampler)
for epoch in range(problem.EPOCHS):
    sampler.set_epoch(epoch)
    for inputs, targets in loader:
        loss = problem.loss_of(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        stopwatch.step(len(inputs))
dist.barrier()
dist.destroy_process_group()
