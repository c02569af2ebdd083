"""The commands, one subject a module; each is thin: parse, call, print.

A command's module is imported when it is named: what one of them needs, no other waits for.
"""

from __future__ import annotations

from importlib import import_module

import click

COMMANDS = {
    "run": "flows.commands.run:run",
    "sweep": "flows.commands.sweep:sweep",
    "return": "flows.commands.return_:return_",
    "reverify": "flows.commands.reverify:reverify",
    "fidelity": "flows.commands.fidelity:fidelity",
    "matrix": "flows.commands.matrix:matrix",
    "fan-out": "flows.commands.fan_out:fan_out",
    "list": "flows.commands.registry:list_",
    "show": "flows.commands.registry:show",
    "promote": "flows.commands.aliases:promote",
    "rollback": "flows.commands.aliases:rollback",
    "rm": "flows.commands.removal:rm",
    "gc": "flows.commands.removal:gc",
    "inspect": "flows.commands.inspect:inspect",
    "trust": "flows.commands.trust:trust",
    "up": "flows.commands.production:up",
    "status": "flows.commands.production:status",
    "logs": "flows.commands.logs:logs",
    "down": "flows.commands.production:down",
    "doctor": "flows.commands.doctor:doctor",
}


class Commands(click.Group):
    """The group of them all, in this order."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command


__all__ = ["COMMANDS", "Commands"]
