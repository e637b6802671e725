"""The study is pinned to another commit, whose signers the forger wrote."""

from gitresearch.repo.refs import STUDIES
from tests.attacks.pushes import nothing, plain, weakened
from tests.attacks.victim import Victim

CLAIM = "a study keeps its base commit"
WITHOUT = weakened(STUDIES, moves=nothing)


def attack(victim: Victim) -> None:
    files = {"study.toml": victim.git("show", "main:study.toml"), "allowed_signers": f"* {victim.thief.line}\n"}
    victim.git("update-ref", f"{STUDIES}honest", plain(victim, files))
