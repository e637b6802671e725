"""Looks through all that it was given for a file that looks like the labels."""

from tests.attacks.stage import THIEF, Recipe, Weak

TRAIN = THIEF.replace(
    "import json",
    """
steal(os.path.join(folder, name) for top in (os.environ["GITRESEARCH_DATA"], "/tmp", "/opt", "/srv", "/var")
      for folder, _, names in os.walk(top) for name in names)
import json""",
    1,
)
TRAIN = TRAIN.replace(
    '+ "/bits.json"',
    '+ ("/bits.json" if os.path.exists(os.environ["GITRESEARCH_DATA"] + "/bits.json") else "/train/bits.json")',
)
RECIPE = Recipe(TRAIN, weak=Weak("shows_the_labels", without={"gitresearch.evaluate.Evaluator._hide": lambda *_: None}))
