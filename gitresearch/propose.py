"""Parent -> brief -> agent -> edits -> commit: how a trial comes about.

The agent's answer is checked here and nowhere else: edits outside the surface, an edit that changes nothing, and a tree
or a program (sameness.py) that was tried before never become a trial. The commit is made from the parent's tree, so
lineage can't be misdeclared.

A combination is a three-way merge of two trials, an ablation one that takes a step out again; where that is clean, no
agent is asked. Where it is not, an agent resolves the conflict, and may write in the conflicting files only.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from typing import Any

import tomli_w

from gitresearch import brief
from gitresearch.agents import Agent, Files, Proposal, ProposalFailed, Request, Usage
from gitresearch.briefing import Briefing
from gitresearch.errors import GitResearchError
from gitresearch.lineage import Lineage
from gitresearch.merge import Merge, strays, unresolved
from gitresearch.outcome import now, signed
from gitresearch.policy import Turn, ablation
from gitresearch.repo import blob_oid
from gitresearch.sameness import Tried
from gitresearch.smoke import BEFORE
from gitresearch.surface import Edits
from gitresearch.text import clean, one_line
from gitresearch.trial import SUBJECT_LIMIT, Hypothesis, Trial

TRIES = 3  # an agent that repeats a known tree is asked again so many times
# What shapes a model's answer, as the proposals note keeps it.
PARAMETERS = ("max_tokens", "temperature", "tools", "context_tokens", "brief_tokens", "timeout_seconds")


class Nobody:
    """Stands where no agent is asked: a replicate, a clean merge."""

    reads_lineage = False
    resolves_conflicts = False

    def propose(self, request: Request) -> Proposal:
        """ProposalFailed."""
        raise ProposalFailed(f"{request.operator} asks no agent")


class Proposer:
    """Makes trials of one study."""

    def __init__(
        self,
        briefing: Briefing,
        agent: Agent,
        check: Callable[[Files], str] = lambda _files: "",
        lock: AbstractContextManager[object] | None = None,
    ) -> None:
        """`check` is the evaluator's preflight of files; `lock` guards the lineage that agents look at."""
        self.repo, self.study, self.briefing, self.agent = briefing.repo, briefing.study, briefing, agent
        self.check, self.lock = check, lock or nullcontext()
        self._tried = Tried(briefing.study, self.repo.edits, self.repo.read_file)
        self._made: dict[str, Trial] = {}  # by tree; the lineage learns of them later

    def request(self, lineage: Lineage, turn: Turn) -> Request:
        """The turn as an agent sees it; of the lineage nothing but its parent where the study leaves lineage out.
        ProposalFailed where two trials can't be merged."""
        merge = self._merge(turn)
        files = self.briefing.files_of(turn.parent.oid)
        told = self.briefing.text(lineage, turn.specialist, turn.parent.oid)
        if merge and turn.other:
            files = applied(files, merge.files)
            told += brief.conflict(turn.operator, turn.parent, turn.other, merge.conflicts)
        return Request(
            study=self.study,
            specialist=turn.specialist,
            operator=turn.operator,
            parent=turn.parent,
            files=files,
            brief=told,
            lineage=lineage if self.study.agent.lineage else lineage.alone(turn.parent.oid),
            files_of=self.briefing.files_of,
            seed=turn.seed,
            outcome_of=self.briefing.outcome_of,
            check=self.check,
            lock=self.lock,
            other=turn.other,
            merge=merge,
            policy=turn.why,
        )

    def _merge(self, turn: Turn) -> Merge | None:
        """The merge that a turn is about. ProposalFailed where it can't be made, or holds what no trial may."""
        if turn.other is None:
            return None
        join = self.repo.without if turn.operator == "ablate" else self.repo.merge
        try:
            merge = join(turn.parent.oid, turn.other.oid, self.study.recipe.folder)
            self.repo.tree_with(turn.parent.oid, merge.files)
        except GitResearchError as error:
            raise ProposalFailed(error.message, error.hint) from None
        return merge

    def answer(self, lineage: Lineage, request: Request) -> tuple[Trial, Usage]:
        """One new trial and what it cost.

        ProposalFailed where the agent found no edit, or only ones that were tried before; what that cost is on record.
        """
        if not request.asks:
            return self._unasked(lineage, request), Usage()
        if request.conflicts and not self.agent.resolves_conflicts:
            named = ", ".join(one_line(path, 60) for path in request.conflicts[:3])
            raise ProposalFailed(f"{combined(request)} conflict in {named}, which this agent can't resolve")
        spent, why, spared = Usage(), "", 0.0
        for attempt in range(TRIES):
            try:
                proposal = self.agent.propose(replace(request, seed=request.seed + attempt, again=why))
            except ProposalFailed as failed:
                failed.usage += spent
                self._record_failure(request, failed, spared)
                raise
            spent += proposal.usage
            why = self.refusal(request, proposal.edits)
            if not why:
                proposal = replace(merged(lineage, request, proposal), usage=spent)
                with self.lock:  # two slots must not find the same new tree
                    why, seconds = self._tried_before(lineage, request, proposal.edits)
                    if not why:
                        return self._commit(request, proposal, spared), spent
                    spared += seconds
        told = f"{request.specialist.name} found no new edit: {why}"
        repeated = ProposalFailed(told, usage=spent, transcript=proposal.transcript)
        self._record_failure(request, repeated, spared)
        raise repeated

    def _tried_before(self, lineage: Lineage, request: Request, edits: Edits) -> tuple[str, float]:
        """Where the parent with the edits is a program that was tried, in words for its agent, and the seconds of its
        first run, which another would take again; or nothing."""
        tree = self.repo.tree_with(request.parent.oid, edits)
        node, what, made = lineage.same_tree(tree), "the same files were tried before", self._made.get(tree)
        if node is None and made is None:
            node = self._tried.find(lineage, request.parent.oid, request.specialist.name, edits)
            if node is None:
                return "", 0.0
            what = "the same program was tried before, but for comments, docstrings or layout"
        trial = node.trial if node else made
        outcome = self.briefing.outcome_of(trial.oid) if trial else None
        seconds = next((run.total_seconds for run in outcome.runs if run.purpose in BEFORE), 0.0) if outcome else 0.0
        if node and node.trial.oid == request.parent.oid:
            return "the edit changes nothing but comments, docstrings or layout", seconds
        shown = self.study.agent.lineage and (node is None or node.offered)
        return f"{what}, in {trial.short}" if shown and trial else what, seconds

    def refusal(self, request: Request, edits: Edits) -> str:
        """Why the edits of the request's files can't become a trial, or nothing."""
        if all(request.files.get(path) == after for path, after in edits.items()):
            return "the edit changes nothing"
        wrong = request.surface.violations(request.files, edits)
        if request.merge:
            whole = {**request.merge.files, **edits}
            wrong += [f"{path} came by the merge and is not yours to edit" for path in strays(request.merge, whole)]
            wrong += [f"{path} still holds a conflict marker" for path in unresolved(request.merge, whole)]
        return "; ".join(wrong)

    def _unasked(self, lineage: Lineage, request: Request) -> Trial:
        """A replicate, or a merge without a conflict. ProposalFailed where that merge gives nothing new."""
        if request.merge is None:
            return self._commit(request, Proposal(replicated(lineage, request), {}))
        with self.lock:
            known = lineage.same_tree(self.repo.tree_with(request.parent.oid, request.merge.edits))
            if known is not None:
                raise ProposalFailed(f"{combined(request)} give the files of {known.trial.short}", "gitresearch log")
            hypothesis = of_merge(lineage, request, "")
            return self._commit(request, Proposal(hypothesis, request.merge.edits))

    def _commit(self, request: Request, proposal: Proposal, spared: float = 0.0) -> Trial:
        parents = [request.parent.oid]
        if request.operator == "combine" and request.other:
            parents.append(request.other.oid)
        told = self._document(request, proposal.usage, proposal.transcript, spared)
        made = self.repo.make_trial(proposal.hypothesis, parents, proposal.edits, proposal=told)
        self._made[made.tree] = made
        return made

    def _record_failure(self, request: Request, failed: ProposalFailed, spared: float) -> None:
        """A turn that came to nothing, where it cost or spared something."""
        if failed.usage.calls or spared:
            why = {"failed": one_line(failed.message, 500), "parent": request.parent.oid, "at": now()}
            document, attachments = self._document(request, failed.usage, failed.transcript, spared, why)
            self.repo.record_failed_proposal(document, attachments)

    def _document(
        self, request: Request, usage: Usage, transcript: str, spared: float, more: Mapping[str, str] | None = None
    ) -> tuple[bytes, list[bytes]]:
        """The proposals note: how a trial came about or why none did; what the agent saw and said is kept as blobs, and
        what the runs took that repeats would have taken again as `spared_seconds`."""
        seen = request.brief.encode() if request.asks else b""
        said = clean(transcript, 1 << 20).encode()
        settings = self.study.agent
        model = request.specialist.model or settings.model
        doc: dict[str, Any] = {
            "schema": 1,
            "study": self.study.name,
            **(more or {}),
            **({"spared_seconds": round(spared, 3)} if spared else {}),
            "specialist": request.specialist.name,
            "operator": request.operator,
            "other": request.other.oid if request.other else "",
            "agent": settings.kind if request.asks else "none",
            "model": model if request.asks else "",
            "roster": self.study.roster,
            "lineage": settings.lineage,
            "policy": request.policy,
            "seed": request.seed,
            "brief": blob_oid(seen) if seen else "",
            "transcript": blob_oid(said) if said else "",
            "usage": asdict(usage),
        }
        if request.asks and settings.kind in ("openai", "command"):
            given = {name: getattr(settings, name) for name in PARAMETERS}
            doc["parameters"] = {name: value for name, value in given.items() if value is not None}
        return tomli_w.dumps(doc).encode(), [blob for blob in (seen, said) if blob]


def applied(files: Files, edits: Edits) -> dict[str, bytes]:
    """The files with the edits in them."""
    return {path: data for path, data in {**files, **edits}.items() if data is not None}


def merged(lineage: Lineage, request: Request, proposal: Proposal) -> Proposal:
    """A resolved conflict as a proposal of the whole merge; any other proposal as it is."""
    if request.merge is None:
        return proposal
    said = proposal.hypothesis
    hypothesis = of_merge(lineage, request, f"Resolved: {said.subject}\n\n{said.body}", said)
    return replace(proposal, hypothesis=hypothesis, edits={**request.merge.files, **proposal.edits})


def of_merge(lineage: Lineage, request: Request, more: str, said: Hypothesis | None = None) -> Hypothesis:
    """What a combination or an ablation claims; `said` is the hypothesis of the agent that resolved it."""
    first, other, merge = request.parent, request.other, request.merge
    if other is None or merge is None:
        raise GitResearchError(f"{request.operator} needs a second trial", "gitresearch propose --help")
    if request.operator == "ablate":
        subject = f"{ablation(other)}: {other.subject}"
        body = (
            f"Takes the change of {line(lineage, other)} out of {line(lineage, first)} again. Nothing should be lost."
        )
        expected: float | None = 0.0
    else:
        room = (SUBJECT_LIMIT - len(f"combine {first.short}  with {other.short} ")) // 2
        subject = " ".join(
            ["combine", first.short, one_line(first.subject, room), "with", other.short, one_line(other.subject, room)]
        )
        body = f"Puts together\n{line(lineage, first)} and\n{line(lineage, other)}."
        expected = added(lineage, other, merge)
    return Hypothesis.from_text(
        subject,
        f"{body}\n\n{more}".strip(),
        study=request.study.name,
        specialist=request.specialist.name,
        operator=request.operator,
        expected=expected if said is None or said.expected is None else said.expected,
        assisted_by=said.assisted_by if said else "",
    )


def line(lineage: Lineage, trial: Trial) -> str:
    """A trial for the body of a message: its name, its hypothesis, what it gained over its parent."""
    gain = lineage.depth_gain(trial.oid) if trial.oid in lineage else None
    told = "" if gain is None else f", which gained {signed(gain)}"
    return f"{trial.oid} ({one_line(trial.subject, SUBJECT_LIMIT)}{told})"


def added(lineage: Lineage, other: Trial, merge: Merge) -> float | None:
    """What a combination should change the metric of its first parent by, if effects add up: what the other gained
    since they parted."""
    score = lineage[other.oid].score if other.oid in lineage else None
    base = lineage.get(merge.base)
    if score is None or base is None or base.score is None:
        return None
    return float(f"{score - base.score:.3g}")


def replicated(lineage: Lineage, request: Request) -> Hypothesis:
    """The same files again. Its number keeps two replicates of the same second apart."""
    parent = request.parent
    number = 1 + sum(child.trial.operator == "replicate" for child in lineage.children(parent.oid))
    return Hypothesis.from_text(
        f"replicate {parent.short}: {parent.subject}",
        f"The files of {parent.oid}, unchanged; replicate {number}.",
        study=request.study.name,
        specialist=request.specialist.name,
        operator="replicate",
        expected=0.0,
    )


def combined(request: Request) -> str:
    """The two trials of a merge, for a message."""
    other = request.other.short if request.other else ""
    return f"{request.parent.short} {'without' if request.operator == 'ablate' else 'and'} {other}"
