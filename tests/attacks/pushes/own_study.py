"""A study of the forger's own lists their key under the evaluator's name, for notes about no trial."""

from gitresearch.repo import blob_oid
from gitresearch.repo.refs import PROPOSALS, STUDIES
from tests.attacks.pushes import nothing, plain
from tests.attacks.victim import Victim

CLAIM = "one key a name"
WITHOUT = {"gitresearch.guard._one_key": nothing}


def attack(victim: Victim) -> None:
    name = victim.repo.evaluator_id()
    text = victim.git("show", "main:study.toml").replace('"honest"', '"evil"')
    files = {"study.toml": text, "allowed_signers": f"{name} {victim.thief.line}\n"}
    victim.git("update-ref", f"{STUDIES}evil", plain(victim, files))
    note = b"nothing came of it\n"
    victim.say(blob_oid(note), note, victim.thief, PROPOSALS + name)
