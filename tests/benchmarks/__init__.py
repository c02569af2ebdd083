"""Measurements, side by side in one run: `uv run python -m tests.benchmarks NAME [--json]`."""
