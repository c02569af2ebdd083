"""Every Prefect task, a few lines each, in the order of the journey. The only package of `tasks` that imports Prefect.

Tasks hand each other references, paths and small records, and within one flow run the live model; nothing is persisted as a
result (a 200 MB model would be pickled and kept twice). What can fail by bad luck is retried: the store's tasks, on top of
boto3's own attempts. What fails by bad input is not, for it would fail again.
"""

from tasks.observing import name_subjects
from tasks.steps.downstream import (
    accept,
    build_environment,
    conclude,
    fetch,
    find_version,
    inspect,
    measure,
    measuring_with,
    rebuild_from,
    return_elsewhere,
    tabulate,
    whole,
)
from tasks.steps.listening import reporting_to
from tasks.steps.pools import accept_runs, start_run, tabulate_runs, wait_for_proofs, wait_for_runs
from tasks.steps.stores import open_early
from tasks.steps.survival import keep_table, measure_row, rows_of
from tasks.steps.sweeping import accept_sweep, begin_sweep, keep_choice, look_ahead, summed_up, tries_of, try_combination
from tasks.steps.upkeep import (
    accept_proofs,
    find_garbage,
    find_versions,
    remove_garbage,
    send_alarm,
    show_alarm,
    tabulate_proofs,
    tell_proof,
)
from tasks.steps.upstream import (
    as_trial,
    check_store,
    define,
    join,
    load_data,
    publish,
    serialize,
    train_with_custom_loop,
    train_with_fit,
)

name_subjects()  # in every log line of a run, from its beginning

__all__ = [
    "accept",
    "accept_proofs",
    "accept_runs",
    "accept_sweep",
    "as_trial",
    "begin_sweep",
    "build_environment",
    "check_store",
    "conclude",
    "define",
    "fetch",
    "find_garbage",
    "find_version",
    "find_versions",
    "inspect",
    "join",
    "keep_choice",
    "keep_table",
    "load_data",
    "look_ahead",
    "measure",
    "measure_row",
    "measuring_with",
    "open_early",
    "publish",
    "rebuild_from",
    "remove_garbage",
    "reporting_to",
    "return_elsewhere",
    "rows_of",
    "send_alarm",
    "serialize",
    "show_alarm",
    "start_run",
    "summed_up",
    "tabulate",
    "tabulate_proofs",
    "tabulate_runs",
    "tell_proof",
    "train_with_custom_loop",
    "train_with_fit",
    "tries_of",
    "try_combination",
    "wait_for_proofs",
    "wait_for_runs",
    "whole",
]
