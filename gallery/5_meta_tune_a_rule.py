# %% [markdown]
# # Meta-tune a rule
#
# A rule's constants are parameters too. `meta_tune` follows gradients through windows of training; `evolve` compares
# whole episodes and so sees where they end. Here both move Adam's constants on one small task.

# %%
import matplotlib.pyplot as plt

import closedform as cf
from closedform.meta_training import ForwardAccumulation

task = cf.tasks.get("mlp-digits")
adam = cf.load_rule("adam")


def told(rule):
    constants = {"lr": rule.lr, **rule.constants}
    return ", ".join(f"{name} {value:.4g}" for name, value in constants.items())


print(told(adam))

# %% [markdown]
# By gradients: forward accumulation carries the derivative of every parameter by every constant along, which costs a
# few vectors, whatever the length of the episode.

# %%
config = cf.MetaTrainConfig(steps=100, horizon=200, lr=0.1, warmup=5)
tuned = cf.meta_tune(adam, [task], estimator=ForwardAccumulation(20), config=config)
print(told(tuned))

# %% [markdown]
# By evolution: candidates train the task from the same starts, and CMA-ES moves towards those that end low.

# %%
scores = []
evolved = cf.evolve(
    adam,
    [task],
    trainable=("lr", "beta1", "beta2"),
    generations=20,
    population=10,
    episodes=2,
    tasks=1,
    validate_every=5,
    on_record=lambda record: scores.append(record["score"]),
)
print(told(evolved))

# %%
plt.plot(range(1, 1 + len(scores)), scores, "o-")
plt.axhline(0, color="grey", linestyle=":")
plt.xlabel("generation")
plt.ylabel("score (0: AdamW, tuned)")
plt.show()

# %% [markdown]
# On the half of the data that neither has seen, beside Adam with a tuned learning rate. A rule that was tuned for one
# task is good at that task; for a rule for many, tune it on many (`cf.TaskDistribution`).

# %%
rules = {"as it was": adam, "meta-tuned": tuned, "evolved": evolved}
found = cf.evaluate(rules, [task], seeds=3, baselines=["adam"], workers=1)
for entry in sorted(found.on("mlp-digits"), key=lambda entry: entry.final_loss.rank):
    print(f"{entry.label:10} lr {entry.lr:<7.3g} loss {entry.final_loss.mean:.4f}")
