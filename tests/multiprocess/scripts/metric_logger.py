"""As the reference scripts of torchvision: a MetricLogger around the loader, images in a tuple, frozen norms."""

import time
from collections import defaultdict

import problem
import stopwatch
import torch


class MetricLogger:
    def __init__(self):
        self.meters = defaultdict(list)

    def update(self, **values):
        for name, value in values.items():
            self.meters[name].append(float(value))

    def log_every(self, iterable, every):
        for number, item in enumerate(iterable):
            begin = time.time()
            yield item
            self.meters["time"].append(time.time() - begin)
            if number % every == 0:
                print({name: sum(values) / len(values) for name, values in self.meters.items()}, len(iterable))


def train_one_epoch(model, optimizer, loader):
    model.train()
    logger = MetricLogger()
    for images, targets in logger.log_every(loader, 5):
        model[2].eval()  # the norm stays as it was
        loss = problem.loss_of(model(torch.stack(images)), torch.stack(targets))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        stopwatch.step(len(images))
        logger.update(loss=loss.item(), lr=optimizer.param_groups[0]["lr"])


@torch.inference_mode()
def evaluate(model, loader):
    model.eval()
    for images, _targets in MetricLogger().log_every(loader, 100):
        model(torch.stack(images))


model = problem.model()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
loader = problem.loader(collate_fn=lambda rows: tuple(zip(*rows, strict=True)))
for _epoch in range(problem.EPOCHS):
    train_one_epoch(model, optimizer, loader)
    evaluate(model, loader)
