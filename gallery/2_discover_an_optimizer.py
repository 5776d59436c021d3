# %% [markdown]
# # Discover what an optimizer does
#
# An optimizer can be read from outside: it is run on a task and recorded, and the recording is held against every rule
# of the library, with their constants refitted. The optimizer may come from anywhere that Python can import.

# %%
import matplotlib.pyplot as plt
import torch

import closedform as cf
from closedform.analysis import nearest, perception, portrait
from closedform.learned_optimizers import BlackBox, black_box

# %% [markdown]
# By dotted path: torch's AdamW, with constants of our own that nobody tells the analysis.

# %%
adamw = black_box("torch.optim:AdamW", lr=3e-3, betas=(0.8, 0.99), weight_decay=0.05)
recording = cf.record(adamw, "mlp-digits", steps=80, episodes=4, coordinates=24)
found = nearest(recording)
print(found.sentence)

# %% [markdown]
# One that nobody has published: the sign of a momentum, whose step shrinks as it goes.


# %%
class Mystery(torch.optim.Optimizer):
    def __init__(self, params):
        super().__init__(params, {})

    @torch.no_grad()
    def step(self, closure=None):
        for parameter in self.param_groups[0]["params"]:
            state = self.state[parameter]
            momentum = state.setdefault("m", torch.zeros_like(parameter))
            state["t"] = state.get("t", 0) + 1
            momentum.mul_(0.9).add_(parameter.grad)
            parameter.sub_(0.01 * momentum.sign() / state["t"] ** 0.5)


mystery = BlackBox(Mystery, "mystery")
unlike = nearest(cf.record(mystery, "mlp-digits", steps=80, episodes=4, coordinates=24))
print(unlike.sentence)

# %% [markdown]
# The best known rules for it, each with what it explains of the held-out updates.

# %%
for match in unlike.matches[:4]:
    print(f"{match.rule.name:12} R² {match.r2:.3f}")
print(*portrait(mystery).sentences()[:4], sep="\n")

# %% [markdown]
# How far back an optimizer looks: the size of the derivative of an update by the gradient so many steps ago. Adam's two
# memories are 10 and 1,000 steps long; only the first one shows in the answer to a single gradient.

# %%
for name in ("adam", "rmsprop", "nesterov", "ademamix"):
    field = perception(name).gradient
    print(f"{name:9} looks back {field.told} steps")
    plt.semilogy(
        [value / max(field.sensitivity) for value in field.sensitivity[:40]],
        label=name,
        linewidth=2,
    )
plt.ylim(1e-3, 1.5)
plt.xlabel("steps ago")
plt.ylabel("sensitivity, largest is 1")
plt.legend()
plt.show()
