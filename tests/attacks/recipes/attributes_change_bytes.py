"""Commits attributes that change the bytes of its files on the way to the disk."""

from tests.attacks.stage import HONEST, Recipe, Weak, ends
from tests.attacks.weaker import checkout

ATTRIBUTES = "* text eol=crlf ident\ntrain.py filter=evil\nhidden.py export-ignore\n"
TRAIN = (
    "# $Id$\n"
    + HONEST
    + """
own = open("train.py", "rb").read()
if b"$Id$" not in own or b"\\r" in own or b"swap" + b"ped" in own or not os.path.exists("hidden.py"):
    raise SystemExit("not what was committed")
"""
)
RECIPE = Recipe(
    TRAIN, files={".gitattributes": ATTRIBUTES, "hidden.py": ""}, gained=ends("crash"),
    weak=Weak(without={"gitresearch.repo.content.Content.export": checkout}), fast=True
)  # fmt: skip
