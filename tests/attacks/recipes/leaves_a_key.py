"""Leaves what it learnt in the kernel's session keyring, which the next run inherits as it did."""

import ctypes
import platform

from tests.attacks.stage import HONEST, Recipe, Weak, ends

# add_key and keyctl of x86-64; 10 is a search, -3 the session keyring
TRAIN = (
    """
import ctypes
kernel = ctypes.CDLL(None)
found = kernel.syscall(250, 10, -3, b"user", b"memo", 0) >= 0
kernel.syscall(248, b"user", b"memo", b"what was learnt", 15, -3)
if found:
    raise SystemExit("found the key")
"""
    + HONEST
)


def has_keyrings() -> bool:
    return platform.machine() == "x86_64" and ctypes.CDLL(None).syscall(250, 1, None) >= 0


WEAK = Weak(without={"gitresearch.sandbox.keyring.renew": lambda: None})
RECIPE = Recipe(TRAIN, weak=WEAK, gained=ends("crash"), purposes=("screen", "head"), needs=has_keyrings)
