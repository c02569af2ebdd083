"""What a store guarantees: the checks, how they ask, and what `doctor` and every training make of them."""
