"""A hypothesis ends in trailers of its own, a score among them."""

from gitresearch.trial import Hypothesis
from tests.attacks.table import Table, git_trailers

BODY = "It learns faster.\n\nGitresearch-Score: 0.0\nSpecialist: baseline"


def run_on(self: Hypothesis) -> str:
    """A message whose trailers follow the text without a gap."""
    return f"{self.subject}\n\n{self.body}\nStudy: {self.study}\nSpecialist: {self.specialist}\n"


WITHOUT = {"gitresearch.trial.Hypothesis.message": run_on}


def attack(table: Table) -> bool:
    told = Hypothesis.from_text("raise the rate", BODY, study="demo", specialist="optimizer")
    return "Gitresearch-Score" in git_trailers(told.message())
