"""A plain DistributedDataParallel script on the real digits; the lines marked (hpcsynapse) record its steps.

hpcsynapse submit --gpus 4 -- python examples/ddp_script.py
"""

import os

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from hpcsynapse.timing import StepRecorder  # (hpcsynapse)

EPOCHS = int(os.environ.get("EPOCHS", "5"))


def main() -> None:
    cuda = torch.cuda.is_available()
    if cuda:  # one device is visible to every rank, unless --pin local-rank or none
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    device = torch.device("cuda" if cuda else "cpu")
    dist.init_process_group("nccl" if cuda else "gloo")  # from RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    data = TensorDataset(images, torch.tensor(digits.target))
    sampler = DistributedSampler(data)
    loader = DataLoader(data, batch_size=32, sampler=sampler, drop_last=True)
    model = nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 36, 10)).to(device)
    model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    recorder = StepRecorder(strategy="allreduce", engine="ddp", model="my-cnn", batch_per_rank=32)  # (hpcsynapse)
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        for inputs, targets in recorder.batches(loader):  # (hpcsynapse)
            with recorder.step(samples=len(inputs), epoch=epoch) as step:  # (hpcsynapse)
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(inputs.to(device)), targets.to(device))
                loss.backward()
                optimizer.step()
                step.loss = loss.item()
        if dist.get_rank() == 0:
            print(f"epoch {epoch}: loss {loss.item():.3f}", flush=True)
    recorder.close()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
