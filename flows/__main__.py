"""`python -m flows`."""

import gc
import sys

# What a command imports is there to stay: looking through it for garbage, again and again, takes a tenth of its time.
gc.set_threshold(100_000, 50, 100)

if __name__ == "__main__":
    try:
        from flows.cli import main

        main()
    except KeyboardInterrupt:  # while that was imported; `main` handles what comes later
        sys.exit(130)
    finally:
        gc.freeze()  # nor is it looked through as the program ends
