"""The trials' commits: true parents, files that a trial may have, and edits within the surface of who made them."""

import re
from collections.abc import Callable, Iterator

from gitresearch.audit.finding import Finding
from gitresearch.errors import FormatError, GitResearchError
from gitresearch.merge import Merge, strays
from gitresearch.policy import ablation
from gitresearch.repo import Repo
from gitresearch.study import Study
from gitresearch.surface import Edits, Surface
from gitresearch.text import one_line
from gitresearch.trial import Trial

ORDINARY = (0o100644, 0o100755)
Known = Callable[[str], Trial | None]


def check(repo: Repo, study: Study, base: str, trial: Trial, known: Known) -> Iterator[Finding]:
    """What is wrong with one trial's commit. `known` gives the study's trial of an oid."""
    about = trial.short
    try:
        for claim, found in _wrong(repo, study, base, trial, known):
            yield Finding(about, claim, found)
    except GitResearchError as error:
        yield Finding(about, "a commit that can be read", error.message)


def _wrong(repo: Repo, study: Study, base: str, trial: Trial, known: Known) -> Iterator[tuple[str, str]]:
    if trial.operator == "baseline":
        if trial != repo.baseline(study.name, base):
            yield "the baseline is the unchanged recipe", "its commit is not the one that the base gives"
        return
    strangers = [oid for oid in trial.parents if oid != base and not known(oid)]
    if strangers or not trial.parents:
        yield "it stands on trials of the study", f"{strangers[0][:8] if strangers else 'nothing'} is none"
        return
    odd = list(_modes(repo, trial))
    yield from odd
    edits = repo.edits(trial.parents[0], trial.oid)
    if not odd:
        yield from _paths(repo, trial, edits)
    yield from _edits(repo, study, trial, edits, known)


def _modes(repo: Repo, trial: Trial) -> Iterator[tuple[str, str]]:
    for path, (old, new) in repo.modes(trial.parents[0], trial.oid).items():
        if new and (new not in ORDINARY or old not in (0, new)):
            yield "ordinary files only", f"{path} has mode {new:o}"


def _paths(repo: Repo, trial: Trial, edits: Edits) -> Iterator[tuple[str, str]]:
    """Its tree made again from its edits, by the rules for whatever is made here: that shows a name that reaches out of
    a checkout or that some system takes for another, and a tree that holds a name twice."""
    try:
        made = repo.tree_with(trial.parents[0], edits)
    except FormatError as error:
        yield "files that every checkout takes", error.message
        return
    if made != trial.tree:
        yield "files that every checkout takes", "its edits give another tree"


def _edits(repo: Repo, study: Study, trial: Trial, edits: Edits, known: Known) -> Iterator[tuple[str, str]]:
    first, root = trial.parents[0], study.recipe.folder
    if trial.operator == "replicate":
        if edits:
            yield "a replicate changes nothing", f"it changes {', '.join(sorted(edits)[:3])}"
        return
    if trial.operator in ("combine", "ablate"):
        merge = _merge_of(repo, trial, root, known)
        if merge is None:
            yield "a merge of its parents", "what it puts together or takes out is not told"
        elif found := strays(merge, edits):
            yield "a merge of its parents", f"{found[0]} holds what neither the merge nor a conflict gives"
        return
    if len(trial.parents) != 1:
        yield "one parent, but for a combination", f"it has {len(trial.parents)}"
    if not _known(study, trial.specialist):
        yield "a specialist of the study", f"it has no {one_line(trial.specialist, 60)}"
    old = {path: data for path in edits if (data := repo.read_file(first, path)) is not None}
    for why in surface_of(study, trial.specialist).violations(old, edits):
        yield "an edit within its surface", f"{why} ({trial.specialist})"


def _merge_of(repo: Repo, trial: Trial, root: str, known: Known) -> Merge | None:
    """The merge that a combination or an ablation stands for, made again."""
    if trial.operator == "combine":
        return repo.merge(*trial.parents, root) if len(trial.parents) == 2 else None
    told = trial.subject.partition(":")[0]
    step = next((other.oid for other in _below(trial, known) if ablation(other) == told), None)
    return repo.without(trial.parents[0], step, root) if step and len(trial.parents) == 1 else None


def _below(trial: Trial, known: Known) -> Iterator[Trial]:
    """The trials that a trial stands on, each once."""
    rest, seen = list(trial.parents), set(trial.parents)
    while rest:
        if one := known(rest.pop()):
            yield one
            rest += [oid for oid in one.parents if oid not in seen]
            seen.update(one.parents)


def _known(study: Study, specialist: str) -> bool:
    """Whether somebody of that name may propose here: one of the study's, a person, or one of another roster."""
    names = {who.name for who in study.specialists}
    return specialist in names or re.fullmatch(r"operator|generalist|generic-[1-9][0-9]?", specialist) is not None


def surface_of(study: Study, specialist: str) -> Surface:
    """What a specialist may edit; who is of another roster (a generalist, a generic) may edit what anybody may."""
    mine = [who.surface for who in study.specialists if who.name == specialist]
    return Surface.of(mine[0] if mine else study.surface)
