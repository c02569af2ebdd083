"""The downstream flow `return`: fetch, inspect, prove in a fresh process that it is the model that was trained, promote."""

from prefect import flow

from tasks.settings import StoreConfig
from tasks.steps import accept, build_environment, conclude, fetch, find_version, inspect, measure, rebuild_from, whole
from tasks.verification.elsewhere import EnvironmentConfig
from tasks.verification.returning import Rebuild, Returned


@flow(name="return", flow_run_name="return {reference}")
def return_model(
    reference: str,
    to: str | None = None,
    model: Rebuild | None = None,
    allow: tuple[str, ...] = (),
    environment: EnvironmentConfig | None = None,
    store: StoreConfig = StoreConfig(),
) -> Returned:
    """Bring a version back and prove it; `latest` moves to it where it passed.

    Args:
        reference: `model`, `model@alias` or `model@version`.
        to: Folder for the files; empty for the cache.
        model: A definition in place of the manifest's, for formats that rebuild the architecture.
        allow: Dangerous findings to let through all the same: a kind (`code`), or `kind:where` for one of them. The
            verdict records them, and `latest` does not move.
        environment: Another Python, TensorFlow or Keras to return it in; empty for the one that runs this flow. A verdict of
            another one moves no alias.
        store: Where the version is.

    Returns:
        The version, the folder of its files, and the verdict. A version that did not pass fails the run.
    """
    manifest = whole(find_version(reference, store))
    elsewhere = build_environment(environment, manifest)
    definition = whole(rebuild_from(manifest, model))
    folder = fetch(manifest, to, store)
    inspection = inspect(folder, manifest, model, allow, store)
    measured = measure(folder, manifest, definition, elsewhere)
    return accept(conclude(manifest, inspection, measured, folder, store))
