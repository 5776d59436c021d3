# %% [markdown]
# # Regress a table
#
# The search that distils optimizers finds equations in any table. `SymbolicRegressor` has scikit-learn's interface.

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import closedform as cf

# %% [markdown]
# A table with a law in it: the period of a pendulum with a wide swing, to second order, measured with 1 % of noise.

# %%
random = np.random.default_rng(0)
length, gravity, angle = (
    random.uniform(0.2, 3, 400),
    random.uniform(1.6, 25, 400),
    random.uniform(0, 1.2, 400),
)
period = 2 * np.pi * np.sqrt(length / gravity) * (1 + angle**2 / 16)
X = np.column_stack([length, gravity, angle])
y = period * (1 + 0.01 * random.standard_normal(400))
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)

# %%
operators = ("add", "sub", "mul", "div", "square", "sqrt")
model = cf.SymbolicRegressor(
    operators=operators, random_state=0, generations=20, time_limit=20
).fit(X_train, y_train)
print(model.equation_)
print(f"R² on the test rows: {model.score(X_test, y_test):.5f}")

# %% [markdown]
# The whole front: what a larger equation buys. One may choose another than it did.

# %%
for row in model.equations_:
    print(f"{row['complexity']:3} nodes   R² {row['r2']:.5f}   {row['equation'][:60]}")

# %%
plt.semilogy(
    [row["complexity"] for row in model.equations_],
    [1 - row["r2"] for row in model.equations_],
    "o-",
)
plt.xlabel("nodes")
plt.ylabel("held-out error, 1 - R²")
plt.show()

# %% [markdown]
# It stands in pipelines, cross-validation and grid searches as any regressor does.

# %%
small = make_pipeline(
    StandardScaler(), cf.SymbolicRegressor(random_state=0, generations=5, time_limit=10)
)
print("R² of five folds:", cross_val_score(small, X_train, y_train, cv=5).round(4))

# %%
plt.plot(y_test, model.predict(X_test), ".")
plt.plot([0, y_test.max()], [0, y_test.max()], linewidth=1)
plt.xlabel("measured")
plt.ylabel("predicted")
plt.show()
