"""The audit of one study, from its notes refs down to each number."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gitresearch.audit import holdouts, notes, outcomes, trials, witnesses
from gitresearch.audit.finding import Finding
from gitresearch.audit.outcomes import Pins
from gitresearch.hooks import files_digest
from gitresearch.lineage import Lineage
from gitresearch.outcome import Outcome, Run, Summary, is_witness, precedence
from gitresearch.repo import Record, Repo, Start
from gitresearch.repo.ledger import uncollected
from gitresearch.repo.refs import OUTCOMES
from gitresearch.signing import Signer
from gitresearch.study import Study
from gitresearch.trial import Trial
from gitresearch.witness import facts_of


@dataclass
class Report:
    """What was looked at, what was found, and the tips of the notes refs that were walked without a finding."""

    trials: int = 0
    outcomes: int = 0
    commits: int = 0
    evaluators: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    refuted: list[str] = field(default_factory=list)  # trials that came to something else when they were measured again
    tips: dict[str, str] = field(default_factory=dict)


@uncollected()
def audit(
    repo: Repo, study: Study, base: str, known: Sequence[Signer], seen: Mapping[str, str] | None = None
) -> Report:
    """Everything that the study claims, derived again. `known` are the signers to be believed; `seen` the tips of notes
    refs that an earlier audit walked, which must still stand below."""
    report = Report()
    report.findings += [Finding("the repository", "history as it was made", why) for why in repo.rewritings()]
    chains = [notes.read(repo, ref, *owner, known) for ref, owner in repo.notes_refs().items()]
    records = repo.trials(study.name)
    known_trials = {record.trial.oid: record.trial for record in records}
    for chain in chains:
        # Evaluators of another study need not be listed by this one.
        elsewhere = len(repo.studies()) > 1 and chain.about.isdisjoint(known_trials)
        report.findings += [one for one in chain.findings if not (elsewhere and one.claim == notes.SIGNED)]
        report.commits += len(chain.commits)
    report.findings += _unseen(chains, seen or {})
    report.findings += _odd(repo)
    for record in records:
        report.findings += trials.check(repo, study, base, record.trial, known_trials.get)
    report.trials = len(records)
    told = [chain for chain in chains if chain.ref.startswith(OUTCOMES)]
    report.evaluators = sorted({chain.evaluator for chain in told if chain.versions})
    report.outcomes = sum(len(chain.versions) for chain in told)
    report.refuted = sorted({oid[:8] for chain in told for oid in chain.versions if _refuted(chain.versions[oid][-1])})
    report.findings += _outcomes(repo, study, base, told, known_trials)
    report.findings += _runs(study, told, known_trials)
    report.findings += _best(repo, study, records, told)
    report.findings = sorted(set(report.findings))
    wrong = {one.about.partition(" at ")[0] for one in report.findings}
    report.tips = {ref: tip for ref, (_, tip) in repo.notes_refs().items() if ref not in wrong}
    return report


def _refuted(outcome: Outcome) -> bool:
    return facts_of(outcome).get("verdict") == "differs"


def _unseen(chains: Sequence[notes.Chain], seen: Mapping[str, str]) -> Iterator[Finding]:
    """Notes that were there at the last audit and are no more."""
    walked = {chain.ref: chain.commits for chain in chains}
    for ref, tip in seen.items():
        if tip not in walked.get(ref, set()):
            yield Finding(
                ref, "notes are only added to", f"{tip[:8]}, seen by an earlier audit, is no part of it any more"
            )


def _outcomes(
    repo: Repo, study: Study, base: str, chains: Sequence[notes.Chain], known: Mapping[str, Trial]
) -> Iterator[Finding]:
    pins = Pins(base, hook_digest(repo, study, base), _data(chains, known))
    elsewhere = _of_other_studies(repo, study)
    for chain in chains:
        for oid, said in chain.versions.items():
            if oid in known:
                yield from _outcome(study, known[oid], said, pins)
            elif oid not in elsewhere:
                yield from _branchless(chain, oid)
    mine = [{oid: said for oid, said in chain.versions.items() if oid in known} for chain in chains]
    between = (*outcomes.across(study, mine), *witnesses.across(mine), *holdouts.across(study, mine))
    for oid, claim, found in between:
        yield Finding(oid[:8], claim, found)


def _outcome(study: Study, trial: Trial, said: Sequence[Outcome], pins: Pins) -> Iterator[Finding]:
    for claim, found in (
        *outcomes.check(study, trial, said[-1], pins), *witnesses.check(study, trial, said),
        *holdouts.check(study, said[-1]), *_earlier(study, said),
    ):  # fmt: skip
        yield Finding(trial.short, claim, found)


def _earlier(study: Study, said: Sequence[Outcome]) -> outcomes.Wrong:
    """A score that stood for a moment may have been the reference of another trial's verdict."""
    for one in said[:-1]:
        yield from outcomes.figures(study, one)


def _runs(study: Study, chains: Sequence[notes.Chain], known: Mapping[str, Trial]) -> Iterator[Finding]:
    """Every run was started by somebody before it was measured, and every one that was started came to something."""
    last = {oid: [chain.versions[oid][-1] for chain in chains if oid in chain.versions] for oid in known}
    for oid, run in _unstarted(chains, last):
        yield Finding(oid[:8], "a run that was started", f"seed {run.seed} ({run.purpose}) never was")
    for chain in chains:
        for start in _overdue(chain, last, study.longest_run):
            told = f"of seed {start.seed} ({start.purpose}) nothing is told but that it was started"
            yield Finding(start.trial[:8], notes.RECORDED, told)


def _unstarted(chains: Sequence[notes.Chain], last: Mapping[str, Sequence[Outcome]]) -> Iterator[tuple[str, Run]]:
    started = {(oid, one.seed, one.purpose) for chain in chains for oid, made in chain.starts.items() for one in made}
    for oid, outcomes_ in last.items():
        runs = [run for outcome in outcomes_ for run in outcome.runs]
        yield from ((oid, run) for run in runs if (oid, run.seed, run.purpose) not in started)


def _overdue(chain: notes.Chain, last: Mapping[str, Sequence[Outcome]], longest: float) -> Iterator[Start]:
    """Runs without a result that can't be under way any more: the evaluator wrote on for longer than a run can take."""
    for oid in chain.starts.keys() & last.keys():
        missing = notes.without_result(chain.starts[oid], last[oid])
        yield from (start for start in missing if chain.latest - start.time > longest)


def _odd(repo: Repo) -> Iterator[Finding]:
    """Branches under the trials' names that are none: moved ones, too."""
    for odd in repo.oddities:
        yield Finding(odd.ref, "a trial's branch", odd.why)


def _branchless(chain: notes.Chain, oid: str) -> Iterator[Finding]:
    yield Finding(oid[:8], "a trial with a branch", f"{chain.evaluator} measured it; the branch is gone")


def _data(chains: Sequence[notes.Chain], known: Mapping[str, Trial]) -> str | None:
    """The data's digest that the baseline was measured on: every other outcome must name the same."""
    for chain in chains:
        for oid, said in chain.versions.items():
            if oid in known and known[oid].operator == "baseline" and not is_witness(said[0]):
                return str(said[0].binding.get("data", ""))
    return None


def hook_digest(repo: Repo, study: Study, base: str) -> str:
    """What the base commit's hook is called by, as the evaluator names it."""
    hook = study.evaluator.hook
    if not hook:
        return ""
    folder = hook.rpartition("/")[0]
    files = repo.files(base, folder)
    return files_digest({path.removeprefix(f"{folder}/"): repo.blob(file.oid) for path, file in files.items()})


def _of_other_studies(repo: Repo, study: Study) -> set[str]:
    return {record.trial.oid for name in repo.studies() if name != study.name for record in repo.trials(name)}


def _best(repo: Repo, study: Study, records: Sequence[Record], chains: Sequence[notes.Chain]) -> Iterator[Finding]:
    """`best/<study>` is what the notes say is best, or was before: a kill can come between a claim's outcome and the
    branch, and the next run moves it."""
    said = [record._replace(summary=_counting(chains, record.trial.oid), broken="") for record in records]
    best, pointed = Lineage.of(study.objective, said).best, repo.best(study.name)
    if pointed and (best is None or best.trial.oid != pointed):
        others = [record for record in said if best and record.trial.oid != best.trial.oid]
        before = Lineage.of(study.objective, others).best
        if before and before.trial.oid == pointed:
            return
        made = best.trial.short if best else "nothing"
        yield Finding(f"best/{study.name}", "it points at the best confirmed trial", f"{pointed[:8]}, not {made}")


def _counting(chains: Sequence[notes.Chain], oid: str) -> Summary | None:
    """Of all outcomes of a trial the one that counts."""
    found = [(chain.versions[oid][-1].summary, chain.evaluator) for chain in chains if oid in chain.versions]
    return min(found, key=lambda one: (precedence(one[0]), one[1]))[0] if found else None
