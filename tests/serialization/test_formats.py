"""What every format must do: the conformance suite. A new format is in it by being in the registry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tasks.definitions import Definition
from tasks.errors import InputError
from tasks.serialization import FORMATS, compare, format_named, restore, tensor_digests, usable_format
from tasks.serialization.bundle import read_probe
from tasks.serialization.keras_model import seed_states
from tasks.storage import Manifest
from tasks.training import Trained
from tasks.verification import Loader, Verdict, judge
from tests import bundles, samples

DATA = samples.classes()


WITH_WEIGHTS = [f.name for f in FORMATS.values() if "weights" in f.promises]


@pytest.fixture(scope="module", autouse=True)
def loader() -> Loader:
    """A process that trained nothing, started before it is needed."""
    return bundles.another_process()


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
def verdict(stored: Stored, loader: Loader) -> Verdict:
    """Of a process that did not train it."""
    return judge(stored.manifest, loader.measure(stored.folder, stored.manifest, stored.manifest.definition))


def test_saving_leaves_the_live_model_bit_for_bit_as_it_was(stored: Stored) -> None:
    assert stored.after == stored.before


@pytest.mark.parametrize("stored", WITH_WEIGHTS, indirect=True)
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


def test_another_process_finds_the_model_that_was_trained(verdict: Verdict, stored: Stored) -> None:
    format_ = format_named(stored.manifest.format)
    assert (verdict.passed, verdict.reasons, verdict.loads, verdict.outputs_equal) == (True, [], True, True)
    assert verdict.weights_equal is (True if "weights" in format_.promises else None)
    assert verdict.max_abs_diff is not None
    assert verdict.max_abs_diff <= verdict.tolerance
    assert (verdict.tolerance == 0) is (format_.output_tolerance == 0)


def test_the_returned_model_can_be_called_on_the_probe(stored: Stored) -> None:
    x, y, _ = read_probe(stored.folder)
    np.testing.assert_allclose(np.asarray(stored.restored(x)), y, rtol=0, atol=1e-5)


def test_another_process_can_train_on_where_the_format_can(verdict: Verdict, stored: Stored) -> None:
    assert verdict.resumable is (True if format_named(stored.manifest.format).trainable else None)


def test_every_promise_is_kept_in_another_process(verdict: Verdict, stored: Stored) -> None:
    promises = format_named(stored.manifest.format).promises
    assert {p: verdict.survived[p] for p in promises} == dict.fromkeys(promises, True)


def test_an_unknown_format_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match=r"There is no format 'pmml'. There are: saved-model, weights-h5, full-h5, keras"):
        format_named("pmml")


@pytest.mark.parametrize("name", [f.name for f in FORMATS.values() if f.packages])
def test_a_format_without_its_packages_says_how_to_install_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.serialization.formats.find_spec", lambda package: None)
    with pytest.raises(InputError, match=f"The format {name} needs .*`uv sync --extra {name}`"):
        usable_format(name)
