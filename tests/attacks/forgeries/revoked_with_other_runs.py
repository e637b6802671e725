"""An outcome is taken back, and its runs are changed on the way."""

from dataclasses import replace

from gitresearch.witness import revoked
from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "taken back as it was"
ALSO = ("every run is kept",)
WITHOUT = {"gitresearch.audit.witnesses._step": nothing}


def attack(victim: Victim) -> None:
    oid = victim.trial("discard")
    told = victim.outcome(oid)
    runs = (replace(told.runs[0], metrics={"val_loss": 9.0}), *told.runs[1:])
    victim.say(oid, revoked(replace(told, runs=runs), "the disk was full"), victim.key)
