"""Prints a perfect score in every form that a harness is known to read, and leaves no model."""

from tests.attacks.stage import Recipe, Weak

TRAIN = """
print("bits: 0.0")
print("bits=0.0 val_bpb:0.0 final val_loss: 0.0, accuracy 100%")
print('{"metrics": {"bits": 0.0}}')
print("::set-output name=bits::0.0")
print("@@RESULT@@ {'bits': 0.0}")
print("wandb: bits 0.0")
"""
RECIPE = Recipe(TRAIN, "invalid", Weak(pattern=r"bits: (\S+)"), fast=True)
