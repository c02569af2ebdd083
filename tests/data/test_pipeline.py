"""Pipelines over examples that are in memory."""

from __future__ import annotations

import numpy as np

from tasks.data.pipeline import in_batches


def test_batches_have_the_examples_in_their_order_and_the_last_one_may_be_short() -> None:
    x, y = np.arange(10, dtype=np.float32).reshape(5, 2), np.arange(5)

    batches = [tuple(part.numpy() for part in batch) for batch in in_batches(x, y, size=2)]

    assert [len(b) for _, b in batches] == [2, 2, 1]
    assert np.concatenate([a for a, _ in batches]).tobytes() == x.tobytes()
    assert np.concatenate([b for _, b in batches]).tobytes() == y.tobytes()


def test_parts_may_have_names_and_strings() -> None:
    x = {"text": np.array(["one", "two"]), "number": np.array([1.0, 2.0])}

    ((batch,),) = in_batches(x, size=8)

    assert batch["text"].numpy().tolist() == [b"one", b"two"]
    assert batch["number"].dtype == "float64"
