"""Upkeep: what there is, which versions stay, and how the others go."""
