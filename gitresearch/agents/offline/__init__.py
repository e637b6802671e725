"""The embedded agent: edits the recipe's source with no key and no network, steered by what was measured.

It finds the levers in the code of the specialist's surface (`find`), reads every trial of the lineage back as settings
of those levers (`history`), chooses a change (`steer`), makes it byte by byte (`levers`) and says why (`words`). Same
lineage and seed, same proposal.
"""

import time

from gitresearch.agents import Proposal, ProposalFailed, Request, Usage
from gitresearch.agents.offline import words
from gitresearch.agents.offline.history import Archive, Scene, fingerprint
from gitresearch.agents.offline.levers import applied
from gitresearch.agents.offline.steer import Move, Steer
from gitresearch.surface import Edits
from gitresearch.trial import Hypothesis

ASSISTED_BY = "gitresearch-offline:tpe"


class OfflineAgent:
    """Proposes from what it can see; keeps only what it read, never what to do next."""

    reads_lineage = True
    resolves_conflicts = False

    def __init__(self) -> None:
        self._archive = Archive()

    def propose(self, request: Request) -> Proposal:
        """The most promising change that no trial has tried. ProposalFailed where nothing is left to turn."""
        started = time.monotonic()
        scene = self._archive.scene(request)
        if not scene.own:
            raise ProposalFailed(
                f"the surface of {request.specialist.name} holds no number, choice or switch to turn",
                "state a domain in the recipe, like LR: Annotated[float, '1e-4..1e-2 log'] = 1e-3",
            )
        head = request.lineage.head.trial.oid if request.lineage.head else request.parent.oid
        choice = Steer(scene, request.study.objective, head, request.parent.oid, request.operator, request.seed)
        moves = choice.moves()
        for move in moves:
            edits = edits_of(scene, request, move)
            if fingerprint({**request.files, **edits}) not in scene.known:
                return self._answer(scene, request, move, edits, time.monotonic() - started)
        raise ProposalFailed(
            f"every change that {request.specialist.name} finds from {request.parent.short} was tried before",
            "widen a domain in the recipe, or let another specialist go on",
        )

    def _answer(self, scene: Scene, request: Request, move: Move, edits: dict[str, bytes], seconds: float) -> Proposal:
        objective = request.study.objective
        gain = move.gain if objective.direction == "max" or move.gain is None else -move.gain
        expected = float(f"{gain:.3g}") if gain and words.moved(scene, move) else None
        hypothesis = Hypothesis.from_text(
            words.subject(scene.levers, move),
            words.body(scene, objective, move),
            study=request.study.name,
            specialist=request.specialist.name,
            operator=request.operator,
            expected=expected,
            assisted_by=ASSISTED_BY,
        )
        checked: Edits = edits
        return Proposal(hypothesis, checked, Usage(seconds=seconds))


def edits_of(scene: Scene, request: Request, move: Move) -> dict[str, bytes]:
    """The files a move changes, with the change made."""
    splices = [splice for key, value in move.changes.items() for splice in scene.levers[key].splices(value)]
    return applied(request.files, splices)
