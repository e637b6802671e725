"""A trial carries a submodule."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import NAME, Victim

CLAIM = "ordinary files only"
ALSO = ("an edit within its surface", "a commit that can be read")
WITHOUT = {"gitresearch.audit.trials._modes": nothing}


def attack(victim: Victim) -> None:
    head = victim.git("rev-parse", "main").strip()
    tree = victim.git("ls-tree", "main") + f"160000 commit {head}\tlib\n"
    made = victim.aside("mktree", "--missing", given=tree.encode())
    message = f"a change\n\nStudy: {NAME}\nSpecialist: rate\nOperator: improve"
    oid = victim.git("commit-tree", made, "-p", "main", "-m", message).strip()
    victim.git("update-ref", f"refs/heads/trial/{NAME}/a-change-{oid[:8]}", oid)
