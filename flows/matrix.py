"""The flow `matrix`: return one version in several environments, and make the table 'trained under A, returned under B'."""

from prefect import flow

from tasks.settings import StoreConfig
from tasks.steps import fetch, find_version, inspect, rebuild_from, return_elsewhere, tabulate, whole
from tasks.verification.elsewhere import EnvironmentConfig
from tasks.verification.matrix import Matrix
from tasks.verification.returning import Rebuild


@flow(name="matrix", flow_run_name="matrix {reference}")
def matrix(
    reference: str,
    environments: list[EnvironmentConfig],
    model: Rebuild | None = None,
    store: StoreConfig = StoreConfig(),
) -> Matrix:
    """Bring a version back in each environment; every verdict is kept, and no alias is moved.

    Args:
        reference: `model`, `model@alias` or `model@version`.
        environments: One row each.
        model: A definition in place of the manifest's, for formats that rebuild the architecture.
        store: Where the version is.

    Returns:
        The table. An environment that can't be built, or in which the version does not pass, is a row that says why.
    """
    manifest = whole(find_version(reference, store))
    definition = whole(rebuild_from(manifest, model))
    folder = fetch(manifest, None, store)
    inspection = inspect(folder, manifest, None, (), store)
    rows = [return_elsewhere(folder, manifest, inspection, definition, environment, store) for environment in environments]
    return tabulate(manifest, rows)
