"""Faults: a proxy between boto3 and a real S3 server fails every request of every operation, in every way, in turn.

`proxy.py` carries requests and spoils the one that it is told to; `faults.py` names the ways; `operations.py` the
operations; `witness.py` looks at the store afterwards, without a line of ours; `tally.py` counts the outcomes.
`python -m tests.faults` runs all of it and prints the table that tasks/storage/README.md quotes.
"""
