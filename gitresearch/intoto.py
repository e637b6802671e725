"""Outcomes as in-toto statements in DSSE envelopes, for tools that read those. Pure, but for the key that signs.

What is signed is the payload's bytes with its type (DSSE v1, PAE), not its meaning: who checks needs no canonical JSON.
The statement says what the note says; the note, in its chain of commits, stays the word that counts.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from gitresearch.outcome import Outcome
from gitresearch.signing import Key, fingerprint
from gitresearch.trial import Trial

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:gitresearch:outcome:v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"


def statement(trial: Trial, outcome: Outcome, evaluator: str, notes_commit: str) -> dict[str, Any]:
    """An in-toto Statement v1: its subject is the trial's commit, its predicate the outcome as the evaluator recorded
    it in a notes commit."""
    predicate = {"study": trial.hypothesis.study, "evaluator": evaluator, "notesCommit": notes_commit}
    predicate |= outcome.summary._asdict() | asdict(outcome)
    del predicate["summary"]
    digest = {"gitCommit": trial.oid, "gitTree": trial.tree}
    subject = [{"name": trial.branch, "digest": digest}]
    return {"_type": STATEMENT, "subject": subject, "predicateType": PREDICATE, "predicate": predicate}


def envelope(key: Key, said: Mapping[str, Any]) -> dict[str, Any]:
    """A DSSE envelope with one Ed25519 signature; `keyid` is the key's fingerprint as ssh-keygen shows it."""
    payload = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    signature = {"keyid": fingerprint(key.public), "sig": _text(key.sign_raw(pae(PAYLOAD_TYPE, payload)))}
    return {"payload": _text(payload), "payloadType": PAYLOAD_TYPE, "signatures": [signature]}


def pae(kind: str, payload: bytes) -> bytes:
    """What DSSE v1 signs: the payload's type and bytes, each with its length."""
    return b"DSSEv1 %d %b %d %b" % (len(kind.encode()), kind.encode(), len(payload), payload)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
