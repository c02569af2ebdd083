"""The proof: what came back is measured, by a process that did not train it, against what the manifest says was trained.

Last room. `measure` loads and compares a bundle that was inspected; `Loader` has a fresh process do so; `judge` makes the
verdict of what was measured; `record` keeps it in the store; `load_model` is all of it for a program that wants its model.
"""

from tasks.verification.loader import Loader
from tasks.verification.measure import Measurement, measure
from tasks.verification.returning import load_model
from tasks.verification.verdict import Verdict, judge, read_verdicts, record

__all__ = ["Loader", "Measurement", "Verdict", "judge", "load_model", "measure", "read_verdicts", "record"]
