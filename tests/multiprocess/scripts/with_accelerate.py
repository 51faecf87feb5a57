"""Accelerate, which takes one batch ahead."""

import problem
import stopwatch
import torch
from accelerate import Accelerator

accelerator = Accelerator(cpu=True, gradient_accumulation_steps=1)
model = problem.model()
model, optimizer, loader = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1), problem.loader())
for _epoch in range(problem.EPOCHS):
    for inputs, targets in loader:
        with accelerator.accumulate(model):
            loss = problem.loss_of(model(inputs), targets)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        stopwatch.step(len(inputs))
