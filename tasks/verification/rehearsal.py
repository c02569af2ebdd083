"""The rehearsal: a bundle is brought back before it is committed, so that nothing is published that can't be returned.

It runs beside the upload and on the same files; the commit waits for it. What it finds is what Keras and TensorFlow don't
report: a model that loads without a warning and is another one (FACTS S1 to S10).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tasks.definitions import Definition
from tasks.errors import UnsafeError, VerificationFailed
from tasks.safety import inspect_draft
from tasks.storage import Manifest
from tasks.verification.measure import Measurement
from tasks.verification.verdict import Verdict, judge

Measure = Callable[[Path, Manifest, Definition], Measurement]

_REMEDIES = (
    (
        "it does not load: The process",
        "Bringing it back takes about the memory of the model once more. Publish from a machine with more of it, or see "
        "what ended the process by running with --debug.",
    ),
    (
        "it does not load",
        "The file names something that can't be made again without your code, or that this format can't hold. Use the "
        "scenario weights-h5, which rebuilds the architecture from its definition, or saved-model, which stores the graph.",
    ),
    (
        "weights",
        "These weights are where the format does not look, mostly because their layers are held under a name that Keras "
        "uses itself (`_layers`) or in an object that is no layer. Hold each layer in an attribute with a name of its own, "
        "or use the scenario saved-model.",
    ),
    (
        "outputs",
        "The weights are the same, so the architecture is not: a class whose get_config leaves out an argument of its "
        "constructor comes back with the default. Return all of them from get_config, or use the scenario weights-h5, which "
        "rebuilds the model with the arguments of its definition.",
    ),
    (
        "one more training step",
        "The loss, the optimizer or a frozen layer came back otherwise. Return every argument of your own losses from "
        "get_config, and freeze layers in the definition, not afterwards.",
    ),
    (
        "compile did not survive",
        "The loss or a metric can't be made again from what is stored. Register it with "
        "keras.saving.register_keras_serializable and give it a get_config, compile the model in its definition, or use a "
        "scenario that does not promise it, such as weights-h5.",
    ),
    (
        "optimizer did not survive",
        "The optimizer can't be made again from what is stored. Register your own optimizer with "
        "keras.saving.register_keras_serializable, or use a scenario that does not promise it, such as weights-h5.",
    ),
)


def rehearse(folder: Path, manifest: Manifest, measured_by: Measure) -> None:
    """Bring a bundle back that is about to be committed.

    Args:
        folder: The bundle.
        manifest: As it will be committed, but for its files, whose digests are taken while they are uploaded.
        measured_by: `Loader.measure` of a fresh process.

    Raises:
        VerificationFailed: It came back as another model, or not at all; the message says what would have been lost, and
            what to do.
        UnsafeError: Nobody would be allowed to load it.
        MismatchError: Its definition builds something else each time.
    """
    inspection = inspect_draft(folder, manifest)
    if inspection.refused:
        dangers = "\n  ".join(f"{f.kind}: {f.where}: {f.message}" for f in inspection.refused)
        raise UnsafeError(
            f"{manifest.model} was not published, for everybody's return would refuse it.\n  {dangers}\n"
            "Publish it all the same with --no-rehearsal; who returns it must allow each of these by name."
        )
    verdict = judge(manifest, measured_by(folder, manifest, manifest.definition), inspection)
    if verdict.passed:
        return
    lines = [*verdict.reasons, *(line for line in verdict.lost if line not in verdict.reasons)]
    what = "\n  ".join(lines or ["its outputs could not be compared"])
    raise VerificationFailed(
        f"{manifest.model} was not published: brought back from {manifest.format}, it is not the model that was trained.\n"
        f"  {what}\n{_remedy(verdict)}"
    )


def _remedy(verdict: Verdict) -> str:
    """What to do about the first thing that failed: what comes after it mostly follows from it."""
    found = (remedy for start, remedy in _REMEDIES for reason in verdict.reasons if reason.startswith(start))
    return next(found, "Publish it all the same with --no-rehearsal; it will not become `latest` before it passes.")
