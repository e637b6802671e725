"""push, pull and clone against real git servers: what moves, what stays, and what every failure says."""

import subprocess
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from gitresearch import gitcmd, sync
from gitresearch.errors import GitResearchError
from gitresearch.moves import Report
from gitresearch.repo import Repo, blob_oid
from gitresearch.trial import BranchName, Hypothesis
from tests.attacks.victim import Victim
from tests.build import add_trial, copy_of, git, outcome, record, study_repo
from tests.gitservers import daemon, http

OUTCOMES = "refs/notes/gitresearch/outcomes/"
OURS = ("refs/heads/trial", "refs/heads/best", "refs/gitresearch/studies", "refs/notes/gitresearch")


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every commit at one time: two copies of one beginning are the same commit."""
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_DATE", "1700000000 +0000")


@dataclass
class Copy:
    """One person's repository, as sync sees it, with the few writes that these tests need."""

    workdir: Path
    evaluator: str

    @property
    def git_dir(self) -> Path:
        return self.workdir / ".git"

    common_dir = git_dir

    def evaluator_id(self) -> str:
        return self.evaluator

    def same_key(self, old: str, new: str) -> bool:
        return Repo.open(self.workdir).same_key(old, new)

    @property
    def repo(self) -> Repo:
        return cast(Repo, self)

    def git(self, *args: str, data: str = "") -> str:
        done = subprocess.run(
            ["git", "-C", str(self.workdir), *args], input=data, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def refs(self) -> dict[str, str]:
        listing = self.git("for-each-ref", "--format=%(refname) %(objectname)", *OURS)
        return dict(cast(Any, line.split(" ")) for line in listing.splitlines())

    def commit(self, message: str, *parents: str) -> str:
        tree = self.git("mktree")
        return self.git("commit-tree", tree, *(f"-p{parent}" for parent in parents), data=message)

    def trial(self, subject: str, parent: str = "refs/gitresearch/studies/golf") -> str:
        """A trial on its branch; its oid."""
        claim = Hypothesis(subject, "golf", "optimizer")
        oid = self.commit(claim.message(), self.git("rev-parse", parent))
        self.git("update-ref", f"refs/heads/{BranchName.of(claim, oid)}", oid)
        return oid

    def note(self, trial: str, text: str = "keep", kind: str = "outcomes") -> None:
        """A note of this copy's evaluator."""
        self.git("notes", f"--ref=gitresearch/{kind}/{self.evaluator}", "add", "-f", "-m", text, trial)

    def read(self, trial: str, evaluator: str) -> str:
        return self.git("notes", f"--ref=gitresearch/outcomes/{evaluator}", "show", trial)

    def push(self) -> Report:
        return sync.push(self.repo, say=_quiet)

    def pull(self) -> Report:
        return sync.pull(self.repo, say=_quiet)


def _quiet(line: str) -> None:
    """Nobody listens."""


def make(path: Path, evaluator: str, remote: str = "") -> Copy:
    """A repository with one commit, a study pinned to it, and perhaps a remote."""
    path.mkdir()
    copy = Copy(path, evaluator)
    copy.git("init", "--quiet")
    base = copy.commit("begin")
    copy.git("update-ref", "refs/heads/main", base)
    copy.git("update-ref", "refs/gitresearch/studies/golf", base)
    if remote:
        copy.git("remote", "add", "origin", remote)
    return copy


def cloned(url: str, dest: Path, evaluator: str) -> Copy:
    sync.clone(url, dest, say=_quiet)
    return Copy(dest, evaluator)


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """An empty bare repository."""
    bare = tmp_path / "served" / "golf.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(bare)], check=True)
    return bare


@pytest.fixture
def ada(tmp_path: Path, served: Path) -> Copy:
    """A copy with two trials, an outcome for each, and a best."""
    copy = Copy(copy_of(tmp_path / "ada", adas), "ada")
    copy.git("remote", "add", "origin", str(served))
    return copy


def adas(path: Path) -> None:
    copy = make(path, "ada")
    first = copy.trial("warm up for longer")
    second = copy.trial("halve the batch", first)
    for oid in (first, second):
        copy.note(oid)
        copy.note(oid, "proposed", "proposals")
    copy.git("update-ref", "refs/heads/best/golf", first)


@pytest.fixture(params=["path", "daemon", "http"])
def base_url(request: pytest.FixtureRequest, served: Path) -> Iterator[str]:
    """The same bare repository behind each kind of server."""
    root = served.parent
    servers = {"path": lambda: nullcontext(str(root)), "daemon": lambda: daemon(root), "http": lambda: http(root)}
    with servers[request.param]() as url:
        yield url


@pytest.mark.slow
def test_three_clones_hold_the_same_search(tmp_path: Path, ada: Copy, base_url: str) -> None:
    """What two evaluators found, a third clone has: trials, studies, and the notes of both."""
    url = f"{base_url}/golf.git"
    ada.git("remote", "set-url", "origin", url)
    report = ada.push()
    assert (len(report.trials), report.studies, report.notes, report.left) == (2, ("golf",), 4, ())
    bob = cloned(url, tmp_path / "bob", "bob")
    assert bob.refs() == ada.refs()
    third = bob.trial("bob's idea")
    bob.note(third, "discard")
    assert bob.push().notes == 1
    pulled = ada.pull()
    assert (len(pulled.trials), pulled.notes) == (1, 1)
    eve = cloned(url, tmp_path / "eve", "eve")
    assert eve.refs() == ada.refs() == bob.refs()
    assert eve.read(third, "bob") == "discard"


def test_the_store_reads_in_a_clone_what_it_wrote(tmp_path: Path, served: Path) -> None:
    """Trials, outcomes, proposals and what those keep come out of a clone as they went in."""
    repo = study_repo(tmp_path / "mine")
    first = add_trial(repo)
    combined = add_trial(repo, "both at once", [first, add_trial(repo, "fewer steps")])
    record(repo, first, 0.9, "keep")
    record(repo, combined, 1.1)
    repo.record_proposal(first.oid, b"schema = 1\n", [b"what the specialist saw"])
    repo.set_best("demo", first.oid, "keep")
    git(repo, "remote", "add", "origin", str(served))
    assert len(sync.push(repo, say=_quiet).trials) == 3
    sync.clone(str(served), tmp_path / "theirs", _quiet)
    theirs = Repo.open(tmp_path / "theirs")
    assert theirs.trials() == repo.trials()
    assert theirs.oddities == []
    assert theirs.outcome(first.oid) == repo.outcome(first.oid)
    assert (theirs.proposal(first.oid), theirs.blob(blob_oid(b"what the specialist saw"))) == (
        b"schema = 1\n",
        b"what the specialist saw",
    )
    assert (theirs.best("demo"), theirs.studies()) == (first.oid, repo.studies())
    assert theirs.evaluator_id() != repo.evaluator_id()


def test_a_second_push_and_pull_move_nothing(ada: Copy) -> None:
    """Doing it again is free and says so."""
    ada.push()
    assert ada.push().lines() == ["nothing new to origin"]
    assert ada.pull().lines() == ["nothing new from origin"]


def test_report_lines_count_what_moved(ada: Copy) -> None:
    """The report is one line that a person reads."""
    assert ada.push().lines() == ["pushed 1 study, 2 trials, 4 notes commits, 1 best to origin"]


def test_clone_of_a_repository_that_holds_studies_only(tmp_path: Path, ada: Copy, served: Path) -> None:
    """A server that got nothing but what push sends is enough to go on from."""
    ada.push()
    bob = cloned(str(served), tmp_path / "bob", "bob")
    assert bob.refs() == ada.refs()
    assert bob.git("rev-parse", "refs/gitresearch/studies/golf") == ada.git("rev-parse", "main")


def test_clone_shows_notes_in_git_log_and_lists_no_trial_twice(tmp_path: Path, ada: Copy, served: Path) -> None:
    """Plain git reads a clone: its log shows the outcomes, and remote-tracking branches don't repeat the trials."""
    ada.git("push", "--quiet", "origin", "main")
    ada.push()
    bob = cloned(str(served), tmp_path / "bob", "bob")
    assert "keep" in bob.git("log", "--branches=trial/*")
    bob.git("fetch", "--quiet")
    assert "trial" not in bob.git("branch", "--remotes")


def test_pull_moves_nothing_that_plain_git_owns(tmp_path: Path, ada: Copy, served: Path) -> None:
    """The checkout, HEAD, FETCH_HEAD, tags and remote-tracking refs are the user's."""
    ada.git("tag", "v1", "main")
    ada.git("push", "--quiet", "--tags", "origin", "main")
    ada.push()
    bob = make(tmp_path / "bob", "bob", str(served))
    bob.pull()
    assert bob.git("for-each-ref", "refs/remotes", "refs/tags") == ""
    assert not (bob.git_dir / "FETCH_HEAD").exists()
    assert bob.git("symbolic-ref", "HEAD") == "refs/heads/main"


def test_a_trial_moved_on_the_remote_is_an_error(tmp_path: Path, ada: Copy, served: Path) -> None:
    """A trial's branch that names another commit there stops push and pull, and its own copy is not touched."""
    ada.push()
    before = ada.refs()
    ref = next(ref for ref in before if "warm-up" in ref)
    forged = ada.commit("forged", before[ref])
    ada.git("push", "--quiet", "origin", f"{forged}:{ref}")
    for verb in (ada.push, ada.pull):
        with pytest.raises(GitResearchError, match="was moved on origin") as caught:
            verb()
        assert caught.value.hint == f"git push --force-with-lease={ref}:{forged} origin {ref}"
        assert ada.refs() == before
    ada.git(*caught.value.hint.split()[1:])
    assert ada.pull().trials == ()


def test_a_trial_moved_here_is_an_error_with_the_way_back(ada: Copy) -> None:
    """Where the name shows that our own branch was moved, the hint restores it."""
    ada.push()
    ref, oid = next((ref, oid) for ref, oid in ada.refs().items() if "warm-up" in ref)
    ada.git("update-ref", ref, ada.commit("forged", oid))
    with pytest.raises(GitResearchError, match="was moved here") as caught:
        ada.push()
    ada.git(*caught.value.hint.split()[1:])
    assert ada.refs()[ref] == oid
    assert ada.push().left == ()


def test_refs_with_names_of_others_are_left_alone(tmp_path: Path, ada: Copy, served: Path) -> None:
    """A branch under trial/ that is no trial moves in neither direction, and the rest does."""
    ada.git("update-ref", "refs/heads/trial/scratch", "main")
    ada.git("update-ref", "refs/heads/trial/golf/wrong-00000000", "main")
    report = ada.push()
    assert len(report.trials) == 2
    assert {left.ref for left in report.left} == {"refs/heads/trial/scratch", "refs/heads/trial/golf/wrong-00000000"}
    ada.git("push", "--quiet", "origin", "refs/heads/trial/*:refs/heads/trial/*")
    bob = make(tmp_path / "bob", "bob", str(served))
    report = bob.pull()
    assert len(report.trials) == 2
    assert "refs/heads/trial/scratch" not in bob.refs()
    assert len(report.left) == 2


def test_one_evaluator_name_in_two_copies_is_an_error_that_can_be_mended(
    tmp_path: Path, ada: Copy, served: Path
) -> None:
    """Diverged notes of our own stop the push; with a new name every note of both copies arrives."""
    ada.push()
    twin = cloned(str(served), tmp_path / "twin", "ada")
    mine, theirs = ada.trial("mine"), twin.trial("theirs")
    ada.note(mine, "from ada")
    twin.note(theirs, "from twin")
    ada.push()
    before = twin.refs()
    for verb in (twin.push, twin.pull):
        with pytest.raises(
            GitResearchError, match="another copy of this repository writes under the same name"
        ) as caught:
            verb()
        assert caught.value.hint == "git config --unset gitresearch.evaluator"
        assert twin.refs() == before
    twin.evaluator = "twin"
    left = twin.push().left
    assert [one.ref for one in left] == [OUTCOMES + "ada"]
    command = left[0].why.partition("git ")[2].replace("''", "").split()
    twin.git(*command, "")
    twin.push()
    eve = cloned(str(served), tmp_path / "eve", "eve")
    assert (eve.read(mine, "ada"), eve.read(theirs, "twin")) == ("from ada", "from twin")


def test_rewritten_notes_of_another_evaluator_do_not_replace_ours(tmp_path: Path, ada: Copy, served: Path) -> None:
    """Somebody who rewrites history on the server changes no clone that has the true one."""
    ada.push()
    bob = cloned(str(served), tmp_path / "bob", "bob")
    kept = bob.refs()[OUTCOMES + "ada"]
    ada.git("push", "--quiet", "--force", "origin", f"{ada.commit('forged')}:{OUTCOMES}ada")
    report = bob.pull()
    assert [left.ref for left in report.left] == [OUTCOMES + "ada"]
    assert bob.refs()[OUTCOMES + "ada"] == kept


def test_older_notes_of_others_are_neither_pushed_nor_pulled_over_newer(
    tmp_path: Path, ada: Copy, served: Path
) -> None:
    """A clone that lags behind another evaluator's notes pushes its own all the same."""
    ada.push()
    bob = cloned(str(served), tmp_path / "bob", "bob")
    ada.note(ada.trial("later"))
    ada.push()
    bob.note(bob.trial("bob's"))
    report = bob.push()
    assert (report.notes, report.left) == (1, ())
    assert ada.pull().notes == 1


def test_best_is_pushed_only_forward(tmp_path: Path, ada: Copy, served: Path) -> None:
    """best/<study> moves along a lineage; sideways it is left alone with a word."""
    ada.push()
    refs = ada.refs()
    ada.git("update-ref", "refs/heads/best/golf", next(oid for ref, oid in refs.items() if "halve" in ref))
    assert ada.push().best == ("best/golf",)
    ada.git("update-ref", "refs/heads/best/golf", ada.trial("another line"))
    report = ada.push()
    assert (len(report.trials), report.best) == (1, ())
    assert report.lines()[1] == (
        "left alone: best/golf: it would not be a fast-forward; every clone derives it from the notes"
    )


def test_a_study_pinned_elsewhere_is_left_alone(tmp_path: Path, ada: Copy, served: Path) -> None:
    """Two studies of one name stay two: neither pin moves."""
    ada.push()
    bob = make(tmp_path / "bob", "bob", str(served))
    base = bob.commit("another beginning")
    bob.git("update-ref", "refs/gitresearch/studies/golf", base)
    report = bob.pull()
    assert [left.ref for left in report.left] == ["refs/gitresearch/studies/golf"]
    assert bob.refs()["refs/gitresearch/studies/golf"] == base


def test_a_checked_out_best_is_left_alone(tmp_path: Path, ada: Copy, served: Path) -> None:
    """Moving the branch under a checkout would show its files as changed."""
    ada.push()
    bob = cloned(str(served), tmp_path / "bob", "bob")
    bob.git("checkout", "--quiet", "best/golf")
    ada.git("update-ref", "refs/heads/best/golf", next(oid for ref, oid in ada.refs().items() if "halve" in ref))
    ada.push()
    assert [left.why for left in bob.pull().left] == ["it is checked out"]
    assert bob.git("status", "--porcelain") == ""


def test_a_trial_deleted_here_comes_back(ada: Copy) -> None:
    """A branch that somebody deleted by hand is there again after a pull."""
    ada.push()
    before = ada.refs()
    ada.git("branch", "--quiet", "-D", next(ref for ref in before if "halve" in ref).removeprefix("refs/heads/"))
    ada.pull()
    assert ada.refs() == before


@pytest.mark.slow
def test_the_number_of_git_processes_does_not_grow(
    tmp_path: Path, served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 trials cost the same few git processes as one, in every direction."""
    ada = make(tmp_path / "ada", "ada", str(served))
    ada.note(ada.trial("the first"))
    ada.push()
    ada.note(ada.trial("the second"))
    started: list[Any] = []
    real = subprocess.Popen.__init__

    def count(self: Any, argv: Any, *args: Any, **more: Any) -> None:
        started.append(argv)
        real(self, argv, *args, **more)

    def cost(action: Any) -> int:
        started.clear()
        with monkeypatch.context() as patch:
            patch.setattr(subprocess.Popen, "__init__", count)
            action()
        return len(started)

    few = (cost(ada.push), cost(lambda: cloned(str(served), tmp_path / "one", "bob")))
    _many_trials(ada, 500)
    ada.note(ada.trial("the last"))
    assert (cost(ada.push), cost(lambda: cloned(str(served), tmp_path / "two", "eve"))) == few
    assert max(few) <= 10
    assert len(Copy(tmp_path / "two", "eve").refs()) == len(ada.refs()) == 505


def _many_trials(copy: Copy, count: int) -> None:
    """Trials on branches of their own, by git's bulk importer."""
    base = copy.git("rev-parse", "main")
    stream = []
    for number in range(1, count + 1):
        message = Hypothesis(f"idea {number}", "golf", "optimizer").message()
        who = f"committer Ada <ada@example.org> {1_700_000_000 + number} +0000"
        stream.append(f"commit refs/new/{number}\nmark :{number}\n{who}\ndata {len(message)}\n{message}\nfrom {base}\n")
    copy.git("fast-import", "--quiet", data="\n".join(stream))
    listed = copy.git("for-each-ref", "--format=%(objectname) %(refname)", "refs/new").splitlines()
    orders = []
    for oid, ref in (line.split() for line in listed):
        name = BranchName("golf", f"idea-{ref.rpartition('/')[2]}", oid[:8])
        orders += [f"create refs/heads/{name} {oid}", f"delete {ref}"]
    copy.git("update-ref", "--stdin", data="\n".join(orders) + "\n")


def test_a_server_without_atomic_pushes_is_served_too(ada: Copy, served: Path) -> None:
    """Some servers can't do all or nothing; then each ref stands for itself."""
    subprocess.run(["git", "-C", str(served), "config", "receive.advertiseAtomic", "false"], check=True)
    assert len(ada.push().trials) == 2
    assert ada.push().lines() == ["nothing new to origin"]


def test_a_push_that_loses_a_race_is_tried_again(tmp_path: Path, ada: Copy, served: Path) -> None:
    """Another writer between our look and our push costs a second round, not an error."""
    ada.push()
    bob = cloned(str(served), tmp_path / "bob", "bob")
    oid = ada.trial("meanwhile", ada.git("rev-parse", "best/golf"))
    ahead = ada.trial("and on", oid)
    hook = bob.git_dir / "hooks" / "pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(
        f"#!/bin/sh\n[ -e {tmp_path}/raced ] && exit 0\ntouch {tmp_path}/raced\nunset GIT_DIR\n"
        f"git -C {ada.workdir} push -q origin {ahead}:refs/heads/best/golf\n"
    )
    hook.chmod(0o755)
    bob.git("update-ref", "refs/heads/best/golf", bob.trial("bob's", "best/golf"))
    report = bob.push()
    assert (tmp_path / "raced").exists()
    assert len(report.trials) == 1
    assert [left.ref for left in report.left] == ["refs/heads/best/golf"]


def test_nothing_to_push_says_so(tmp_path: Path, served: Path) -> None:
    """A repository without a study has nothing to give."""
    copy = make(tmp_path / "new", "ada", str(served))
    copy.git("update-ref", "-d", "refs/gitresearch/studies/golf")
    with pytest.raises(GitResearchError, match="nothing to push"):
        copy.push()


def test_no_remote_and_unknown_remote_name_the_command(tmp_path: Path, served: Path) -> None:
    """Without a remote the hint adds one; with another one it is named."""
    copy = make(tmp_path / "new", "ada")
    with pytest.raises(GitResearchError, match="has no remote") as caught:
        copy.push()
    assert caught.value.hint == "git remote add origin URL"
    copy.git("remote", "add", "lab", str(served))
    with pytest.raises(GitResearchError, match="no remote 'origin'; there is lab"):
        copy.push()


@pytest.mark.parametrize("verb", ["push", "pull", "clone"])
def test_what_git_takes_for_an_option_is_refused(tmp_path: Path, verb: str) -> None:
    """`--upload-pack=COMMAND` as a remote or URL would run a command."""
    evil = f"--upload-pack=touch {tmp_path}/owned"
    copy = make(tmp_path / "new", "ada")
    copy.git("config", "remote.bad.url", evil)
    calls = {
        "push": lambda: sync.push(copy.repo, "bad", _quiet),
        "pull": lambda: sync.pull(copy.repo, evil, _quiet),
        "clone": lambda: sync.clone(evil, tmp_path / "dest", _quiet),
    }
    with pytest.raises(GitResearchError, match="is no remote and no URL"):
        calls[verb]()
    assert not (tmp_path / "owned").exists()


def test_an_unreachable_remote_names_the_command(tmp_path: Path, ada: Copy) -> None:
    """A path that is gone, a port where nobody listens: one sentence each."""
    for url in (str(tmp_path / "gone.git"), "git://127.0.0.1:1/golf.git", "http://127.0.0.1:1/golf.git"):
        ada.git("remote", "set-url", "origin", url)
        with pytest.raises(GitResearchError, match="origin can't be reached: ") as caught:
            ada.pull()
        assert caught.value.hint == "git remote set-url origin URL"
        with pytest.raises(GitResearchError, match="can't be reached"):
            sync.clone(url, tmp_path / "dest", _quiet)
        assert not (tmp_path / "dest").exists()


def test_a_server_that_wants_a_password_names_the_command(ada: Copy, served: Path) -> None:
    """Denied access is told apart from an unreachable server, and no password is repeated."""
    with http(served.parent, deny=True) as url:
        ada.git("remote", "set-url", "origin", url.replace("://", "://ada:secret@") + "/golf.git")
        heard: list[str] = []
        with pytest.raises(GitResearchError, match="origin denies access") as caught:
            sync.push(ada.repo, say=heard.append)
    assert caught.value.hint == "git ls-remote origin"
    assert "secret" not in f"{caught.value} {heard}"


def test_a_server_hook_that_rejects_is_quoted(ada: Copy, served: Path) -> None:
    """What the server says reaches the person, without its control characters."""
    hook = served / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\nprintf 'no \\033[31mnotes\\033[0m on Mondays\\n' >&2\nexit 1\n")
    hook.chmod(0o755)
    heard: list[str] = []
    with pytest.raises(GitResearchError, match="origin rejected the push: pre-receive hook declined: no notes on Mon"):
        sync.push(ada.repo, say=heard.append)
    assert any("no notes on Mondays" in line for line in heard)
    assert "\x1b" not in "".join(heard)
    assert subprocess.run(["git", "-C", str(served), "for-each-ref"], capture_output=True, check=True).stdout == b""


def test_a_shallow_clone_is_refused_with_the_command(tmp_path: Path, ada: Copy, served: Path) -> None:
    """A cut-off history can't tell forward from sideways."""
    ada.git("push", "--quiet", "origin", f"{ada.commit('more', 'main')}:refs/heads/main")
    subprocess.run(["git", "clone", "-q", "--depth=1", served.as_uri(), str(tmp_path / "shallow")], check=True)
    with pytest.raises(GitResearchError, match="this clone is shallow") as caught:
        Copy(tmp_path / "shallow", "bob").push()
    assert caught.value.hint == "git fetch --unshallow origin"


def test_an_empty_remote_has_nothing_to_pull_or_clone(tmp_path: Path, ada: Copy, served: Path) -> None:
    """Nothing is made where there is nothing to take."""
    with pytest.raises(GitResearchError, match="origin holds no study yet") as caught:
        ada.pull()
    assert caught.value.hint == "gitresearch push origin"
    with pytest.raises(GitResearchError, match="holds no study"):
        sync.clone(str(served), tmp_path / "dest", _quiet)
    assert not (tmp_path / "dest").exists()


def test_clone_does_not_write_into_a_full_directory(tmp_path: Path, served: Path) -> None:
    """What lies in the way stays."""
    (tmp_path / "dest").mkdir()
    (tmp_path / "dest" / "mine").touch()
    with pytest.raises(GitResearchError, match="is there already"):
        sync.clone(str(served), tmp_path / "dest", _quiet)


def test_git_variables_of_a_surrounding_git_command_do_not_leak(
    tmp_path: Path, ada: Copy, served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Called from a git hook or alias, sync works on the repository it was given."""
    ada.push()
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "elsewhere" / "index"))
    sync.clone(str(served), tmp_path / "bob", _quiet)
    assert (tmp_path / "bob" / ".git").is_dir()


def test_a_relative_remote_is_found_from_the_checkout(
    ada: Copy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`../served/golf.git` means what it means to git, wherever the command is typed."""
    ada.git("remote", "set-url", "origin", "../served/golf.git")
    monkeypatch.chdir(tmp_path)
    assert len(ada.push().trials) == 2


def test_git_missing_is_one_sentence(ada: Copy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without git is told so."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitResearchError, match="git program is not installed"):
        gitcmd.Git(None, tmp_path, _quiet).talk("version")


def test_pull_takes_no_notes_that_another_key_signed(tmp_path: Path, served: Path) -> None:
    """Whoever may push can put a commit on top of an evaluator's notes; it is left alone, and said to be."""
    mine = study_repo(tmp_path / "mine")
    git(mine, "remote", "add", "origin", str(served))
    trial = add_trial(mine, "first")
    record(mine, trial)
    sync.push(mine, say=_quiet)
    sync.clone(str(served), tmp_path / "theirs", _quiet)
    theirs = Repo.open(tmp_path / "theirs")
    ref = OUTCOMES + mine.evaluator_id()
    before = git(theirs, "rev-parse", ref)
    forged = Victim(tmp_path / "theirs", theirs.key, theirs.key).say(trial.oid, outcome(0.0, "keep"), theirs.key, ref)
    git(theirs, "push", "--quiet", "origin", f"{forged}:{ref}")
    git(theirs, "update-ref", ref, before.strip())
    for repo in mine, theirs:
        left = sync.pull(repo, say=_quiet).left
        assert [(one.ref, "not signed by the key" in one.why) for one in left] == [(ref, True)]
        assert git(repo, "rev-parse", ref) == before
