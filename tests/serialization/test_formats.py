"""What every format must do: the conformance suite. A new format is in it by being in the registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tasks.definitions import Definition
from tasks.errors import InputError
from tasks.serialization import FORMATS, compare, format_named, restore, tensor_digests
from tasks.serialization.bundle import read_probe
from tasks.serialization.keras_model import seed_states
from tasks.storage import Manifest
from tasks.training import Trained
from tasks.verification import Loader, Verdict, judge
from tests import bundles, samples

DATA = samples.classes()


@pytest.fixture(scope="module", autouse=True)
def loaders() -> Iterator[dict[str, Loader]]:
    """A fresh process for every format, started before they are needed."""
    started = {name: Loader() for name in FORMATS}
    bundles.another_process()  # so that the next modules don't wait for it
    yield started
    for loader in started.values():
        loader.end()


class Stored:
    """A trained model with Dropout and BatchNormalization, its bundle, and what came back of it."""

    def __init__(self, trained: Trained, definition: Definition, format_name: str, folder: Path) -> None:
        self.trained = trained
        self.before = samples.bits(self.trained.model)
        self.folder = folder
        self.manifest: Manifest = bundles.written(self.trained, definition, DATA, format_name, folder)
        self.after = samples.bits(self.trained.model)
        self.restored, self.lost = restore(folder, format_name, definition, self.manifest.carried)


@pytest.fixture(scope="module")
def trained() -> tuple[Trained, Definition]:
    return samples.trained("dropout_and_normalization", DATA)


@pytest.fixture(scope="module", params=FORMATS)
def stored(
    request: pytest.FixtureRequest, trained: tuple[Trained, Definition], tmp_path_factory: pytest.TempPathFactory
) -> Stored:
    return Stored(*trained, request.param, tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def verdict(stored: Stored, loaders: dict[str, Loader]) -> Verdict:
    """Of a process that did not train it."""
    loader = loaders[stored.manifest.format]
    return judge(stored.manifest, loader.measure(stored.folder, stored.manifest, stored.manifest.definition))


def test_saving_leaves_the_live_model_bit_for_bit_as_it_was(stored: Stored) -> None:
    assert stored.after == stored.before


def test_every_weight_comes_back_bit_for_bit(stored: Stored) -> None:
    format_ = format_named(stored.manifest.format)
    found = tensor_digests(format_.variables(stored.restored))
    assert compare(tensor_digests(format_.variables(stored.trained.model)), found) == []
    assert len(found) >= len(stored.trained.model.weights)


def test_the_probe_holds_what_the_trained_model_gives(stored: Stored) -> None:
    x, y, targets = read_probe(stored.folder)
    np.testing.assert_array_equal(format_named(stored.manifest.format).predict(stored.trained.model, x), y)
    np.testing.assert_array_equal(targets, DATA.y_val)


def test_the_history_comes_back(stored: Stored) -> None:
    assert stored.restored.history.curves == stored.trained.history.curves


def test_nothing_is_lost(stored: Stored) -> None:
    assert stored.lost == []


@pytest.mark.parametrize("stored", [f.name for f in FORMATS.values() if f.trainable], indirect=True)
def test_the_state_of_dropout_comes_back_where_a_model_can_be_trained_on(stored: Stored) -> None:
    before, after = seed_states(stored.trained.model), seed_states(stored.restored)
    assert {n: v.tolist() for n, v in after.items()} == {n: v.tolist() for n, v in before.items()} != {}


def test_a_fresh_process_finds_the_model_that_was_trained(verdict: Verdict) -> None:
    assert (verdict.passed, verdict.reasons) == (True, [])
    assert (verdict.loads, verdict.weights_equal, verdict.outputs_equal, verdict.max_abs_diff) == (True, True, True, 0)


def test_a_fresh_process_can_train_on_where_the_format_can(verdict: Verdict, stored: Stored) -> None:
    assert verdict.resumable is (True if format_named(stored.manifest.format).trainable else None)


def test_every_promise_is_kept_in_a_fresh_process(verdict: Verdict, stored: Stored) -> None:
    promises = format_named(stored.manifest.format).promises
    assert {p: verdict.survived[p] for p in promises} == dict.fromkeys(promises, True)


def test_an_unknown_format_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match=r"There is no format 'onnx'. There are: saved-model, weights-h5, full-h5"):
        format_named("onnx")
