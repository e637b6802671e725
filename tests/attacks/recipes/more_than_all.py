"""Predicts with weights that add up to more than one."""

from tests.attacks.stage import Recipe, Weak

PREDICT = """
for _ in range(32):
    print("[9, 9]", flush=True)
    input()
"""
RECIPE = Recipe(weak=Weak("takes_weights_as_they_are"), predict=PREDICT)
