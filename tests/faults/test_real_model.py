"""Models of TensorFlow, for the last word: what was published through a fault is what was trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import RoundtripError
from tasks.serialization import write_bundle
from tasks.storage import fetch, publish, read_manifest
from tasks.verification import judge, measure
from tests.faults.campaign import Ground
from tests.faults.faults import FAULTS, Recorded, Spoiler, When
from tests.faults.proxy import passed_on
from tests.faults.world import World

MANIFEST = Recorded("PUT model/versions/*/manifest.json", 0, 1, 0)
VARIABLES = Recorded("PUT model/versions/*/model/variables/variables.data-00000-of-00001", 0, 1, 0)


@pytest.mark.e2e
def test_a_real_model_published_through_faults_is_the_one_that_was_trained(ground: Ground, tmp_path: Path) -> None:
    from tests import bundles, samples  # TensorFlow; the other tests of this folder go without

    data = samples.classes()
    trained, definition = samples.trained("dropout_and_normalization", data)
    bundle = write_bundle(trained, definition, data, "saved-model", tmp_path / "bundle")
    world = World(ground.clients, ground.proxy, ground.folder)
    for fault in (fault for fault in FAULTS if fault.name in {"answer lost", "reset while sending", "byte flipped up"}):
        for target in (MANIFEST, VARIABLES):
            for when in (When.ONCE, When.ONWARDS):
                manifest = bundles.manifest_of(bundle)
                spoiler = Spoiler(fault, target, when)
                world.case.intercept = spoiler
                try:
                    publish(world.proxied(), bundle.folder, manifest)
                except RoundtripError:
                    assert when is When.ONWARDS
                world.case.settle()
                world.case.intercept = passed_on
                assert spoiler.struck
                assert world.witness.complaints() == []
    published = sorted(version for model, version in world.witness.whole if model == "model")
    assert len(published) >= 6  # all that failed once only
    for version in published:
        manifest = read_manifest(world.direct, "model", version)
        folder = fetch(world.direct, manifest, world.place())
        verdict = judge(manifest, measure(folder, manifest, definition)[0])
        assert verdict.passed, verdict.reasons
