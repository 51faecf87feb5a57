"""A loop as the Trainer of Hugging Face has it: dictionaries, a step's batches fetched at once, train() every time."""

from itertools import islice

import problem
import stopwatch
import torch

PARTS = 2


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = problem.model()

    def forward(self, features, labels):
        logits = self.body(features)
        return {"loss": problem.loss_of(logits, labels), "logits": logits}


def collate(rows):
    return {"features": torch.stack([row[0] for row in rows]), "labels": torch.stack([row[1] for row in rows])}


class Trainer:
    def __init__(self, model, loader):
        self.model, self.loader = model, loader
        self.optimizer = torch.optim.AdamW(model.parameters())
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda _step: 1.0)

    def training_step(self, batch):
        self.model.train()
        loss = self.model(**batch)["loss"] / PARTS
        loss.backward()

    def train(self):
        for _epoch in range(2 * problem.EPOCHS):
            batches = iter(self.loader)
            while fetched := list(islice(batches, PARTS)):
                for batch in fetched:
                    self.training_step(batch)
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                self.optimizer.step()
                self.scheduler.step()
                self.optimizer.zero_grad()
                stopwatch.step(sum(len(batch["labels"]) for batch in fetched))


Trainer(Model(), problem.loader(collate_fn=collate)).train()
