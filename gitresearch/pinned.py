"""What a study's base commit says: the question, and whose outcomes it takes. No other commit may say either."""

from gitresearch.errors import FormatError, GitResearchError
from gitresearch.repo import Repo
from gitresearch.signing import Signer, signers
from gitresearch.study import SIGNERS_FILE, STUDY_FILE, Study, StudyError, load


def study_of(repo: Repo, name: str, base: str) -> Study:
    """The study that a base commit holds under this name. StudyError where it holds none, or another."""
    data = repo.read_file(base, STUDY_FILE)
    if data is None:
        raise StudyError(f"the base commit {base[:8]} of study {name} holds no {STUDY_FILE}", "gitresearch init")
    study = load(data.decode("utf-8", "replace"), f"{base[:8]}:{STUDY_FILE}")
    if study.name != name:
        raise StudyError(f"the base commit {base[:8]} of study {name} holds study {study.name}", "gitresearch init")
    return study


def listed_signers(repo: Repo, base: str) -> list[Signer]:
    """The keys that a study takes outcomes from, by its base commit."""
    data = repo.read_file(base, SIGNERS_FILE)
    return read_signers(data, f"{base[:8]}:{SIGNERS_FILE}") if data is not None else []


def read_signers(data: bytes, where: str) -> list[Signer]:
    """The keys that a file lists; an error that names the file."""
    try:
        return signers(data.decode("utf-8", "replace"))
    except FormatError as error:
        why = f"{where} can't be read: {error.message}"
        raise GitResearchError(why, "man ssh-keygen, under ALLOWED SIGNERS; gitresearch key prints a line") from None
