"""Two networks, two optimizers, three backward passes for every batch."""

import problem
import stopwatch
import torch
from torch import nn

critic, maker = nn.Sequential(problem.Slow(), nn.Linear(8, 1)), nn.Sequential(nn.Linear(4, 8))
critic_optimizer, maker_optimizer = torch.optim.Adam(critic.parameters()), torch.optim.Adam(maker.parameters())
loss_of = nn.functional.binary_cross_entropy_with_logits
for _epoch in range(problem.EPOCHS):
    for real, _label in problem.loader():
        ones, zeros = torch.ones(len(real), 1), torch.zeros(len(real), 1)
        critic_optimizer.zero_grad()
        loss_of(critic(real), ones).backward()
        fake = maker(torch.randn(len(real), 4))
        loss_of(critic(fake.detach()), zeros).backward()
        critic_optimizer.step()
        maker_optimizer.zero_grad()
        loss_of(critic(fake), ones).backward()
        maker_optimizer.step()
        stopwatch.step(len(real))
