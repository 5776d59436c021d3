"""Hubs of rules: a Hugging Face repository, a folder, or a git repository, where a rule is ``user/name``.

A rule is read as text by a revision that cannot change, and parsed as any rule file is: nothing in a hub is run, and of
a repository the files ``rule.json`` and ``README.md`` alone are read or written.

    folder            HUB/user/name/rule.json; its revision is the SHA-256 of the file
    git repository    the same inside it, or a repository of its own at HUB/user/name or HUB/user/name.git
    Hugging Face      huggingface.co/user/name, through ``huggingface_hub``
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from closedform._document import shown
from closedform._files import write_text
from closedform.errors import OptionError, OutputError, RuleError
from closedform.rules._rule import MAX_BYTES

VARIABLE = "CLOSEDFORM_HUB"
"""Environment variable that names the folder or repository which is the hub."""
PREFIX = "hub:"
RULE, CARD = "rule.json", "README.md"
_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){0,95}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
_SECONDS = 60


@dataclass(frozen=True)
class Address:
    """Where a rule is.

    Attributes:
        user, name: Its place in the hub.
        revision: A commit's hash, a branch or a tag; of a folder the beginning of the file's SHA-256. None: the newest.
    """

    user: str
    name: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``user/name`` or ``user/name@revision``, with ``hub:`` before it or not.

        Raises:
            RuleError: it is none.
        """
        place, at, revision = text.removeprefix(PREFIX).partition("@")
        user, _, name = place.partition("/")
        fits = _PART.fullmatch(user) and _PART.fullmatch(name)
        if not fits or (at and (not _REVISION.fullmatch(revision) or ".." in revision)):
            raise RuleError(f"{shown(text)} is no place in a hub: write hub:user/name or hub:user/name@revision")
        return cls(user, name, revision if at else None)

    @property
    def repository(self) -> str:
        """``user/name``."""
        return f"{self.user}/{self.name}"

    def __str__(self) -> str:
        return f"{PREFIX}{self.repository}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True)
class Fetched:
    """A rule file's text, and the revision that it was read at, which cannot change."""

    text: str
    revision: str


def fetch(address: Address, hub: str | Path | None = None) -> Fetched:
    """Read a rule file from a hub.

    Args:
        address: Where it is.
        hub: A folder or git repository; by default what ``CLOSEDFORM_HUB`` names, else Hugging Face.

    Raises:
        RuleError: it cannot be had, or is too large.
    """
    place = hub or os.environ.get(VARIABLE)
    if not place:
        return _from_hugging_face(address)
    root = Path(place)
    if not root.is_dir():
        raise RuleError(f"the hub {root} is no folder; set {VARIABLE} to a folder or a git repository")
    for own in (root / address.user / address.name, root / address.user / f"{address.name}.git"):
        if (own / ".git").exists() or (own / "HEAD").is_file():
            return _from_git(address, own, RULE)
    if (root / ".git").exists() or (root / "HEAD").is_file():
        return _from_git(address, root, f"{address.repository}/{RULE}")
    return _from_folder(address, root)


def publish(address: Address, files: Mapping[str, str], hub: str | Path | None = None, *, replace: bool = False) -> str:
    """Write a rule file and its card to a hub.

    Args:
        address: Where to; its revision must be None.
        files: ``rule.json`` and ``README.md``.
        hub: As for `fetch`.
        replace: Whether another rule may be there.

    Returns:
        The new revision.

    Raises:
        OptionError: another rule is there, or the address has a revision.
        OutputError: it cannot be written.
    """
    if address.revision is not None:
        raise OptionError(f"{address} has a revision, which sharing makes: leave out what is after @")
    place = hub or os.environ.get(VARIABLE)
    if not place:
        return _to_hugging_face(address, files, replace)
    root = Path(place)
    if (root / "HEAD").is_file() and not (root / ".git").exists():
        raise OptionError(f"{root} is a bare repository: share to a clone of it, and push")
    folder = root / address.user / address.name
    _check_inside(folder, root)
    _check_free(folder / RULE, files[RULE], address, replace)
    for name, text in files.items():
        write_text(folder / name, text)
    if not (root / ".git").exists():
        return _digest(files[RULE])
    paths = [str((folder / name).relative_to(root)) for name in files]
    _git(root, "add", "--", *paths)
    if _git(root, "status", "--porcelain", "--", *paths).strip():
        _git(root, "commit", "--quiet", "--no-verify", "-m", f"Share {address.repository}", "--", *paths)
    return _git(root, "rev-parse", "HEAD").strip()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _check_inside(path: Path, root: Path) -> None:
    if not path.resolve().is_relative_to(root.resolve()):
        raise RuleError(f"{path} leads out of the hub {root}: a hub holds no links to elsewhere")


def _check_free(path: Path, text: str, address: Address, replace: bool) -> None:
    if path.exists() and not replace and path.read_text(encoding="utf-8", errors="replace") != text:
        raise OptionError(f"{address} holds another rule already: choose another name, or say --replace")


def _from_folder(address: Address, root: Path) -> Fetched:
    path = root / address.repository / RULE
    _check_inside(path, root)
    try:
        size = path.stat().st_size
        _check_size(address, size)
        text = path.read_bytes()[: MAX_BYTES + 1].decode()
    except UnicodeDecodeError:
        raise RuleError(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise RuleError(f"the hub {root} has no {address.repository}: {error.strerror or error}") from None
    digest = _digest(text)
    if address.revision and not digest.startswith(address.revision):
        raise RuleError(f"{address.repository} in {root} is at revision {digest[:12]} now, not {address.revision}")
    return Fetched(text, digest)


def _check_size(address: Address, size: int) -> None:
    if size > MAX_BYTES:
        raise RuleError(f"{RULE} of {address} has {size} bytes; the limit is {MAX_BYTES}")


def _from_git(address: Address, repository: Path, path: str) -> Fetched:
    try:
        wanted = f"{address.revision or 'HEAD'}^{{commit}}"
        revision = _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", wanted).strip()
    except OutputError:
        raise RuleError(f"{repository} has no revision {address.revision or 'HEAD'}") from None
    try:
        entry = _git(repository, "ls-tree", "-l", revision, "--", path).split()
    except OutputError as error:
        raise RuleError(str(error)) from None
    if not entry or entry[0] not in ("100644", "100755"):
        raise RuleError(f"{repository} has no file {path} at revision {revision[:12]}")
    _check_size(address, int(entry[3]))
    return Fetched(_git(repository, "cat-file", "blob", entry[2]), revision)


def _git(repository: Path, *arguments: str) -> str:
    """Run git without hooks, prompts or settings of the repository that name programs."""
    settings = ("core.hooksPath=/dev/null", "core.fsmonitor=false", "protocol.allow=never", "commit.gpgSign=false")
    command = ["git", *(part for setting in settings for part in ("-c", setting)), "-C", str(repository), *arguments]
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, env=environment, timeout=_SECONDS, check=False)
        text = done.stdout.decode()
    except FileNotFoundError:
        raise OutputError(f"{repository} is a git repository, and git is not installed") from None
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError) as error:
        raise OutputError(f"git cannot read {repository}: {error}") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise OutputError(f"git {arguments[0]} in {repository}: {said[-1][:200]}")
    return text


def _client() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise RuleError(
            f"rules of Hugging Face need huggingface_hub: pip install 'closedform[hub]'; or set {VARIABLE} to a folder"
        ) from None
    return huggingface_hub


def _from_hugging_face(address: Address) -> Fetched:
    client = _client()
    try:
        info = client.HfApi().repo_info(address.repository, revision=address.revision, files_metadata=True)
        size = next((file.size for file in info.siblings if file.rfilename == RULE), None)
    except Exception as error:  # the client raises many kinds; all mean that the file could not be had
        raise _unreachable(address, error) from None
    if size is None:
        raise RuleError(f"{address} holds no {RULE}")
    _check_size(address, size)
    try:
        path = Path(client.hf_hub_download(address.repository, RULE, revision=info.sha))
        _check_size(address, path.stat().st_size)
        return Fetched(path.read_text(encoding="utf-8"), str(info.sha))
    except RuleError:
        raise
    except Exception as error:
        raise _unreachable(address, error) from None


def _unreachable(address: Address, error: Exception) -> RuleError:
    return RuleError(f"cannot fetch {address} from Hugging Face: {_first_line(error)}")


def _to_hugging_face(address: Address, files: Mapping[str, str], replace: bool) -> str:
    client = _client()
    try:
        there = _from_hugging_face(address).text
    except RuleError:
        there = None
    if there is not None and there != files[RULE] and not replace:
        raise OptionError(f"{address} holds another rule already: choose another name, or say --replace")
    try:
        api = client.HfApi()
        api.create_repo(address.repository, exist_ok=True)
        operations = [client.CommitOperationAdd(name, text.encode()) for name, text in files.items()]
        commit = api.create_commit(address.repository, operations, commit_message=f"Share {address.name}")
    except Exception as error:
        raise OutputError(
            f"cannot share {address} on Hugging Face: {_first_line(error)}; hf auth login first"
        ) from None
    return str(commit.oid)


def _first_line(error: Exception) -> str:
    return shown((str(error).strip().splitlines() or [type(error).__name__])[0][:200])
