"""Gradients of three batches a step, in mixed precision with a scaler; the third step has none, as it overflowed."""

import problem
import stopwatch
import torch

PARTS = 3
model = problem.model()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
samples = number = 0
for _epoch in range(3 * problem.EPOCHS):
    for inputs, targets in problem.loader(drop_last=True):
        number += 1
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = problem.loss_of(model(inputs), targets) / PARTS
        scaler.scale(loss).backward()
        if number == 3 * PARTS:
            model[1].weight.grad[0, 0] = float("inf")
        samples += len(inputs)
        if number % PARTS == 0:
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            if number != 3 * PARTS:
                stopwatch.step(samples)
                samples = 0
