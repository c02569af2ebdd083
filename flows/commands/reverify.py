"""`python -m flows reverify`: prove again that what is stored is what was trained."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import click

from flows.commands.common import common, finish, quiet


@click.command()
@click.argument("models", nargs=-1, metavar="[MODEL...]")
@click.option("--alias", default="latest", show_default=True, metavar="NAME", help="Of each model what this points at.")
@click.option("--all", "every_version", is_flag=True, help="Every version of each model.")
@common
def reverify(models: Sequence[str], alias: str, every_version: bool, as_json: bool, debug: bool) -> None:
    r"""Verify again what is in the store: after an upgrade of TensorFlow or Keras, or when you doubt the store.

    Each version is fetched anew, past the cache, and proved like `return` does it, in a process of its own; the verdicts are
    kept. No alias leaves a version that is refused now: `rollback` does that, and passes over what failed. MODEL may be a
    pattern. The exit code is that of the gravest thing found, once all have been looked at.

    \b
    Examples:
      python -m flows reverify
      python -m flows reverify 'digits*' --alias production
      python -m flows reverify --all --json
    """
    quiet(debug)
    proofs = _proofs(models, alias, every_version, debug)
    from tasks.verification.reverifying import shortfall

    passed = sum(proof.outcome == "verified" for proof in proofs)
    document = {"passed": passed == len(proofs), "versions": [proof.model_dump(mode="json") for proof in proofs]}
    finish(document, as_json, shortfall(proofs), lambda: click.echo(f"{passed} of {len(proofs)} verified"))


def _proofs(models: Sequence[str], alias: str, every_version: bool, debug: bool) -> list[Any]:
    """Run the flow here. The servers start and the nursery imports TensorFlow while this process imports Prefect."""
    from flows.server import Servers

    servers = Servers("tasks.verification.measuring", debug=debug)
    from flows.reverify import reverify as reverify_flow
    from tasks.steps import reporting_to
    from tasks.verification.reverifying import Proof

    proofs: list[Proof] = []

    def tell(news: Any) -> None:
        if isinstance(news, Proof):
            proofs.append(news)
            why = f": {news.why}" if news.why else ""
            click.echo(f"{news.outcome}  {news.reference}  {news.seconds:.1f} s{why}", err=True)

    with closing(servers), reporting_to(tell):
        servers.wait_until_up()
        # Failed runs are rows here, and the document's error is made of them.
        state: Any = reverify_flow(list(models), alias, every_version, return_state=True)
    error = state.result(raise_on_failure=False)
    if isinstance(error, BaseException) and getattr(error, "outcome", None) is None:
        raise error  # it never came to a table
    return proofs
