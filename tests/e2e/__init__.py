"""Whole commands, each in processes of its own."""
