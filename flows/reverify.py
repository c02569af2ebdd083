"""The flow `reverify`: prove again that what is stored is what was trained: after an upgrade, and by a schedule.

Each version is a child run of `return`, on an empty cache, so that every byte comes from the store and damage there is seen.
"""

import time

from prefect import flow, tags

from flows.return_model import return_model
from tasks.settings import StoreConfig
from tasks.steps import accept_proofs, find_versions, tabulate_proofs, tell_proof
from tasks.storage.cache import empty_cache
from tasks.verification.reverifying import Proof, proof_of


@flow(name="reverify")
def reverify(
    models: list[str] | None = None,
    alias: str = "latest",
    every_version: bool = False,
    store: StoreConfig = StoreConfig(),
) -> list[Proof]:
    """Verify again what an alias of each model points at, or all there is; one after the other.

    Args:
        models: Patterns of models' names (`digits*`); empty for all.
        alias: Of each model the version that this alias points at.
        every_version: Every version of each model, whatever points at it.
        store: Where.

    Returns:
        How each went. Where one was refused or could not be verified, the run fails, after it has looked at the others.
    """
    proofs = []
    for reference in find_versions(models or [], None if every_version else alias, store):
        started = time.perf_counter()
        # By this tag an automation knows whose runs it watches over; a child does not inherit it.
        with empty_cache(), tags("roundtrip"):
            state = return_model(reference, store=store, return_state=True)
        proof = proof_of(reference, state.result(raise_on_failure=False), time.perf_counter() - started)
        proofs.append(tell_proof(proof))
    tabulate_proofs(proofs)
    return accept_proofs(proofs)
