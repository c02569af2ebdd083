from __future__ import annotations

from tasks.storage import alias_history, embedded, list_versions, resolve
from tasks.storage.upkeep.collect import carry_out, plan
from tasks.storage.upkeep.retention import Retention
from tests.faults.campaign import Ground
from tests.faults.crowds import MODEL, crowd
from tests.faults.victims import PROCESSES
from tests.faults.world import TINY, World, verdict_of

_PROCESSES, _PUBLISHERS, _PROMOTERS, _OLD = 8, 32, 16, 6
_KEPT = Retention(keep_last=_PROMOTERS + _PUBLISHERS)


def test_publishers_promoters_and_gc_of_one_model_take_nothing_from_each_other(
    ground: Ground, s3: embedded.EmbeddedStore
) -> None:
    world = World(ground.clients, ground.proxy, ground.folder)
    old = [world.published(TINY) for _ in range(_OLD)]
    world.witness.removable |= {(m.model, m.version) for m in [world.first, *old]}
    candidates = [world.verified() for _ in range(_PROMOTERS)]
    start = PROCESSES.Barrier(_PROCESSES)
    share = _PROMOTERS // _PROCESSES
    crowds = [
        PROCESSES.Process(
            target=crowd,
            args=(
                s3.access,
                world.direct.prefix,
                world.place(),
                _PUBLISHERS // _PROCESSES,
                [m.version for m in candidates[number * share : (number + 1) * share]],
                [verdict_of(m).id for m in candidates[number * share : (number + 1) * share]],
                start,
            ),
        )
        for number in range(_PROCESSES)
    ]
    for each in crowds:
        each.start()
    while any(each.is_alive() for each in crowds):
        carry_out(world.direct, plan(world.direct, _KEPT, [MODEL]))
    assert [each.exitcode for each in crowds] == [0] * _PROCESSES

    carry_out(world.direct, plan(world.direct, _KEPT, [MODEL]))
    assert world.witness.complaints() == []
    versions = list_versions(world.direct, MODEL)
    assert len(versions) == _PROMOTERS + _PUBLISHERS
    assert {m.version for m in candidates} < set(versions)
    production = [revision.version for revision in reversed(alias_history(world.direct, MODEL, "production"))]
    assert production[0] == world.first.version
    assert sorted(production[1:]) == sorted(m.version for m in candidates)
    latest = [revision.version for revision in reversed(alias_history(world.direct, MODEL, "latest"))]
    assert latest == sorted(set(latest))
    assert resolve(world.direct, MODEL) == (MODEL, max(versions))
