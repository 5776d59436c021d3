"""Hubs: folders, git repositories, Hugging Face; what is read is a revision, and nothing but text."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import create_autospec

import pytest
from typer.testing import CliRunner

import closedform as cf
from closedform.cli import app
from closedform.errors import OptionError, OutputError, RuleError
from closedform.rules import Address

RUNNER = CliRunner()
LION, ADAM = cf.load_rule("lion"), cf.load_rule("adam")


def git(folder: Path, *arguments: str) -> str:
    settings = ("user.name=A", "user.email=a@example.org", "init.defaultBranch=main")
    command = ["git", *(part for one in settings for part in ("-c", one)), "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "A")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "a@example.org")


def same(found: cf.Rule, rule: cf.Rule) -> bool:
    return (found.name, found.program, found.lr) == (rule.name, rule.program, rule.lr)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hub:ann/lion", ("ann", "lion", None)),
        ("ann/li-on.2@v1.0", ("ann", "li-on.2", "v1.0")),
        ("hub:a/b@" + "0" * 40, ("a", "b", "0" * 40)),
    ],
)
def test_addresses(text: str, parts: tuple[str, str, str | None]) -> None:
    found = Address.parse(text)
    assert (found.user, found.name, found.revision) == parts
    assert str(found).removeprefix("hub:") == text.removeprefix("hub:")


@pytest.mark.parametrize(
    "text",
    [
        *("hub:", "hub:a", "hub:/b", "hub:a/", "hub:../b", "hub:a/..", "hub:a/b/c", "hub:.a/b", "hub:a/b c"),
        *("hub:a/b\n", "hub:a/x..y", f"hub:{'a' * 200}/b", "hub:a/b@", "hub:a/b@-x", "hub:a/b@x..y", "hub:a/b@x y"),
    ],
)
def test_what_is_no_address_is_refused_in_a_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(RuleError, match="is no place in a hub") as caught:
        cf.load_rule(text, hub=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_is_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = cf.share_rule(LION, "ann/lion", hub=tmp_path)
    text = (tmp_path / "ann/lion/rule.json").read_text()
    assert text == LION.to_json()
    assert address == f"hub:ann/lion@{hashlib.sha256(text.encode()).hexdigest()}"
    monkeypatch.setenv("CLOSEDFORM_HUB", str(tmp_path))
    for source in ("hub:ann/lion", address, address[: address.index("@") + 9]):
        found = cf.load_rule(source)
        assert same(found, LION)
        assert found.provenance == {**LION.provenance, "hub": address}
    assert cf.share_rule(LION, "ann/lion") == address
    with pytest.raises(RuleError, match="is at revision"):
        cf.load_rule("hub:ann/lion@0000")
    with pytest.raises(RuleError, match="has no bob/lion"):
        cf.load_rule("hub:bob/lion")


def test_another_rule_is_not_written_over_unless_asked(tmp_path: Path) -> None:
    first = cf.share_rule(LION, "ann/mine", hub=tmp_path)
    with pytest.raises(OptionError, match="holds another rule already"):
        cf.share_rule(ADAM, "ann/mine", hub=tmp_path)
    assert same(cf.load_rule(first, hub=tmp_path), LION)
    assert cf.share_rule(ADAM, "ann/mine", hub=tmp_path, replace=True) != first
    with pytest.raises(OptionError, match="which sharing makes"):
        cf.share_rule(ADAM, "ann/mine@1", hub=tmp_path)


@pytest.mark.parametrize("own", [False, True], ids=["one repository", "a repository a rule"])
def test_git_repositories_keep_every_revision(own: bool, tmp_path: Path, identity: None) -> None:
    if own:
        repository, path = tmp_path / "ann/mine", "rule.json"
    else:
        repository, path = tmp_path, "ann/mine/rule.json"
    (repository / path).parent.mkdir(parents=True, exist_ok=True)
    git(repository, "init", "--quiet")
    hashes = []
    for rule in (LION, ADAM):
        (repository / path).write_text(rule.to_json())
        git(repository, "add", path)
        git(repository, "commit", "--quiet", "-m", rule.name)
        hashes.append(git(repository, "rev-parse", "HEAD"))
    git(repository, "tag", "v1", hashes[0])
    (repository / path).write_text("what is not committed does not count")
    assert same(cf.load_rule("hub:ann/mine", hub=tmp_path), ADAM)
    for revision in ("v1", hashes[0], hashes[0][:10]):
        found = cf.load_rule(f"hub:ann/mine@{revision}", hub=tmp_path)
        assert same(found, LION)
        assert found.provenance["hub"] == f"hub:ann/mine@{hashes[0]}"
    with pytest.raises(RuleError, match="has no revision v2"):
        cf.load_rule("hub:ann/mine@v2", hub=tmp_path)
    with pytest.raises(RuleError, match="has no file ann/none/rule.json|has no ann/none"):
        cf.load_rule("hub:ann/none", hub=tmp_path)


def test_a_bare_repository_is_read_and_not_written(tmp_path: Path, identity: None) -> None:
    git(tmp_path, "init", "--quiet", "work")
    address = cf.share_rule(LION, "ann/lion", hub=tmp_path / "work")
    git(tmp_path, "clone", "--quiet", "--bare", "work", "bare.git")
    assert same(cf.load_rule(address, hub=tmp_path / "bare.git"), LION)
    with pytest.raises(OptionError, match="is a bare repository"):
        cf.share_rule(ADAM, "ann/adam", hub=tmp_path / "bare.git")


def test_sharing_to_git_commits_the_two_files_alone(tmp_path: Path, identity: None) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "other").write_text("mine")
    (tmp_path / ".git/hooks").mkdir(exist_ok=True)
    hook = tmp_path / ".git/hooks/pre-commit"
    hook.write_text("#!/bin/sh\ntouch ran\nexit 1\n")
    hook.chmod(0o755)
    address = cf.share_rule(LION, "ann/lion", hub=tmp_path)
    assert address == f"hub:ann/lion@{git(tmp_path, 'rev-parse', 'HEAD')}"
    assert git(tmp_path, "ls-tree", "-r", "--name-only", "HEAD").split() == ["ann/lion/README.md", "ann/lion/rule.json"]
    assert not (tmp_path / "ran").exists()
    assert cf.share_rule(LION, "ann/lion", hub=tmp_path) == address


def test_links_out_of_the_hub_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "hub/ann").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    LION.save(tmp_path / "secret/rule.json")
    os.symlink(tmp_path / "secret", tmp_path / "hub/ann/lion")
    with pytest.raises(RuleError, match="leads out of the hub"):
        cf.load_rule("hub:ann/lion", hub=tmp_path / "hub")
    with pytest.raises(RuleError, match="leads out of the hub"):
        cf.share_rule(ADAM, "ann/lion", hub=tmp_path / "hub")
    assert same(cf.load_rule(tmp_path / "secret/rule.json"), LION)


def test_a_committed_link_is_no_file(tmp_path: Path, identity: None) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "ann/lion").mkdir(parents=True)
    os.symlink("/etc/passwd", tmp_path / "ann/lion/rule.json")
    git(tmp_path, "add", "ann")
    git(tmp_path, "commit", "--quiet", "-m", "link")
    with pytest.raises(RuleError, match="has no file"):
        cf.load_rule("hub:ann/lion", hub=tmp_path)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"x" * (2**19 + 1), "has 524289 bytes; the limit is 524288"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"{", "hub:ann/bad: "),
        (b'{"format": "closedform.rule/1", "name": "x", "update": "__import__(1)"}', "hub:ann/bad: "),
    ],
)
def test_bad_files_are_refused_in_a_line(body: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "ann/bad").mkdir(parents=True)
    (tmp_path / "ann/bad/rule.json").write_bytes(body)
    with pytest.raises(RuleError, match=re.escape(said)) as caught:
        cf.load_rule("hub:ann/bad", hub=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_hub_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match="is no folder; set CLOSEDFORM_HUB"):
        cf.load_rule("hub:ann/lion", hub=tmp_path / "none")


class Remote:
    """Stand-in for Hugging Face with the signatures of the installed client."""

    def __init__(self, folder: Path) -> None:
        client = pytest.importorskip("huggingface_hub")
        self.folder, self.commits = folder, {"1" * 40: LION.to_json()}
        self.api = create_autospec(client.HfApi, instance=True)
        self.api.repo_info.side_effect = self.info
        self.api.create_commit.side_effect = self.commit
        self.module = SimpleNamespace(
            HfApi=lambda: self.api,
            hf_hub_download=create_autospec(client.hf_hub_download, side_effect=self.download),
            CommitOperationAdd=client.CommitOperationAdd,
        )

    def info(self, repository: str, *, revision: str | None = None, files_metadata: bool = False) -> SimpleNamespace:
        if repository != "ann/lion":
            raise OSError("404 Client Error\nfor url")
        sha = revision or list(self.commits)[-1]
        file = SimpleNamespace(rfilename="rule.json", size=len(self.commits[sha]))
        return SimpleNamespace(sha=sha, siblings=[file] if files_metadata else [])

    def download(self, repository: str, name: str, *, revision: str) -> str:
        path = self.folder / f"{revision}-{name}"
        path.write_text(self.commits[revision])
        return str(path)

    def commit(self, repository: str, operations: list[object], *, commit_message: str) -> SimpleNamespace:
        files = {one.path_in_repo: one.path_or_fileobj for one in operations}  # type: ignore[attr-defined]
        assert sorted(files) == ["README.md", "rule.json"]
        self.commits["2" * 40] = files["rule.json"].decode()
        return SimpleNamespace(oid="2" * 40)


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Remote:
    made = Remote(tmp_path)
    monkeypatch.delenv("CLOSEDFORM_HUB", raising=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", made.module)
    return made


def test_hugging_face_is_read_at_a_commit(remote: Remote) -> None:
    found = cf.load_rule("hub:ann/lion")
    assert same(found, LION)
    assert found.provenance["hub"] == "hub:ann/lion@" + "1" * 40
    remote.module.hf_hub_download.assert_called_once_with("ann/lion", "rule.json", revision="1" * 40)
    with pytest.raises(RuleError, match="cannot fetch hub:bob/none from Hugging Face: '404 Client Error'"):
        cf.load_rule("hub:bob/none")


def test_hugging_face_tells_sizes_before_anything_is_fetched(remote: Remote) -> None:
    remote.commits["1" * 40] = "x" * 2**20
    with pytest.raises(RuleError, match="has 1048576 bytes"):
        cf.load_rule("hub:ann/lion")
    remote.module.hf_hub_download.assert_not_called()


def test_sharing_on_hugging_face(remote: Remote) -> None:
    with pytest.raises(OptionError, match="holds another rule already"):
        cf.share_rule(ADAM, "ann/lion")
    remote.api.create_commit.assert_not_called()
    address = cf.share_rule(ADAM, "ann/lion", replace=True)
    assert address == "hub:ann/lion@" + "2" * 40
    assert same(cf.load_rule(address), ADAM)
    remote.api.create_repo.side_effect = OSError("401 Unauthorized")
    with pytest.raises(OutputError, match="401 Unauthorized.*hf auth login"):
        cf.share_rule(LION, "ann/new")


def test_a_client_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLOSEDFORM_HUB", raising=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(RuleError, match=r"closedform\[hub\]"):
        cf.load_rule("hub:somebody/rule")


def test_commands_take_rules_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOSEDFORM_HUB", str(tmp_path))
    done = RUNNER.invoke(app, ["share", "lion", "--to", "ann/lion", "--json"])
    assert done.exit_code == 0, done.output
    address = json.loads(done.output)["rule"]
    for command in (["rules", "show", address], ["export", address, "--to", "latex"]):
        shown = RUNNER.invoke(app, command)
        assert shown.exit_code == 0, shown.output
    done = RUNNER.invoke(app, ["share", "adam", "--to", "ann/lion"])
    assert done.exit_code == 2
    assert "--replace" in done.output
    card = (tmp_path / "ann/lion/README.md").read_text()
    assert card.startswith('---\nlicense: "apache-2.0"\nlibrary_name: closedform\n')
    assert 'cf.load_rule("hub:ann/lion")' in card
    assert LION.latex() in card
    assert "| `beta1` | 0.9 |" in card


def test_a_card_holds_no_markup_of_the_rules_file(tmp_path: Path) -> None:
    rule = cf.Rule.parse(
        "mine", "-g", provenance={"source": "<script>x</script>\n# not a heading | [link](javascript:x)", "n": [1, 2]}
    )
    cf.share_rule(rule, "ann/mine", hub=tmp_path)
    card = (tmp_path / "ann/mine/README.md").read_text()
    assert "<script" not in card
    assert "\n# not a heading" not in card
    assert "](javascript" not in card.replace("\\[link](javascript", "")
    assert "- n: \\[1, 2]" in card
