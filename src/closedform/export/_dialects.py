"""How torch, numpy and jax.numpy write the operators of the rule language: one row an operator."""

from __future__ import annotations

from closedform.export._printer import Dialect

_TORCH_UNARY = "sign sqrt square exp log tanh sinh asinh erf erfc relu mean".split()
_ARRAY_UNARY = "sign sqrt square exp log tanh sinh mean".split()

_TORCH_HELPERS = {
    "scalar": '''def scalar(value):
    """A number as a tensor, which follows IEEE arithmetic where Python raises."""
    return torch.as_tensor(value, dtype=torch.float64)
''',
    "greater": '''def greater(x, y):
    """1 where x > y, else 0."""
    return (x > y).to(torch.result_type(x, y))
''',
    "spow": '''def spow(x, y):
    """The power y of |x|, with the sign of x."""
    return torch.sign(x) * torch.abs(x) ** y
''',
    "rms": '''def rms(x):
    """Root of the mean square over the tensor."""
    return torch.sqrt(torch.mean(torch.square(x)))
''',
    "norm": '''def norm(x):
    """Euclidean norm of the tensor."""
    return torch.sqrt(torch.sum(torch.square(x)))
''',
    "row_mean": '''def row_mean(x):
    """Mean over each row of the tensor as a matrix [shape[0], rest]."""
    return x.mean(tuple(range(1, x.dim())), keepdim=True) if x.dim() > 1 else x
''',
    "col_mean": '''def col_mean(x):
    """Mean over each column of the tensor as a matrix [shape[0], rest]."""
    return x.mean(0, keepdim=True) if x.dim() > 0 else x
''',
    "row_zeros": '''def row_zeros(x):
    """A zero for each row of the tensor as a matrix."""
    return x.new_zeros([n if i == 0 else 1 for i, n in enumerate(x.shape)])
''',
    "col_zeros": '''def col_zeros(x):
    """A zero for each column of the tensor as a matrix."""
    return x.new_zeros([1 if i == 0 else n for i, n in enumerate(x.shape)])
''',
    "orthogonalise": '''def orthogonalise(x):
    """Newton-Schulz: the matrix [shape[0], rest] with singular values near 1."""
    if x.dim() < 2:
        return x
    y = x.reshape(x.shape[0], x.shape[1:].numel())
    tall = y.shape[0] > y.shape[1]
    y = y.mT if tall else y
    y = y / (torch.linalg.vector_norm(y) + 1e-7)
    for _ in range(5):
        z = y @ y.mT
        y = 3.4445 * y + (-4.775 * z + 2.0315 * (z @ z)) @ y
    return (y.mT if tall else y).reshape(x.shape)
''',
}


def _torch_smaller(plain: tuple[bool, ...]) -> str:
    return _clamped("max", "minimum", plain)


def _torch_larger(plain: tuple[bool, ...]) -> str:
    return _clamped("min", "maximum", plain)


def _clamped(bound: str, function: str, plain: tuple[bool, ...]) -> str:
    """torch.minimum takes tensors only; torch.clamp takes a number as its bound."""
    if plain[1]:
        return f"torch.clamp({{0:a}}, {bound}={{1}})"
    return f"torch.clamp({{1}}, {bound}={{0}})" if plain[0] else f"torch.{function}({{0}}, {{1}})"


def _torch_clip(plain: tuple[bool, ...]) -> str:
    if plain[1] and plain[2]:
        return "torch.clamp({0:a}, {1}, {2})"
    return "torch.minimum(torch.maximum({0:a}, {1:a}), {2:a})"


def _torch_where(plain: tuple[bool, ...]) -> str:
    return f"torch.where({{0:a}} != 0, {'{1:a}' if plain[2] else '{1}'}, {{2}})"


def _torch_where_greater(plain: tuple[bool, ...]) -> str:
    left = "{0:a}" if plain[1] else "{0}"
    return f"torch.where({left} > {{1}}, {'{2:a}' if plain[3] else '{2}'}, {{3}})"


_MATRIX_CALLS = {name: f"{name}({{0}})" for name in ("row_mean", "col_mean", "orthogonalise")}

TORCH = Dialect(
    {name: f"torch.{name}({{0:a}})" for name in _TORCH_UNARY}
    | {
        "abs": "abs({0})",
        "min": _torch_smaller,
        "max": _torch_larger,
        "clip": _torch_clip,
        "greater": lambda plain: "greater({0:a}, {1})" if plain[1] else "greater({0}, {1})",
        "where": _torch_where,
        "where_greater": _torch_where_greater,
        "spow": "spow({0:a}, {1})",
        "ssqrt": "torch.sqrt(abs({0:a}))",
        "slog": "torch.log(abs({0:a}) + 1e-08)",
        "rms": "rms({0:a})",
        "norm": "norm({0:a})",
        **_MATRIX_CALLS,
    },
    _TORCH_HELPERS,
    "scalar({0})",
)


def _array_helpers(xp: str) -> dict[str, str]:
    return {
        "spow": f'''def spow(x, y):
    """The power y of |x|, with the sign of x."""
    return {xp}.sign(x) * {xp}.abs(x) ** y
''',
        "rms": f'''def rms(x):
    """Root of the mean square over the array."""
    return {xp}.sqrt({xp}.mean({xp}.square(x)))
''',
        "norm": f'''def norm(x):
    """Euclidean norm of the array."""
    return {xp}.sqrt({xp}.sum({xp}.square(x)))
''',
        "row_mean": f'''def row_mean(x):
    """Mean over each row of the array as a matrix [shape[0], rest]."""
    return {xp}.mean(x, tuple(range(1, x.ndim)), keepdims=True) if x.ndim > 1 else x
''',
        "col_mean": f'''def col_mean(x):
    """Mean over each column of the array as a matrix [shape[0], rest]."""
    return {xp}.mean(x, 0, keepdims=True) if x.ndim > 0 else x
''',
        "row_zeros": f'''def row_zeros(x):
    """A zero for each row of the array as a matrix."""
    return {xp}.zeros([n if i == 0 else 1 for i, n in enumerate(x.shape)], x.dtype)
''',
        "col_zeros": f'''def col_zeros(x):
    """A zero for each column of the array as a matrix."""
    return {xp}.zeros([1 if i == 0 else n for i, n in enumerate(x.shape)], x.dtype)
''',
        "orthogonalise": f'''def orthogonalise(x):
    """Newton-Schulz: the matrix [shape[0], rest] with singular values near 1."""
    if x.ndim < 2:
        return x
    y = x.reshape(x.shape[0], math.prod(x.shape[1:]))
    tall = y.shape[0] > y.shape[1]
    y = y.T if tall else y
    y = y / ({xp}.sqrt({xp}.sum({xp}.square(y))) + 1e-7)
    for _ in range(5):
        z = y @ y.T
        y = 3.4445 * y + (-4.775 * z + 2.0315 * (z @ z)) @ y
    return (y.T if tall else y).reshape(x.shape)
''',
    }


def _array_calls(xp: str) -> dict[str, str]:
    return {name: f"{xp}.{name}({{0}})" for name in _ARRAY_UNARY} | {
        "abs": "abs({0})",
        "asinh": f"{xp}.arcsinh({{0}})",
        "relu": f"{xp}.maximum({{0}}, 0.0)",
        "min": f"{xp}.minimum({{0}}, {{1}})",
        "max": f"{xp}.maximum({{0}}, {{1}})",
        "clip": f"{xp}.minimum({xp}.maximum({{0}}, {{1}}), {{2}})",
        "greater": f"{xp}.where({{0}} > {{1}}, 1.0, 0.0)",
        "where": f"{xp}.where({{0}} != 0, {{1}}, {{2}})",
        "where_greater": f"{xp}.where({{0}} > {{1}}, {{2}}, {{3}})",
        "spow": "spow({0:a}, {1})",
        "ssqrt": f"{xp}.sqrt(abs({{0}}))",
        "slog": f"{xp}.log(abs({{0}}) + 1e-08)",
        "rms": "rms({0})",
        "norm": "norm({0})",
        **_MATRIX_CALLS,
    }


_NUMPY_HELPERS = _array_helpers("np") | {
    "erf": '''def erf(x):
    """The error function of every element."""
    return np.vectorize(math.erf, otypes=[np.float64])(x)
''',
    "erfc": '''def erfc(x):
    """1 - erf of every element."""
    return np.vectorize(math.erfc, otypes=[np.float64])(x)
''',
}

NUMPY = Dialect(
    {**_array_calls("np"), "erf": "erf({0})", "erfc": "erfc({0})"},
    _NUMPY_HELPERS,
    "np.float64({0})",
)

JAX = Dialect(
    {**_array_calls("jnp"), "erf": "jax.lax.erf({0:a})", "erfc": "jax.lax.erfc({0:a})"},
    _array_helpers("jnp"),
    "jnp.asarray({0}, float)",
)
