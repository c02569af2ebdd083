"""Models as people have them, in every form that Keras and TensorFlow write: there is nothing to find in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tasks.safety import inspect_path
from tasks.safety.files import Context
from tasks.safety.inspection import _inspect, _opened

layers = keras.layers


def small() -> keras.Model:
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(16, "relu"), layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(3)]
    )
    model.compile(keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(0.1, 10)), "mse", metrics=["mae"])
    model.fit(np.zeros((4, 8)), np.zeros((4, 3)), verbose=0)
    return model


def recurrent() -> keras.Model:
    both = layers.Bidirectional(layers.LSTM(16, return_sequences=True))
    return keras.Sequential([keras.Input((None, 8)), both, layers.GRU(8), layers.Dense(3)])


def vocabulary() -> keras.Model:
    inputs = keras.Input((1,), dtype="string")
    x = layers.Embedding(8, 4)(layers.StringLookup(vocabulary=["a", "b", "/c"])(inputs))
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


def vocabulary_from_a_file(folder: Path) -> keras.Model:
    (folder / "words.txt").write_text("a\nb\nc\n")
    inputs = keras.Input((1,), dtype="string")
    x = layers.Embedding(8, 4)(layers.StringLookup(vocabulary=str(folder / "words.txt"))(inputs))
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


def text() -> keras.Model:
    split = layers.TextVectorization(output_sequence_length=4)
    split.adapt(["hello world", "b c"])
    inputs = keras.Input((), dtype="string")
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(layers.Embedding(8, 4)(split(inputs)))))


def images() -> keras.Model:
    inputs = keras.Input((16, 16, 3))
    x = layers.RandomRotation(0.1)(layers.RandomFlip()(inputs))
    normalize = layers.Normalization()
    normalize.adapt(np.random.default_rng(0).random((8, 12, 12, 3)))
    x = normalize(layers.Resizing(12, 12)(layers.Rescaling(1 / 255)(x)))
    x = layers.GlobalAveragePooling2D()(layers.MaxPooling2D()(layers.SeparableConv2D(4, 3)(x)))
    return keras.Model(inputs, layers.Dense(3)(x))


def attention() -> keras.Model:
    inputs = keras.Input((10, 8))
    x = layers.LayerNormalization()(layers.MultiHeadAttention(2, 4)(inputs, inputs) + inputs)
    return keras.Model(inputs, layers.Dense(2)(keras.ops.mean(keras.ops.where(x > 0, x, 0.1 * x), axis=1)))


def mixed_precision() -> keras.Model:
    head = layers.Dense(3, dtype="float32")
    return keras.Sequential([keras.Input((8,)), layers.Dense(16, dtype="mixed_float16"), head])


def quantized(mode: str) -> keras.Model:
    model = keras.Sequential([keras.Input((8,)), layers.Dense(16), layers.Dense(4)])
    model.quantize(mode)
    return model


def nested() -> keras.Model:
    inner = keras.Sequential([keras.Input((8,)), layers.Dense(4, kernel_regularizer="l2", kernel_constraint="max_norm")])
    inputs = keras.Input((5, 8))
    return keras.Model(inputs, layers.Dense(2)(layers.TimeDistributed(inner)(inputs)))


def categories() -> keras.Model:
    number, word = keras.Input((1,), name="number"), keras.Input((1,), dtype="string", name="word")
    bucket = layers.CategoryEncoding(3)(layers.Discretization(bin_boundaries=[0.0, 1.0])(number))
    hashed = layers.CategoryEncoding(16, output_mode="multi_hot")(layers.Hashing(16)(word))
    return keras.Model([number, word], layers.Dense(2)(layers.Concatenate()([bucket, hashed])))


def wide() -> keras.Model:
    """Large enough that sizes count."""
    layers_ = [keras.Input((256,)), layers.Dense(4096), layers.Dropout(0.1), layers.Dense(4096, dtype="float16")]
    return keras.Sequential([*layers_, layers.Embedding(10, 4)][:-1])


MODELS: dict[str, Callable[[], keras.Model]] = {
    f.__name__: f for f in (small, recurrent, vocabulary, text, images, attention, mixed_precision, nested, categories, wide)
} | {f"quantized to {mode}": lambda mode=mode: quantized(mode) for mode in ("int8", "int4")}  # type: ignore[misc]


def write_all(model: keras.Model, folder: Path) -> None:
    """In every form that takes it."""
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    (folder / "shards").mkdir()
    model.save_weights(
        folder / "shards" / "model.weights.json", max_shard_size=1e-5 if model.count_params() < 10_000 else 0.07
    )
    model.export(folder / "export", verbose=False)
    tf.train.CheckpointManager(tf.train.Checkpoint(model=model), str(folder / "checkpoints"), max_to_keep=1).save()
    for write in (
        lambda: tf.saved_model.save(model, str(folder / "saved_model")),
        lambda: model.save(folder / "model.h5"),
    ):
        try:
            write()
        except (AssertionError, NotImplementedError, ValueError):
            continue  # a model that this form does not take


@pytest.mark.parametrize("words", ["cat\ndog\n", "cat\ndog\nis.", "MZ\nPK\n", "(a\nb)\n", "]\ncat\ndog\n", "", "käse\n"])
def test_a_list_of_words_is_no_program_and_no_pickle(words: str, tmp_path: Path) -> None:
    (tmp_path / "vocabulary.txt").write_text(words)
    assert inspect_path(tmp_path / "vocabulary.txt").findings == ()


def test_thousands_of_files_are_opened_one_after_the_other(tmp_path: Path) -> None:
    for number in range(3000):
        (tmp_path / f"{number}.txt").write_text("x")
    assert inspect_path(tmp_path).findings == ()


def test_what_can_not_be_opened_is_a_finding(tmp_path: Path) -> None:
    context = Context()
    (found,) = _inspect(_opened({"gone.h5": tmp_path / "gone.h5"}), context)
    assert (found.severity, found.kind) == ("dangerous", "unreadable")


def assert_nothing_found(folder: Path) -> None:
    inspection = inspect_path(folder)
    assert inspection.findings == ()
    assert inspection.files > 5


@pytest.mark.e2e
@pytest.mark.parametrize("name", MODELS)
def test_there_is_nothing_to_find_in_a_model_of_keras_own_layers(name: str, tmp_path: Path) -> None:
    write_all(MODELS[name](), tmp_path)
    assert_nothing_found(tmp_path)


@pytest.mark.e2e
def test_there_is_nothing_to_find_in_a_vocabulary_that_was_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    write_all(vocabulary_from_a_file(tmp_path), tmp_path / "model")
    assert_nothing_found(tmp_path / "model")


@pytest.mark.e2e
@pytest.mark.parametrize("name", ["MobileNetV3Small", "EfficientNetV2B0"])
def test_there_is_nothing_to_find_in_an_application(name: str, tmp_path: Path) -> None:
    write_all(getattr(keras.applications, name)(weights=None, input_shape=(64, 64, 3)), tmp_path)
    assert_nothing_found(tmp_path)


@pytest.mark.e2e
def test_there_is_nothing_to_find_in_an_export_for_litert(tmp_path: Path) -> None:
    MODELS["small"]().export(tmp_path / "model.tflite", format="litert", verbose=False)
    assert inspect_path(tmp_path / "model.tflite").findings == ()


@pytest.mark.e2e
def test_tensorflows_own_operations_in_an_export_for_litert_are_looked_up_too(tmp_path: Path) -> None:
    def convert(body: Any) -> Path:
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [tf.function(body).get_concrete_function(tf.TensorSpec((2, 2), tf.float32))]
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.SELECT_TF_OPS]
        converter.allow_custom_ops = True
        path = tmp_path / "model.tflite"
        path.write_bytes(converter.convert())
        return path

    assert inspect_path(convert(tf.linalg.inv)).findings == ()
    reads = convert(lambda _: tf.io.read_file("/etc/hostname"))
    assert {f.kind for f in inspect_path(reads).refused} == {"operation"}
