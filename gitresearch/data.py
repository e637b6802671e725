"""A study's data: made ready by its hook in the user's cache, and on record there.

The hook's `prepare` may be asked as often as one likes: it checks what is there already and fetches what is not. The
record says what it found when it was last asked. It is for people: what an outcome is bound to is what `prepare` told
the evaluator that made it.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from gitresearch.errors import GitResearchError
from gitresearch.hooks import Hook


@dataclass(frozen=True)
class Prepared:
    """Where the splits lie (empty for none), and what identifies them. The holdout is a second held-out one."""

    train: str = ""
    held_out: str = ""
    digest: str = ""
    holdout: str = ""

    @property
    def folders(self) -> dict[str, Path]:
        splits = {"train": self.train, "held_out": self.held_out, "holdout": self.holdout}
        return {name: Path(path) for name, path in splits.items() if path}


def prepare(hook: Hook, cache: Path, *, aloud: bool = False) -> Prepared:
    """Make the data ready. GitResearchError with the command to type where that can't be. `aloud`: what the hook says
    on stderr meanwhile goes to ours."""
    request = {"cache": str(cache / "data")}
    reply = hook.finish(hook.start("prepare", aloud=aloud), "prepare", request)
    if "error" in reply:
        message, _, hint = str(reply["error"]).partition("; try: ")
        raise GitResearchError(message, hint)
    found = Prepared(**{name: str(reply.get(name) or "") for name in Prepared.__dataclass_fields__})
    record = _record(hook, cache)
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(asdict(found)), "utf-8")
    return found


def require_holdout(found: Prepared) -> None:
    """GitResearchError where there is no second hidden split, and a study asks for one."""
    if not found.holdout or found.holdout == found.held_out:
        raise GitResearchError(
            "the study asks for a holdout (seeds.holdout), and its hook's prepare makes none",
            "set what the hook needs for one under [evaluator.settings], or holdout = 0, in a study of a new name",
        )


def recorded(hook: Hook, cache: Path) -> Prepared | None:
    """What this hook found when it was last asked with these settings; None where it never was."""
    try:
        return Prepared(**json.loads(_record(hook, cache).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def size(folder: Path) -> tuple[int, int]:
    """How many files a folder holds, and their bytes."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return len(sizes), sum(sizes)


def _record(hook: Hook, cache: Path) -> Path:
    asked = json.dumps([hook.digest, hook.settings], sort_keys=True)
    return cache / "prepared" / f"{hashlib.sha256(asked.encode()).hexdigest()[:32]}.json"
