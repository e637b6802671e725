"""A branch differs from a trial's by its letters alone, which some servers take for the same."""

from tests.attacks.victim import Victim

CLAIM = "names in lower case"
WITHOUT = {"gitresearch.guard._is": lambda ref, space: ref.startswith(space)}


def attack(victim: Victim) -> None:
    branch = victim.repo.trial(victim.trial("crash")).branch
    victim.git("update-ref", f"refs/heads/{branch.replace('trial/', 'TRIAL/')}", victim.trial("keep"))
