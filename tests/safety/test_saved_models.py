"""SavedModels that TensorFlow itself wrote, and that do harm: first that they do, then that inspection refuses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from tasks.safety import inspect_path


class Writes(tf.saved_model.experimental.TrackableResource):  # type: ignore[misc]  # TensorFlow ships no types
    """A tracked resource whose initializer writes a file, which every load runs."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def _create_resource(self) -> Any:
        return tf.raw_ops.MutableHashTableV2(key_dtype=tf.string, value_dtype=tf.int64)

    def _initialize(self) -> None:
        tf.io.write_file(self._path, "it ran")


class Restores(Writes):
    """The same with the operation that every SavedModel has to read its variables."""

    def _initialize(self) -> None:
        save = tf.raw_ops.SaveV2(prefix=self._path, tensor_names=["x"], shape_and_slices=[""], tensors=[tf.constant(1.0)])
        # TensorFlow runs what writes checkpoints only where something waits for it.
        with tf.control_dependencies([save] if save is not None else []):
            tf.debugging.assert_equal(tf.random.uniform(()) < 2, True)


@pytest.mark.parametrize(("resource", "written"), [(Writes, "evil"), (Restores, "evil.index")])
def test_a_saved_model_that_writes_a_file_while_it_loads(resource: Any, written: str, tmp_path: Path) -> None:
    module = tf.Module()
    module.resource = resource(str(tmp_path / "evil"))
    tf.saved_model.save(module, str(tmp_path / "model"))
    for left in tmp_path.glob("evil*"):
        left.unlink()

    findings = inspect_path(tmp_path / "model").refused

    assert {f.kind for f in findings} == {"operation"}
    tf.saved_model.load(str(tmp_path / "model"))
    assert (tmp_path / written).exists()  # it is as bad as it was said to be


def test_a_vocabulary_of_the_hosts_in_place_of_the_models_own(tmp_path: Path) -> None:
    """The asset's path is swapped for a constant in the graph, as an attacker would."""
    (tmp_path / "words.txt").write_text("a\nb\n")
    module = tf.Module()
    start = tf.lookup.TextFileInitializer(
        str(tmp_path / "words.txt"),
        tf.string,
        tf.lookup.TextFileIndex.WHOLE_LINE,
        tf.int64,
        tf.lookup.TextFileIndex.LINE_NUMBER,
    )
    module.table = tf.lookup.StaticHashTable(start, -1)
    tf.saved_model.save(module, str(tmp_path / "model"))
    assert inspect_path(tmp_path / "model").findings == ()

    class Reads(Writes):
        def _initialize(self) -> None:
            handle = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64)
            tf.raw_ops.InitializeTableFromTextFileV2(
                table_handle=handle, filename="/etc/passwd", key_index=-2, value_index=-1, vocab_size=-1, delimiter="\t"
            )

    hostile = tf.Module()
    hostile.resource = Reads("")
    tf.saved_model.save(hostile, str(tmp_path / "hostile"))
    assert {f.kind for f in inspect_path(tmp_path / "hostile").refused} == {"operation"}


def test_strings_of_a_checkpoint_that_are_more_than_its_bytes(tmp_path: Path) -> None:
    """TensorFlow makes room for all of them before it reads the first."""
    tf.train.Checkpoint(words=tf.Variable(["a", "b", "c"])).write(str(tmp_path / "ckpt"))
    index = tmp_path / "ckpt.index"
    assert inspect_path(tmp_path).findings == ()
    three, many = b"\x12\x04\x12\x02\x08\x03", b"\x12\x04\x12\x02\x08\x7f"
    assert index.read_bytes().count(three) == 1

    index.write_bytes(index.read_bytes().replace(three, many))

    assert {f.kind for f in inspect_path(tmp_path).refused} == {"bomb"}


def test_printing_is_reported_and_let_through(tmp_path: Path) -> None:
    @tf.function(input_signature=[tf.TensorSpec((None,))])  # type: ignore[untyped-decorator]
    def speak(x: Any) -> Any:
        tf.print(x)
        return x

    module = tf.Module()
    module.f = speak
    tf.saved_model.save(module, str(tmp_path))
    inspection = inspect_path(tmp_path)
    assert [(f.severity, f.kind) for f in inspection.findings] == [("suspicious", "operation")]
    assert inspection.refused == ()
