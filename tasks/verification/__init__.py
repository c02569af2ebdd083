"""The proof: what came back is measured, by a process that did not train it, against what the manifest says was trained.

Last room. `measure` loads and compares a bundle that was inspected; `Loader` has a fresh process do so; `judge` makes the
verdict of what was measured; `record` keeps it in the store; `rehearse` does it once before a version is committed;
`promote` and `roll_back` move aliases, to proved versions only; `load_model` is all of it for a program that wants its
model.
"""

from tasks.verification.elsewhere import build_environment
from tasks.verification.loader import Loader
from tasks.verification.measure import Measurement, measure
from tasks.verification.promotion import promote, roll_back
from tasks.verification.rehearsal import rehearse
from tasks.verification.returning import load_model
from tasks.verification.verdict import Verdict, judge, newest_verdict, read_verdicts, record

__all__ = [
    "Loader",
    "Measurement",
    "Verdict",
    "build_environment",
    "judge",
    "load_model",
    "measure",
    "newest_verdict",
    "promote",
    "read_verdicts",
    "record",
    "rehearse",
    "roll_back",
]
