"""The same seed gives the same bits, whatever other threads do meanwhile."""

from __future__ import annotations

import random
import threading

from tasks.training.run import seeded


def _draw_in_another_thread() -> None:
    thread = threading.Thread(target=random.getrandbits, args=(32,))
    thread.start()
    thread.join()


def test_what_another_thread_draws_changes_nothing_here() -> None:
    with seeded(7):
        alone = [random.random() for _ in range(3)]
    with seeded(7):
        disturbed = []
        for _ in range(3):
            _draw_in_another_thread()
            disturbed.append(random.random())

    assert disturbed == alone


def test_random_is_as_it_was_afterwards() -> None:
    before = random.random

    with seeded(7):
        assert random.random is not before

    assert random.random is before
