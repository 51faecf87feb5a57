"""A Lightning script on the real digits; it is told the number of nodes and of ranks on each by the environment.

hpcsynapse submit --nodes 2 --gpus 4 --pin local-rank -- python examples/lightning_script.py
"""

import os

import lightning
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

EPOCHS = int(os.environ.get("EPOCHS", "5"))


class Classifier(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 36, 10))

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        inputs, targets = batch
        self.last = nn.functional.cross_entropy(self.net(inputs), targets)
        return self.last

    def on_train_epoch_end(self) -> None:
        if self.trainer.is_global_zero:
            print(f"epoch {self.current_epoch}: loss {self.last.item():.3f}, {self.trainer.world_size} processes")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def main() -> None:
    lightning.seed_everything(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    loader = DataLoader(TensorDataset(images, torch.tensor(digits.target)), batch_size=32, shuffle=True)
    trainer = lightning.Trainer(
        accelerator="auto",
        strategy="ddp",
        max_epochs=EPOCHS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_nodes=int(os.environ.get("HPCSYNAPSE_NODES", "1")),
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
    )
    trainer.fit(Classifier(), loader)
    if torch.distributed.is_initialized():  # gloo may abort a process that ends with its connections open
        trainer.strategy.barrier()
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
