"""A plain loop with a validation and a checkpoint after every epoch, and loader processes."""

import os
import tempfile

import problem
import stopwatch
import torch

model = problem.model()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
train, test = problem.loader(num_workers=1), problem.loader(batch_size=50, shuffle=False)
for _epoch in range(problem.EPOCHS):
    model.train()
    for inputs, targets in train:
        optimizer.zero_grad()
        loss = problem.loss_of(model(inputs), targets)
        loss.backward()
        optimizer.step()
        stopwatch.step(len(inputs))
    model.eval()
    with torch.no_grad():
        for inputs, _targets in test:
            model(inputs)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(model, os.path.join(folder, "model.pt"))  # noqa: PTH118
        torch.load(os.path.join(folder, "model.pt"), weights_only=False)  # noqa: PTH118
