"""The proof: what came back is measured, by a process that did not train it, against what the manifest says was trained.

Last room. `measure` inspects, loads and compares a fetched bundle; `Loader` has a fresh process do so; `judge` makes the
verdict of what was measured; `record` keeps it in the store; `rehearse` does it once before a version is committed;
`load_model` is all of it for a program that wants its model.
"""

from tasks.verification.loader import Loader
from tasks.verification.measure import Measurement, measure
from tasks.verification.rehearsal import rehearse
from tasks.verification.returning import load_model
from tasks.verification.verdict import Verdict, judge, read_verdicts, record

__all__ = [
    "Loader",
    "Measurement",
    "Verdict",
    "judge",
    "load_model",
    "measure",
    "read_verdicts",
    "record",
    "rehearse",
]
