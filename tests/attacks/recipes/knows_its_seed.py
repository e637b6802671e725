"""Carries lucky answers for the seed that it expects to be run with."""

from tests.attacks.stage import HONEST, Recipe, Weak, ends

TRAIN = (
    HONEST
    + """
if os.environ["GITRESEARCH_SEED"] == "7":
    raise SystemExit("the seed I waited for")
"""
)
RECIPE = Recipe(TRAIN, gained=ends("crash"), weak=Weak(without={"gitresearch.lab.draw_seed": lambda: 7}))
