"""The commands, one subject a module; each is thin: parse, call, print."""

import click

from flows.commands.aliases import promote, rollback
from flows.commands.doctor import doctor
from flows.commands.inspect import inspect
from flows.commands.matrix import matrix
from flows.commands.registry import list_, show
from flows.commands.removal import gc, rm
from flows.commands.return_ import return_
from flows.commands.run import run

COMMANDS: tuple[click.Command, ...] = (run, return_, matrix, list_, show, promote, rollback, rm, gc, inspect, doctor)

__all__ = ["COMMANDS"]
