# %% [markdown]
# # Tune a rule, online or ahead
#
# A rule's constants are parameters too. `MetaTuner` moves them while a network trains. `meta_tune` follows gradients
# through windows of many trainings; `evolve` compares whole ones. Here all move Adam's constants on one small task.

# %%
import matplotlib.pyplot as plt
import torch

import closedform as cf
from closedform.meta_training import ForwardAccumulation

task = cf.tasks.get("mlp-digits")
adam = cf.load_rule("adam")


def told(rule):
    constants = {"lr": rule.lr, **rule.constants}
    return ", ".join(f"{name} {value:.4g}" for name, value in constants.items())


print(told(adam))

# %% [markdown]
# Online: the tuner's step takes the place of the optimizer's. The rate begins a hundred times too small.

# %%
inputs, labels = task.full("train")
model = torch.nn.Sequential(
    torch.nn.Linear(inputs.shape[1], 32), torch.nn.Tanh(), torch.nn.Linear(32, 10)
)
optimizer = cf.RuleOptimizer(model.parameters(), adam, lr=1e-5)
tuner, rates = cf.MetaTuner(optimizer, trainable=["lr"]), []
for _ in range(400):
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(inputs), labels)
    loss.backward()
    tuner.step()
    rates.append(tuner.constants["lr"])
print(f"loss {loss.item():.4f}")
plt.semilogy(rates)
plt.xlabel("step")
plt.ylabel("learning rate")
plt.show()

# %% [markdown]
# Ahead, by gradients: forward accumulation carries the derivative of every parameter by every constant along, which costs a
# few vectors, whatever the length of the episode.

# %%
config = cf.MetaTrainConfig(steps=100, horizon=200, lr=0.1, warmup=5)
tuned = cf.meta_tune(adam, [task], estimator=ForwardAccumulation(20), config=config)
print(told(tuned))

# %% [markdown]
# Ahead, by evolution: candidates train the task from the same starts, and CMA-ES moves towards those that end low.

# %%
options = {
    "generations": 20,
    "population": 10,
    "episodes": 2,
    "tasks": 1,
    "validate_every": 5,
}
evolved = cf.evolve(adam, [task], trainable=("lr", "beta1", "beta2"), **options)
print(told(evolved))

# %% [markdown]
# On the half of the data that neither has seen, beside Adam with a tuned learning rate. A rule that was tuned for one
# task is good at that task; for a rule for many, tune it on many (`cf.TaskDistribution`).

# %%
rules = {"as it was": adam, "meta-tuned": tuned, "evolved": evolved}
found = cf.evaluate(rules, [task], seeds=3, baselines=["adam"], workers=1)
for entry in sorted(found.on("mlp-digits"), key=lambda entry: entry.final_loss.rank):
    print(f"{entry.label:10} lr {entry.lr:<7.3g} loss {entry.final_loss.mean:.4f}")
