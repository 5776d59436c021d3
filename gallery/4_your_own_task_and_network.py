# %% [markdown]
# # Write your own task and learned optimizer
#
# A task is a torch module and its data. A learned optimizer is a pure function from gradient, parameter and state to an
# update, whose weights are meta-trained. Both are a few lines.

# %%
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import make_moons
from torch import nn

import closedform as cf

# %% [markdown]
# The task: two interleaved half moons, and a perceptron that tells them apart. There are three splits of the data; the
# optimizer is meta-trained on the first and judged on the second.

# %%
data = {}
for seed, split in enumerate(cf.tasks.SPLITS):
    points, labels = make_moons(300, noise=0.15, random_state=seed)
    data[split] = torch.as_tensor(points).float(), torch.as_tensor(labels)


def perceptron():
    return nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))


task = cf.tasks.ModuleTask("moons", perceptron, data)

# %% [markdown]
# The optimizer: a tiny perceptron reads two normalised averages of the gradient, RNNprop's m~ and g~, and prints the
# update. What it remembers is in its state, and nothing anywhere else. Its last layer starts at zero: it stands still.


# %%
class Tiny(cf.LearnedOptimizer):
    name, features, state_cost = "tiny", ("m_tilde", "g_tilde"), 2

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
        nn.init.zeros_(self.net[2].weight)
        nn.init.zeros_(self.net[2].bias)

    def init_state(self, w, sizes=None, total_steps=None):
        return {"t": torch.zeros(()), "m": 0 * w, "v": 0 * w}

    def bind(self):
        def update(g, w, state):
            t = state["t"] + 1
            m, v = 0.95 * state["m"] + 0.05 * g, 0.95 * state["v"] + 0.05 * g**2
            scale, bias = (v / (1 - 0.95**t)).sqrt() + 1e-8, 1 - 0.95**t
            inputs = torch.stack([m / bias / scale, g / scale], -1)
            return 0.1 * self.net(inputs).squeeze(-1), {"t": t, "m": m, "v": v}

        return update


# %% [markdown]
# Meta-training, by truncated back-propagation through windows of the task's own training. Then both at work, beside
# Adam with a tuned learning rate.

# %%
torch.manual_seed(0)
optimizer = Tiny()
config = cf.MetaTrainConfig(steps=200, horizon=100, lr=1e-2, warmup=10, side_by_side=4)
cf.meta_train(optimizer, [task], config=config)
entrants = {"tiny": optimizer, "untrained": Tiny()}
found = cf.evaluate(entrants, [task], steps=100, seeds=5, baselines=["adam"], workers=1)
for entry in found.on("moons"):
    print(f"{entry.label:10} final loss {entry.final_loss.mean:.3f}")
    plt.plot(entry.curve.steps, entry.curve.mean, label=entry.label)
plt.xlabel("step")
plt.ylabel("training loss")
plt.legend()
plt.show()
