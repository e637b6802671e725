"""Goes on answering after the last question, where a slack reader may take it for the next run's."""

from tests.attacks.stage import Recipe, Weak, ends

PREDICT = """
for _ in range(32):
    print("[1, 1]", flush=True)
    input()
print("[0, 1]" * 100, flush=True)
"""
RECIPE = Recipe(status="invalid", weak=Weak("lets_it_talk_on"), predict=PREDICT, gained=ends("ok"))
