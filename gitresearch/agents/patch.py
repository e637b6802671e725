"""The patch agent: a person's own edit as a trial, under the rules that hold for every agent.

A patch is applied by git itself, in a folder of its own with the parent's files; the checkout's changes become one
against HEAD first, so that they can stand on any trial. What is not committed and not ignored counts as changed.
"""

import email
import email.policy
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from gitresearch import answers, edit
from gitresearch.agents import Files, Proposal, Request, folder
from gitresearch.errors import GitResearchError
from gitresearch.gitcmd import Git
from gitresearch.surface import Edits
from gitresearch.trial import Hypothesis


class PatchAgent:
    """Gives the same edits whenever it is asked."""

    reads_lineage = resolves_conflicts = False

    def __init__(self, edits: Edits, message: str, expected: float | None = None) -> None:
        self._edits, self._expected = edits, expected
        self._subject, _, self._body = message.strip().partition("\n")

    def propose(self, request: Request) -> Proposal:
        """The edits, with the person's words for a hypothesis."""
        hypothesis = Hypothesis.from_text(
            self._subject,
            self._body.strip(),
            study=request.study.name,
            specialist=request.specialist.name,
            operator=request.operator,
            expected=self._expected,
        )
        return Proposal(hypothesis, self._edits)


def edits_of(files: Files, patch: bytes, more: Mapping[str, bytes] | None = None) -> Edits:
    """What a patch makes of the files, and of `more` whole files beside it. GitResearchError where it does not apply,
    or makes what no trial may hold."""
    with tempfile.TemporaryDirectory(prefix="gitresearch-") as name:
        top = Path(name)
        git = Git(None, top)
        try:
            folder.write(files, top)
            # A repository of its own: inside another one, git would pass over what the patch changes.
            git.get("init", "--quiet", "--template=")
            if patch.strip():
                lines = patch.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n")
                said = git.ask("apply", "--whitespace=nowarn", "-", lines=lines)
                if said.code:
                    hint = "gitresearch propose --parent TRIAL, with the trial that it was made on"
                    raise GitResearchError(f"the change does not apply to its parent: {said.complaint}", hint)
            folder.write(more or {}, top)
            edits = folder.changes(files, top)
        except answers.EditError as error:
            raise GitResearchError(error.message, "git status") from None
    wrong = edit.broken(edits)
    if wrong:
        raise GitResearchError("; ".join([*wrong.values()][:3]), "mend the change and propose again")
    return edits


def message_of(patch: bytes) -> str:
    """Subject and text of a patch as `git format-patch` writes it; empty where it has none."""
    head = patch.partition(b"\ndiff --git ")[0] + b"\n"
    if not re.match(rb"(From |[A-Za-z-]+: )", head):
        return ""
    found = email.message_from_bytes(head, policy=email.policy.default)
    subject = re.sub(r"^(?:\[[^\]]*\]\s*)+", "", str(found.get("Subject", ""))).strip()
    payload = found.get_payload(decode=True)
    body = payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""
    return f"{subject}\n\n{re.split(r'^---$', body, maxsplit=1, flags=re.MULTILINE)[0].strip()}" if subject else ""


def worktree(git_dir: Path, workdir: Path, root: str) -> tuple[bytes, dict[str, bytes]]:
    """The checkout's changes under `root` against HEAD as a patch, and its files that git does not know yet."""
    git = Git(git_dir, workdir)
    plain = ("--binary", "--no-ext-diff", "--no-textconv", "--no-color", "--no-renames")
    below = root or "."
    patch = git.get("diff", "HEAD", *plain, "--src-prefix=a/", "--dst-prefix=b/", "--", below)
    names = git.get("ls-files", "--others", "--exclude-standard", "-z", "--", below).split("\0")
    new = {}
    for name in filter(None, names):
        data = folder.read(workdir / name, edit.MAX_FILE)
        if data is None:
            raise GitResearchError(f"{name} is no plain file of at most {edit.MAX_FILE} bytes", "git status")
        new[name] = data
    return patch.encode("utf-8", "surrogateescape"), new
