"""Damage to files, drawn from a generator: bytes, texts, JSON documents, and safetensors."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any

NUMBERS = [0, -1, 1, 2, 0.5, -0.0, 1e308, -1e308, 5e-324, 2**31, 2**53, 2**63, 2**64, -(2**63), 2**70, 10**400, 1e-300]
NUMBERS += [float("nan"), float("inf"), float("-inf"), 65_536, 10**6, 3.7]
TEXTS = [
    "",
    " ",
    "g",
    "m",
    "update",
    "a\nb",
    "\x1b[31mred\x1b[0m",
    "\x00",
    "\ud800",
    "\u202eevil",
    "\u0663",
    "ａ",
    "é",
    "x" * 100,
    "x" * 10_000,
    "../../etc/passwd",
    "__import__('os')",
    "{0.__class__}",
    "%s%n",
    "<script>alert(1)</script>",
    "NaN",
    "1e999",
    "closedform.rule/2",
    "constructor",
    "0" * 5000,
]
FORMULAS = [
    "9**9**9**9*g",
    "1/0*g",
    "log(0)*g",
    "g**100",
    "g**1e5",
    "(" * 60 + "g" + ")" * 60,
    "-" * 150 + "g",
    "+".join(["g"] * 500),
    "lag(g, 1000)",
    "lag(m, 64)",
    "prev(prev(g))",
    "lambda: g",
    "g if g else g",
    "g.real",
    "[g for g in g]",
    "f'{g}'",
    "g := 1",
    "tanh(g, g)",
    "tanh()",
    "clip(g, 1)",
    "mean(1)",
    "row_mean(g)*T",
    "1e308*1e308*g",
    "exp(exp(exp(9)))",
    "where(g, g, g)",
    "norm(g)/numel",
    "0x10*g",
    "1_000*g",
    "1j*g",
    "b'g'",
    "g @ g",
    "g // 2",
    "not g",
    "*g",
    "g\n",
    "\tg",
    "g#",
    "١*g",
    "9" * 5000,
    "g" * 5000,
    "max(g, w, t)",
    "e*m",
    "g" + "*tanh(g" * 90 + ")" * 90,
]
WORDS = [
    "g",
    "w",
    "t",
    "m",
    "v",
    "0.9",
    "2",
    "1e-8",
    "+",
    "-",
    "*",
    "/",
    "**",
    "(",
    ")",
    ",",
    "tanh(",
    "sqrt(",
    "prev(",
]


def spoil_bytes(rng: Random, data: bytes) -> bytes:
    """A few bytes, runs of them, or the length changed."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place, length = rng.randrange(len(out) + 1), rng.choice((1, 1, 2, 4, 8, 64))
        what = rng.randrange(7)
        if what == 0:
            del out[place:]
        elif what == 1:
            del out[place : place + length]
        elif what == 2:
            out[place:place] = rng.randbytes(length)
        elif what == 3:
            out[place:place] = out[:length]
        elif what == 4:
            out[place : place + length] = rng.choice((b"\x00", b"\xff", b"\n", b"\x7f")) * length
        elif what == 5 and place < len(out):
            out[place] ^= 1 << rng.randrange(8)
        else:
            out[place : place + length] = rng.randbytes(length)
    return bytes(out)


def spoil_text(rng: Random, text: str) -> str:
    """Tokens and characters changed."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        place = rng.randrange(len(text) + 1)
        end = place + rng.choice((0, 1, 2, 5, 40))
        new = rng.choice([*map(repr, NUMBERS), *TEXTS, "{", "}", "[", "]", '"', ",", ":", "\n", "\\", "null", "true"])
        text = text[:place] + rng.choice((new, "", text[place:end] * 3)) + text[end:]
    return text


def spoil_formula(rng: Random, text: str) -> str:
    """An expression, perhaps still one."""
    if rng.random() < 0.3:
        return rng.choice(FORMULAS)
    if rng.random() < 0.3:
        return " ".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 30)))
    place = rng.randrange(len(text) + 1)
    return text[:place] + rng.choice([*WORDS, *TEXTS]) + text[place + rng.randrange(3) :]


def spoil_value(rng: Random, value: Any) -> Any:
    """A value in place of another: of the same type, or not."""
    if rng.random() < 0.6:
        if isinstance(value, bool):
            return rng.choice((not value, 1, "true", None))
        if isinstance(value, (int, float)):
            return rng.choice([*NUMBERS, value * 10, -value, value + 1, str(value), True])
        if isinstance(value, str):
            return spoil_formula(rng, value) if rng.random() < 0.6 else rng.choice(TEXTS)
        if isinstance(value, list):
            return rng.choice(
                (value * 3, value[:-1], value[::-1], [value], [None], [*value, 0], [[]] * 10, value * 500)
            )
        if isinstance(value, dict):
            return rng.choice(([*value], {**value, rng.choice(TEXTS): 0}, {}, {str(k): k for k in range(600)}))
    deep: Any = 0
    for _ in range(rng.choice((1, 50, 90, 500))):
        deep = [deep]
    return rng.choice([*NUMBERS, *TEXTS, None, True, False, [], {}, deep, {"a": {}}, [1, "a", None]])


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON document."""
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


def spoil_document(rng: Random, document: Any) -> Any:
    """A JSON document with entries replaced, renamed, dropped, added or exchanged."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        paths = places(document)
        by_depth: dict[int, list[tuple[Any, ...]]] = {}
        for path in paths:
            by_depth.setdefault(len(path), []).append(path)
        path = rng.choice(by_depth[rng.choice([*by_depth])])  # the few places near the root as often as the many below
        if not path:
            document = spoil_value(rng, document) if rng.random() < 0.1 else document
            continue
        holder = document
        for key in path[:-1]:
            holder = holder[key]
        _spoil_entry(rng, holder, path[-1])
    return document


def _spoil_entry(rng: Random, holder: Any, key: Any) -> None:
    what = rng.randrange(8)
    if what == 0:
        del holder[key]
    elif what == 1 and isinstance(holder, dict):
        holder[rng.choice([*TEXTS, *holder])] = holder.pop(key)
    elif what == 2 and isinstance(holder, dict):
        holder[rng.choice(TEXTS)] = spoil_value(rng, holder[key])
    elif what == 3:
        other = rng.choice([*holder]) if isinstance(holder, dict) else rng.randrange(len(holder))
        holder[key], holder[other] = holder[other], holder[key]
    else:
        holder[key] = spoil_value(rng, holder[key])


def spoil_json(rng: Random, data: bytes) -> bytes:
    """A JSON file: mostly its document, else its text or its bytes."""
    draw = rng.random()
    try:
        document = json.loads(data)
    except ValueError:  # spoilt already
        return spoil_bytes(rng, data)
    if draw < 0.12:
        return spoil_bytes(rng, data)
    text = data.decode() if draw < 0.25 else dumped(spoil_document(rng, document))
    if draw < 0.3:
        text = spoil_text(rng, text)
    return text.encode("utf-8", "surrogatepass" if rng.random() < 0.5 else "replace")


def dumped(document: Any) -> str:
    """JSON text, with what only a foreign writer would write: NaN, numbers of any length, lone surrogates."""
    try:
        return json.dumps(document, ensure_ascii=False)
    except RecursionError:
        return "[" * 2000 + "]" * 2000


def spoil_lines(rng: Random, data: bytes) -> bytes:
    """A file of JSON lines: one of them spoilt, doubled, dropped, or the file cut."""
    lines = data.split(b"\n")
    for _ in range(rng.choice((1, 1, 2))):
        place = rng.randrange(len(lines))
        what = rng.randrange(5)
        if what == 0:
            lines.insert(place, lines[rng.randrange(len(lines))])
        elif what == 1 and len(lines) > 1:
            del lines[place]
        elif lines[place]:
            lines[place] = spoil_json(rng, lines[place]) if what > 2 else spoil_bytes(rng, lines[place])
    whole = b"\n".join(lines)
    return whole[: rng.randrange(len(whole) + 1)] if rng.random() < 0.15 else whole


def spoil_safetensors(rng: Random, data: bytes) -> bytes:
    """A safetensors file: its bytes, its header, the JSON texts in its header, or the numbers in its tensors."""
    draw = rng.random()
    if draw < 0.2:
        return spoil_bytes(rng, data)
    length = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    if draw < 0.4:
        body = _spoil_numbers(rng, body)
    elif draw < 0.6:
        header = spoil_document(rng, header)
    else:
        texts = header["__metadata__"]
        key = rng.choice([*texts])
        try:
            texts[key] = dumped(spoil_document(rng, json.loads(texts[key])))
        except ValueError:
            texts[key] = spoil_text(rng, texts[key])
    text = dumped(header).encode("utf-8", "replace")
    size = rng.choice(NUMBERS[:9]) if rng.random() < 0.03 else len(text)
    return struct.pack("<Q", int(abs(size)) % 2**64) + text + body


def _spoil_numbers(rng: Random, body: bytes) -> bytes:
    out = bytearray(body)
    kinds: list[Callable[[], bytes]] = [
        lambda: struct.pack("<f", rng.choice((float("nan"), float("inf"), 1e38, -1.0, 0.0))),
        lambda: struct.pack("<d", rng.choice((float("nan"), float("-inf"), 1e300, -1.0))),
        lambda: struct.pack("<q", rng.choice((-1, 2**62, -(2**63), 10**9, 5))),
    ]
    for _ in range(rng.choice((1, 1, 3))):
        new = rng.choice(kinds)()
        place = rng.randrange(max(1, len(out) // len(new))) * len(new)
        out[place : place + len(new)] = new[: max(0, len(out) - place)]
    return bytes(out)
