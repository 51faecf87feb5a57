"""The callbacks in the frameworks that they are for; prints how many steps were made. KIND, then EVERY."""

import os
import sys
from types import SimpleNamespace

import problem
import torch

from hpcsynapse.loops.callbacks import AccelerateCallback, LightningCallback, TrainerCallback

KIND, EVERY = sys.argv[1], int(sys.argv[2])


def by_lightning() -> int:
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = problem.model()

        def training_step(self, batch, _index):
            return problem.loss_of(self.model(batch[0]), batch[1])

        def validation_step(self, batch, _index):
            self.log("validation", problem.loss_of(self.model(batch[0]), batch[1]))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, accumulate_grad_batches=2,
        enable_model_summary=False, callbacks=[LightningCallback(EVERY)],
        default_root_dir=os.environ["HPCSYNAPSE_RUN_DIR"],
    )  # fmt: skip  # a long call
    trainer.fit(Module(), problem.loader(), problem.loader(shuffle=False))
    return trainer.global_step


def by_accelerate() -> int:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    model, made = problem.model(), 0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model, optimizer, loader = accelerator.prepare(model, optimizer, problem.loader())
    callback = AccelerateCallback(accelerator, EVERY)
    for inputs, targets in loader:
        with accelerator.accumulate(model):
            loss = problem.loss_of(model(inputs), targets)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        made += accelerator.sync_gradients
        if callback.step(model, samples=len(inputs), loss=loss):
            break
    callback.close()
    return made


def by_trainer() -> int:
    """Calls what the Trainer of Hugging Face calls, with what it calls it with."""
    callback, model, made = TrainerCallback(EVERY), problem.model(), 0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    args = SimpleNamespace(per_device_train_batch_size=problem.BATCH, gradient_accumulation_steps=2)
    state, control = SimpleNamespace(epoch=0.0), SimpleNamespace(should_save=False, should_training_stop=False)

    def tell(event: str) -> None:
        assert getattr(callback, event)(args, state, control, model=model, optimizer=optimizer) is None

    tell("on_init_end")
    tell("on_train_begin")
    batches = iter(problem.loader())
    while not control.should_training_stop and (pair := [batch for _, batch in zip(range(2), batches, strict=False)]):
        tell("on_step_begin")
        for inputs, targets in pair:
            problem.loss_of(model(inputs), targets).backward()
            tell("on_substep_end")
        optimizer.step()
        optimizer.zero_grad()
        made += 1
        tell("on_step_end")
    assert control.should_save == control.should_training_stop
    tell("on_train_end")
    return made


print("made", {"lightning": by_lightning, "accelerate": by_accelerate, "trainer": by_trainer}[KIND]())
