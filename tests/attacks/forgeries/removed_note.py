"""An outcome is taken away again, signed."""

from tests.attacks.victim import Victim

CLAIM = "a note, once made, stays"
WITHOUT = {"gitresearch.audit.notes._gone": lambda *_: False}


def attack(victim: Victim) -> None:
    tip = victim.git("rev-parse", victim.ref).strip()
    victim.git("notes", f"--ref={victim.ref}", "remove", victim.trial("crash"))
    tree = victim.git("rev-parse", f"{victim.ref}^{{tree}}").strip()
    victim.commit(victim.ref, tree, [tip], victim.key)
