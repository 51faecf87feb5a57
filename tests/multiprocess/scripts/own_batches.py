"""Batches cut by hand, no loader; an optimizer with a closure."""

import problem
import stopwatch
import torch

inputs, targets = problem.data().tensors
model = problem.model()
optimizer = torch.optim.Adam(model.parameters())
for _epoch in range(problem.EPOCHS):
    for order in torch.randperm(len(inputs)).split(problem.BATCH):

        def closure(order=order):
            optimizer.zero_grad()
            loss = problem.loss_of(model(inputs[order]), targets[order])
            loss.backward()
            return loss

        optimizer.step(closure)
        stopwatch.step(len(order))
    model.eval()
    with torch.no_grad():
        model(inputs)
    model.train()
