"""Tests of the storage room against the real embedded server."""
