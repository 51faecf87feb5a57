"""A LightningModule and its Trainer, with validation."""

import lightning
import problem
import stopwatch
import torch


class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = problem.model()

    def training_step(self, batch, _index):
        inputs, targets = batch
        loss = problem.loss_of(self.model(inputs), targets)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, _index):
        self.log("validation", problem.loss_of(self.model(batch[0]), batch[1]))

    def on_train_batch_end(self, _outputs, batch, _index):
        stopwatch.step(len(batch[0]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


trainer = lightning.Trainer(
    max_epochs=problem.EPOCHS,
    accelerator="cpu",
    devices=1,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(Module(), problem.loader(), problem.loader(shuffle=False))
