"""`python -m flows`."""

import gc

# What a command imports is there to stay: looking through it for garbage, again and again, takes a tenth of its time.
gc.set_threshold(100_000, 50, 100)

from flows.cli import main  # noqa: E402

if __name__ == "__main__":
    try:
        main()
    finally:
        gc.freeze()  # nor is it looked through as the program ends
