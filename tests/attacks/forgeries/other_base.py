"""The study is pinned to another commit, whose signers the forger wrote."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "measured for this base"
ALSO = ("the baseline is the unchanged recipe", "it stands on trials of the study")
WITHOUT = {"gitresearch.audit.outcomes._binding": nothing}


def attack(victim: Victim) -> None:
    mine, forger = f"{victim.repo.evaluator_id()} {victim.key.line}", f"forger {victim.thief.line}"
    (victim.top / "allowed_signers").write_text(f"{mine}\n{forger}\n")
    victim.git("commit", "--quiet", "-am", "the same")
    victim.git("update-ref", "refs/gitresearch/studies/honest", "HEAD")
