"""Tests mirror `tasks/` and `flows/`; `e2e`, `faults` and `benchmarks` stand beside them."""
