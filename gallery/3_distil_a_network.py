# %% [markdown]
# # Distil a learned optimizer
#
# `rp-si` is a small recurrent network that prints updates; its weights ship with the package. Here it is recorded at
# work and written down as an equation, which is then tried in its place.

# %%
import matplotlib.pyplot as plt

import closedform as cf
from closedform import learned_optimizers

network = learned_optimizers.get("rp-si", pretrained=True)
print(f"{network.state_cost} buffers a parameter; reads {', '.join(network.features)}")

# %% [markdown]
# Record whole episodes: what it read and what it did.

# %%
recording = cf.record(
    network, "mlp-digits", steps=100, episodes=8, coordinates=24, samples=4000
)

# %% [markdown]
# Distil. A hall of fame is a front: the smaller an equation, the larger its error. It takes a minute by default; here
# genetic programming gets a few seconds, after the quick stages.

# %%
hall = cf.distill(recording, time_limit=15, generations=5, seed=0)
for entry in hall.entries:
    price = f"{entry.complexity:3} nodes, {entry.state_cost} buffers"
    print(f"{price}, R² {1 - entry.error:.3f}   {entry.equation[:52]}")

# %%
plt.semilogy([e.complexity for e in hall.entries], [e.error for e in hall.entries], "o")
chosen = hall.choose()
ring = {"markersize": 14, "fillstyle": "none", "label": "chosen"}
plt.semilogy([chosen.complexity], [chosen.error], "o", **ring)
plt.xlabel("nodes of the equation")
plt.ylabel("held-out error, 1 - R²")
plt.legend()
plt.show()

# %% [markdown]
# The choice is by description length: what an equation costs to write down, and its errors with it. It is a rule like
# any other, with two or three buffers a parameter where the network has many.

# %%
rule = chosen.rule
print(rule.state_cost, "buffers")
print(*cf.explain(rule).equations, sep="\n")

# %% [markdown]
# What matters in the end is not fidelity but how it trains, on data that neither has seen. SGD's rate is tuned.

# %%
entrants = {"network": network, "rule": rule}
found = cf.evaluate(entrants, ["mlp-digits"], seeds=3, baselines=["sgd"], workers=1)
for entry in found.on("mlp-digits"):
    print(f"{entry.label:8} final loss {entry.final_loss.mean:.4f}")
