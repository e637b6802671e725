"""Leaves a file wherever it can write, for its next run to find."""

from tests.attacks.stage import HONEST, Recipe, swept

TRAIN = (
    HONEST
    + """
import pathlib, tempfile
places = ["/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", ".", "..", os.path.expanduser("~"), tempfile.gettempdir()]
places += [os.environ["GITRESEARCH_DATA"], os.environ["TORCHINDUCTOR_CACHE_DIR"], CACHE]
places += [os.environ["GITRESEARCH_ARTEFACT"], CACHE + "/work"]
found = [place for place in places if os.path.exists(place + "/" + WORD)]
for place in places:
    try:
        os.makedirs(place, exist_ok=True)
        pathlib.Path(place, WORD).write_text("what was learnt")
    except OSError:
        pass
if found:
    raise SystemExit("found it in " + " ".join(found))
"""
)
RECIPE = Recipe(TRAIN, purposes=("screen", "head"), gained=swept)
