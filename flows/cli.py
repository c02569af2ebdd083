"""The command line, thin: parse, call, print.

Exit codes: 0 done and verified; 1 verification failed; 2 wrong usage or input; 3 refused as unsafe or tampered; 4 store or
server unreachable; 5 not found; 130 interrupted.
"""

from __future__ import annotations

import signal
import sys
import traceback
from typing import NoReturn

import click

from flows.commands import Commands
from flows.commands.common import INTERRUPTED, common, print_json, say
from flows.commands.run import run_jobs
from flows.scenarios import MAIN_JOB
from tasks.errors import InputError, RoundtripError

_USAGE = 2


@click.group(cls=Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@common
@click.pass_context
def cli(context: click.Context, as_json: bool, debug: bool) -> None:
    """Train TensorFlow models, store them in S3, bring them back in another process, and prove that they are the same.

    Without a command: the main job. Three scenarios (a SavedModel from a custom loop, HDF5 weights, a whole model in HDF5)
    are trained, published, returned in another process and compared, and a table says what survived.

    With nothing configured, a local S3 server and a local Prefect server start beside the program and stop with it; the
    models stay. For your own store set ROUNDTRIP_STORE=s3://bucket/prefix and the AWS SDK's own variables; for your own
    Prefect server set PREFECT_API_URL.
    """
    context.obj = {"json": as_json, "debug": debug}
    if context.invoked_subcommand is None:
        run_jobs(list(MAIN_JOB), {}, None, as_json, debug)


def main() -> NoReturn:
    """Run the command line; every error becomes one clear message and its exit code."""
    as_json, debug = "--json" in sys.argv, "--debug" in sys.argv
    # A polite end is an interruption like Ctrl-C: what was started is stopped.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        if not as_json:
            error.show()
            sys.exit(_USAGE)
        _fail(InputError(error.format_message()), as_json, debug)
    except (KeyboardInterrupt, click.Abort):
        if as_json:
            print_json({"error": {"kind": "interrupted", "message": "Interrupted.", "exit_code": INTERRUPTED}})
        else:
            said = "Interrupted. What was not committed is invisible and will be cleaned up."
            click.echo(f"\n{said} The same command goes on from the last checkpoint, if there was one.", err=True)
        sys.exit(INTERRUPTED)
    except RoundtripError as error:
        _fail(error, as_json, debug)
    except Exception as error:
        # A bug of ours, or something that nobody foresaw: still one message, the traceback on demand.
        _fail(RoundtripError(f"{type(error).__name__}: {error}"), as_json, debug, cause=error)
    sys.exit(0)


def _fail(error: RoundtripError, as_json: bool, debug: bool, cause: BaseException | None = None) -> NoReturn:
    if debug:
        traceback.print_exception(cause or error)
    if as_json:
        print_json({"error": error.to_json()})
    else:
        say(error)
    sys.exit(error.exit_code)


def _interrupt(number: int, frame: object) -> NoReturn:
    del number, frame
    raise KeyboardInterrupt
