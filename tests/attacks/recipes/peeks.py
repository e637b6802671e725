"""Waits for the next bit to be revealed before it says what it expects."""

from tests.attacks.stage import Recipe, Weak

PREDICT = """
import sys
for line in sys.stdin:
    print("[0, 1]" if line.strip() == "1" else "[1, 0]", flush=True)
"""
RECIPE = Recipe(status="eval_budget_overrun", weak=Weak("reveals_early"), predict=PREDICT, budget={"score": 1.5})
