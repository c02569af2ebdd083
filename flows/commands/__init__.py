"""The commands, one subject a module; each is thin: parse, call, print."""

import click

from flows.commands.aliases import promote, rollback
from flows.commands.inspect import inspect
from flows.commands.registry import list_, show
from flows.commands.removal import gc, rm
from flows.commands.return_ import return_
from flows.commands.run import run
from flows.commands.trust import trust

COMMANDS: tuple[click.Command, ...] = (run, return_, list_, show, promote, rollback, rm, gc, inspect, trust)

__all__ = ["COMMANDS"]
