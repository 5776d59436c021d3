# %% [markdown]
# # Switch a training script to a rule
#
# A small script trains a network on images of digits with Adam. One line changes: the optimizer. What comes after it,
# the loop, the data and the evaluation, stays as it is.

# %%
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

import closedform as cf

images, labels = (torch.as_tensor(values) for values in load_digits(return_X_y=True))
images = images.float() / 16
train, test = slice(0, 1400), slice(1400, None)

# %% [markdown]
# The script, with the optimizer left open. It is given a function that makes one of the model's parameters.

# %%
STEPS = 300


def fit(make_optimizer):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = make_optimizer(model.parameters())
    losses = []
    for _ in range(STEPS):
        batch = torch.randint(0, 1400, (64,))
        loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    right = (model(images[test]).argmax(1) == labels[test]).float().mean()
    return losses, right.item()


# %% [markdown]
# Before: `torch.optim.Adam`. After: the same algorithm as a rule, and `cf1`, which has no learning rate to choose but
# is told how many steps there will be.

# %%
optimizers = {
    "torch.optim.Adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
    "rule adam": lambda parameters: cf.RuleOptimizer(parameters, "adam", lr=1e-3),
    "rule cf1": lambda parameters: cf.RuleOptimizer(
        parameters, "cf1", total_steps=STEPS
    ),
}
results = {name: fit(make) for name, make in optimizers.items()}
for name, (losses, accuracy) in results.items():
    print(
        f"{name:17} last 20 losses {sum(losses[-20:]) / 20:.4f}   test accuracy {accuracy:.3f}"
    )

# %% [markdown]
# Adam and its rule draw one curve: they are one algorithm. Nothing was tuned here, neither for Adam nor for `cf1`;
# [fair comparisons](../results/reproduce_unseen.md) tune what `cf1` is compared with.

# %%
styles = {"torch.optim.Adam": "-", "rule adam": ":", "rule cf1": "-"}
for name, (losses, _) in results.items():
    means = torch.tensor(losses).unfold(0, 10, 10).mean(1)
    plt.semilogy(range(5, STEPS, 10), means, styles[name], label=name, linewidth=2)
plt.xlabel("step")
plt.ylabel("training loss, means of 10")
plt.legend()
plt.show()
