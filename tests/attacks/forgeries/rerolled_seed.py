"""A screening run goes badly; its outcome is written without it, on another seed."""

from dataclasses import replace

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "every run that was started is recorded"
WITHOUT = {"gitresearch.audit.notes._unrecorded": nothing}


def attack(victim: Victim) -> None:
    base = victim.trial("baseline")
    oid = victim.add(base, {"train.py": victim.source(base).replace(b"LR = 0.1", b"LR = 0.7")})
    told = victim.outcome(victim.trial("discard"))
    victim.start(oid, 666, "screen")
    victim.start(oid, told.runs[0].seed, "screen")
    binding = {**told.binding, "commit": oid, "tree": victim.git("rev-parse", f"{oid}^{{tree}}").strip()}
    victim.say(oid, replace(told, binding=binding), victim.key)
