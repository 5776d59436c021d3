"""Compiling and caching: damaged entries, folders that cannot be used, compilers that are missing or fail."""

import ctypes
import os
import sys
from pathlib import Path

import pytest

from closedform.optim import _native_build
from closedform.optim._native_build import NativeUnavailable, cache_folder, find_compiler, load

SOURCE = "int answer(void) { return 42; }"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    return tmp_path / "closedform" / "native"


def refuse_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr(_native_build, "_run_compiler", refuse)


def test_compiled_once_and_found_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(SOURCE).answer() == 42
    [entry] = cache.iterdir()
    assert cache.stat().st_mode & 0o777 == 0o700
    refuse_to_compile(monkeypatch)
    assert load(SOURCE).answer() == 42
    with pytest.raises(AssertionError, match="compiled again"):
        load(SOURCE + "\n")
    assert list(cache.iterdir()) == [entry]


@pytest.mark.parametrize("damage", [b"", b"not an object", None], ids=["empty", "garbage", "truncated"])
def test_a_damaged_entry_is_compiled_again(cache: Path, damage: bytes | None) -> None:
    source = f"{SOURCE} /* {damage!r} */"  # its own entry: a loaded object must not be written over
    cache.mkdir(parents=True, mode=0o700)
    entry = cache / _native_build._key(source, find_compiler())
    _native_build._compile(entry, source, find_compiler())
    whole = entry.read_bytes()
    entry.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert load(source).answer() == 42
    assert entry.read_bytes()[-32:] != damage


def test_another_compiler_or_flag_is_another_entry(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = find_compiler()
    name = _native_build._key(SOURCE, compiler)
    assert _native_build._key(SOURCE, _native_build.Compiler(compiler.command, "newer")) != name
    monkeypatch.setattr(_native_build, "FLAGS", [*_native_build.FLAGS, "-g"])
    assert _native_build._key(SOURCE, compiler) != name


def test_a_cache_that_is_a_file_or_open_to_others_is_not_used(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    assert cache_folder() is None
    assert load(SOURCE).answer() == 42
    assert list(cache.iterdir()) == []
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    assert cache_folder() is None
    assert load(SOURCE).answer() == 42


def test_a_full_cache_is_passed_over(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = _native_build.write_atomically

    def full(path: Path, write) -> None:
        if path.parent == cache:
            raise _native_build.OutputError("no space left")
        real(path, write)

    monkeypatch.setattr(_native_build, "write_atomically", full)
    assert load(f"{SOURCE} // full").answer() == 42
    assert list(cache.iterdir()) == []


def test_no_compiler(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NativeUnavailable, match="there is no C compiler"):
        load(SOURCE)
    monkeypatch.setenv("CC", "my-cc --fast")
    with pytest.raises(NativeUnavailable, match=r"\$CC names 'my-cc --fast', which is not there"):
        load(SOURCE)


def test_a_failing_compiler(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(NativeUnavailable, match=r"failed \(.*error: "):
        load("int answer(void) { return }")
    assert list(cache.iterdir()) == []
    broken = tmp_path / "broken"
    broken.write_text("#!/nowhere/sh\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    with pytest.raises(NativeUnavailable, match="does not run"):
        load(SOURCE)
    broken.write_text("#!/bin/sh\nsleep 60\n")
    monkeypatch.setattr(_native_build, "PATIENCE", 0.2)
    with pytest.raises(NativeUnavailable, match="took more than"):
        load(SOURCE)


def test_other_systems_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(NativeUnavailable, match="made for Linux, not win32"):
        load(SOURCE)


def test_loading_leaves_denormals_alone(cache: Path) -> None:
    """-ffast-math would have linked code that flushes them in the whole process."""
    load(f"{SOURCE} // denormals")
    assert 5e-324 * 1.0 != 0
    tiny = ctypes.c_float(1e-45).value
    assert tiny * 1.0 > 0


def test_compiler_of_the_environment(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_compiler().command[0]
    monkeypatch.setenv("CC", f"{found} -DANSWER=7")
    assert load("int answer(void) { return ANSWER; }").answer() == 7
    assert os.environ["CC"] in " ".join(find_compiler().command)
