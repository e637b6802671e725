"""A true signature of one notes commit is put on another."""

from gitresearch.repo.objects import print_commit, signed_part
from tests.attacks.victim import Victim
from tests.build import put_raw

CLAIM = "the evaluator signed it"
ALSO = (
    "every run is kept",
    "every run that was started is recorded",
    "it points at the best confirmed trial",
)
WITHOUT = {"gitresearch.audit.notes._unsigned": lambda *_: ""}


def attack(victim: Victim) -> None:
    tip = victim.git("rev-parse", victim.ref).strip()
    raw = victim.git("cat-file", "commit", tip).encode()
    _, signature = signed_part(raw)
    who = "Ada Tester <ada@example.org> 1800000000 +0000"
    tree = victim.git("rev-parse", f"{tip}~1^{{tree}}").strip()
    made = print_commit(tree, [tip], who, who, "outcome\n")
    head, _, body = made.partition(b"\n\n")
    lines = signature.replace("\n", "\n ").encode()
    victim.git("update-ref", victim.ref, put_raw(victim.repo, "commit", b"%b\ngpgsig %b\n\n%b" % (head, lines, body)))
