"""Predicts with a negative weight, so that the other's share passes one."""

from tests.attacks.stage import Recipe, Weak, ends

PREDICT = """
for _ in range(32):
    print("[-3, 4]", flush=True)
    input()
"""
RECIPE = Recipe(
    status="invalid",
    weak=Weak("takes_weights_as_they_are"),
    predict=PREDICT,
    gained=ends("crash", "ok", "harness_abort"),
)
