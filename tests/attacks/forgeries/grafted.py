"""A graft gives a trial another parent."""

from tests.attacks.victim import Victim

CLAIM = "history as it was made"
WITHOUT = {"gitresearch.repo.Repo.rewritings": lambda _self: []}


def attack(victim: Victim) -> None:
    info = victim.top / ".git" / "info"
    info.mkdir(exist_ok=True)
    (info / "grafts").write_text(f"{victim.trial('discard')} {victim.trial('keep')}\n")
