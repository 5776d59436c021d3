"""Compiling and caching: damaged entries, folders that cannot be used, compilers that are missing or fail."""

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from closedform import _files
from closedform.codegen import _build as _native_build
from closedform.codegen._build import NativeUnavailable, cache_folder, find_compiler, load

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


@pytest.mark.parametrize("place", ["", "..", "library"])
@pytest.mark.parametrize("by", ["owner", "mode"])
def test_what_another_user_owns_or_could_write_is_not_loaded(
    cache: Path, place: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = f"{SOURCE} // {place} {by}"
    cache.mkdir(parents=True)
    for folder in (cache.parent, cache):
        folder.chmod(0o700)
    entry = cache / _native_build._key(source, find_compiler())
    _native_build._compile(entry, source.replace("42", "13"), find_compiler())  # whole, and not what we would compile
    entry.chmod(0o644)
    assert _native_build._is_whole(entry)
    suspect = entry if place == "library" else (cache / place).resolve()
    if by == "mode":
        suspect.chmod(0o775)
    else:
        _owned_by_another(suspect, monkeypatch)
    assert load(source).answer() == 42


def _owned_by_another(suspect: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only root could give it away."""
    real = Path.stat

    def stat(path: Path, **options: bool) -> os.stat_result:
        found = real(path, **options)
        return os.stat_result([*found[:4], found[4] + 1, *found[5:10]]) if path == suspect else found

    monkeypatch.setattr(Path, "stat", stat)


LOADS = "import sys; from closedform.codegen._build import load; print(load(sys.argv[1]).answer())"


def test_processes_that_compile_at_once_all_get_it(cache: Path) -> None:
    run = [sys.executable, "-c", LOADS, f"{SOURCE} // at once"]
    processes = [subprocess.Popen(run, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate(timeout=250)[0] for process in processes] == ["42\n"] * 3
    [entry] = cache.iterdir()
    assert _native_build._is_whole(entry)


@pytest.mark.parametrize("home", [None, "", "/nowhere/at/all", "relative"])
def test_a_home_that_is_unset_or_not_there(home: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    if home is None:  # and nobody by our number
        monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)
    else:
        monkeypatch.setenv("HOME", home)
    monkeypatch.chdir(tmp_path)
    assert cache_folder() is None
    assert load(f"{SOURCE} // home {home}").answer() == 42
    assert list(tmp_path.iterdir()) == []
    assert not Path("/nowhere").exists()


def test_a_home_that_can_only_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.mkdir

    def mkdir(path: Path, *rest: int, **settings: bool) -> None:  # what a read-only file system says, to root too
        if tmp_path in path.parents:
            raise OSError(30, "Read-only file system")
        real(path, *rest, **settings)

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert cache_folder() is None
    assert load(f"{SOURCE} // read-only").answer() == 42
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_became_read_only_is_passed_over(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mkstemp(dir: Path, **rest: str) -> tuple[int, str]:
        if dir == cache:
            raise OSError(30, "Read-only file system")
        return real(dir=dir, **rest)

    real = _files.tempfile.mkstemp
    monkeypatch.setattr(_files.tempfile, "mkstemp", mkstemp)
    assert load(f"{SOURCE} // became read-only").answer() == 42
    assert list(cache.iterdir()) == []


def test_a_cache_mounted_noexec_is_passed_over(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, tried = ctypes.CDLL, []

    def loaded(name: str) -> ctypes.CDLL:  # the loader's words
        tried.append(Path(name))
        if cache in Path(name).parents:
            raise OSError(f"{name}: failed to map segment from shared object")
        return real(name)

    monkeypatch.setattr(ctypes, "CDLL", loaded)
    assert load(f"{SOURCE} // noexec").answer() == 42
    assert [cache in path.parents for path in tried] == [True, False]
    monkeypatch.setattr(_native_build, "_temporary_folder", lambda: cache)
    with pytest.raises(NativeUnavailable, match="cannot be written or loaded"):
        load(f"{SOURCE} // noexec")


def _entries(cache: Path, ages: dict[str, float], size: int = 100) -> None:
    cache.mkdir(parents=True, mode=0o700)
    for name, days in ages.items():
        (cache / f"{name}.so").write_bytes(b"x" * size)
        os.utime(cache / f"{name}.so", (time.time() - days * 86_400,) * 2)


def test_objects_not_used_for_long_are_removed(cache: Path) -> None:
    _entries(cache, {"old": 91, "young": 89})
    (cache / "other.txt").write_text("not ours to remove")
    cache.parent.chmod(0o700)
    source = f"{SOURCE} // by age"
    load(source)
    entry = cache / _native_build._key(source, find_compiler())
    assert {path.name for path in cache.iterdir()} == {"young.so", "other.txt", entry.name}
    os.utime(entry, (0, 0))
    load(source)
    assert entry.stat().st_mtime > 0  # used, and so as good as new


def test_the_oldest_objects_past_the_size_are_removed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _entries(cache, {"oldest": 3, "older": 2, "new": 1}, size=2**20)
    monkeypatch.setattr(_native_build, "MAX_MEGABYTES", 2.5)
    kept = cache / "kept.so"
    kept.write_bytes(b"x")
    _native_build._prune(cache, keep=kept)
    assert {path.stem for path in cache.iterdir()} == {"older", "new", "kept"}
