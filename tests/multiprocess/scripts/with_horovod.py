"""Horovod's DistributedOptimizer."""

import horovod.torch as hvd
import problem
import stopwatch
import torch
from torch.utils.data.distributed import DistributedSampler

hvd.init()
model = problem.model()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())
hvd.broadcast_parameters(model.state_dict(), root_rank=0)
hvd.broadcast_optimizer_state(optimizer, root_rank=0)
sampler = DistributedSampler(problem.data(), num_replicas=hvd.size(), rank=hvd.rank())
for _epoch in range(problem.EPOCHS):
    for inputs, targets in problem.loader(shuffle=False, sampler=sampler):
        optimizer.zero_grad()
        problem.loss_of(model(inputs), targets).backward()
        optimizer.step()
        stopwatch.step(len(inputs))
hvd.shutdown()
