"""A plain Horovod script on the real digits; the lines marked (hpcsynapse) record its steps.

hpcsynapse submit --gpus 4 --launcher mpirun -- python examples/horovod_script.py
"""

import os

import horovod.torch as hvd
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from hpcsynapse.timing import StepRecorder  # (hpcsynapse)

EPOCHS = int(os.environ.get("EPOCHS", "5"))


def main() -> None:
    hvd.init()
    cuda = torch.cuda.is_available()
    if cuda:  # one device is visible to every rank, unless --pin local-rank or none
        torch.cuda.set_device(hvd.local_rank() % torch.cuda.device_count())
    device = torch.device("cuda" if cuda else "cpu")
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    data = TensorDataset(images, torch.tensor(digits.target))
    sampler = DistributedSampler(data, num_replicas=hvd.size(), rank=hvd.rank())
    loader = DataLoader(data, batch_size=32, sampler=sampler, drop_last=True)
    model = nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 36, 10)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)
    recorder = StepRecorder(strategy="allreduce", engine="horovod", model="my-cnn", batch_per_rank=32)  # (hpcsynapse)
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        for inputs, targets in recorder.batches(loader):  # (hpcsynapse)
            with recorder.step(samples=len(inputs), epoch=epoch) as step:  # (hpcsynapse)
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(inputs.to(device)), targets.to(device))
                loss.backward()
                optimizer.step()
                step.loss = loss.item()
        if hvd.rank() == 0:
            print(f"epoch {epoch}: loss {loss.item():.3f}", flush=True)
    recorder.close()
    hvd.shutdown()


if __name__ == "__main__":
    main()
