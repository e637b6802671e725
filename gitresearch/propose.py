"""Parent -> brief -> agent -> edits -> commit: how a trial comes about.

The agent's answer is checked here and nowhere else: edits outside the surface, an edit that changes nothing, and a tree
that was tried before never become a trial. The commit is made from the parent's tree, so lineage can't be misdeclared.
"""

import random
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace

import tomli_w

from gitresearch.agents import Agent, Files, Proposal, ProposalFailed, Request, Usage
from gitresearch.briefing import Briefing
from gitresearch.lineage import Lineage, Node
from gitresearch.outcome import now
from gitresearch.repo import blob_oid
from gitresearch.study import Specialist, Study
from gitresearch.surface import Edits, Surface
from gitresearch.text import clean, one_line
from gitresearch.trial import Trial

TRIES = 3  # an agent that repeats a known tree is asked again so many times
# A repair starts from a trial that failed for a reason an edit can mend.
REPAIRABLE = frozenset({"size_blocked", "train_budget_overrun", "eval_budget_overrun", "crash", "disqualified"})


@dataclass(frozen=True)
class Turn:
    """Whose turn it is, with which operator, from which trial."""

    specialist: Specialist
    operator: str
    parent: Trial
    seed: int


def next_turn(study: Study, lineage: Lineage, busy: Mapping[str, int], tired: set[str], seed: int) -> Turn | None:
    """Choose specialist, operator and parent. None where nobody is left or there is nothing to start from.

    Every specialist gets a turn before one gets two; after that turns are drawn with weight 1 + keeps per trial, so
    that measured gains draw more without anyone going silent. `busy` counts turns under way, `tired` names specialists
    that found no edit lately.
    """
    head = lineage.head
    rested = [specialist for specialist in study.specialists if specialist.name not in tired]
    if head is None or not rested:
        return None
    rng = random.Random(f"{study.name} {seed} {len(lineage)}")  # noqa: S311  (a choice, not a secret)
    figures = lineage.figures()
    turns = {s.name: busy.get(s.name, 0) + (figures[s.name].trials if s.name in figures else 0) for s in rested}
    fewest = min(turns.values())
    if fewest < 1:
        specialist = next(s for s in rested if turns[s.name] == fewest)
    else:
        weights = [1 + 4 * figures[s.name].statuses["keep"] / turns[s.name] if s.name in figures else 1 for s in rested]
        specialist = rng.choices(rested, weights)[0]
    failed = repairable(lineage, specialist.name) if study.agent.lineage else None
    if failed is not None and rng.random() < 0.5:
        return Turn(specialist, "repair", failed.trial, rng.getrandbits(31))
    operator = "draft" if head.status == "baseline" else "improve"
    return Turn(specialist, operator, head.trial, rng.getrandbits(31))


def repairable(lineage: Lineage, specialist: str) -> Node | None:
    """The specialist's latest trial, if it failed in a way an edit can mend and nobody has tried yet."""
    latest = lineage.recent(1, specialist)
    if latest and latest[0].status in REPAIRABLE and not lineage.children(latest[0].trial.oid):
        return latest[0]
    return None


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

    def request(self, lineage: Lineage, turn: Turn) -> Request:
        """The turn as an agent sees it; of the lineage nothing but its parent where the study leaves lineage out."""
        return Request(
            study=self.study,
            specialist=turn.specialist,
            operator=turn.operator,
            parent=turn.parent,
            files=self.briefing.files_of(turn.parent.oid),
            brief=self.briefing.text(lineage, turn.specialist, turn.parent.oid),
            lineage=lineage if self.study.agent.lineage else lineage.alone(turn.parent.oid),
            files_of=self.briefing.files_of,
            seed=turn.seed,
            outcome_of=self.briefing.outcome_of,
            check=self.check,
            lock=self.lock,
        )

    def answer(self, lineage: Lineage, request: Request) -> tuple[Trial, Usage]:
        """One new trial and what it cost.

        ProposalFailed where the agent found no edit, or only ones that were tried before; what that cost is on record.
        """
        spent = Usage()
        why, shown = "", self.study.agent.lineage
        for attempt in range(TRIES):
            try:
                proposal = self.agent.propose(replace(request, seed=request.seed + attempt, again=why))
            except ProposalFailed as failed:
                failed.usage += spent
                self._record_failure(request, failed)
                raise
            spent += proposal.usage
            why = self.refusal(request.files, request.specialist, proposal.edits)
            if not why:
                tree = self.repo.tree_with(request.parent.oid, proposal.edits)
                known = lineage.same_tree(tree)
                if known is None:
                    return self._commit(request, replace(proposal, usage=spent)), spent
                why = "the same files were tried before" + (f", in {known.trial.short}" if shown else "")
        told = f"{request.specialist.name} found no new edit: {why}"
        repeated = ProposalFailed(told, usage=spent, transcript=proposal.transcript)
        self._record_failure(request, repeated)
        raise repeated

    def refusal(self, files: Files, specialist: Specialist, edits: Edits) -> str:
        """Why the edits can't become a trial, or nothing."""
        if all(files.get(path) == after for path, after in edits.items()):
            return "the edit changes nothing"
        outside = Surface.of(specialist.surface).violations(files, edits)
        return "; ".join(outside)

    def _commit(self, request: Request, proposal: Proposal) -> Trial:
        trial = self.repo.make_trial(proposal.hypothesis, [request.parent.oid], proposal.edits)
        document, attachments = self._document(request, proposal.usage, proposal.transcript)
        self.repo.record_proposal(trial.oid, document, attachments)
        return trial

    def _record_failure(self, request: Request, failed: ProposalFailed) -> None:
        """A turn that came to nothing, where it cost something."""
        if failed.usage.calls:
            why = {"failed": one_line(failed.message, 500), "parent": request.parent.oid, "at": now()}
            document, attachments = self._document(request, failed.usage, failed.transcript, why)
            self.repo.record_failed_proposal(document, attachments)

    def _document(
        self, request: Request, usage: Usage, transcript: str, more: Mapping[str, str] | None = None
    ) -> tuple[bytes, list[bytes]]:
        """The proposals note: how a trial came about or why none did; what the agent saw and said is kept as blobs."""
        seen, said = request.brief.encode(), clean(transcript, 1 << 20).encode()
        doc = {
            "schema": 1,
            "study": self.study.name,
            **(more or {}),
            "specialist": request.specialist.name,
            "operator": request.operator,
            "agent": self.study.agent.kind,
            "model": request.specialist.model or self.study.agent.model,
            "lineage": self.study.agent.lineage,
            "seed": request.seed,
            "brief": blob_oid(seen),
            "transcript": blob_oid(said) if said else "",
            "usage": asdict(usage),
        }
        return tomli_w.dumps(doc).encode(), [seen, said] if said else [seen]
