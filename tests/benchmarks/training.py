"""Examples a second: our loop, Keras `fit` in several settings, the tutorial's eager loop; small model, batch 32."""

from __future__ import annotations

import dataclasses
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tests.benchmarks.harness import bar

_EPOCHS = 6  # and one more, which compiles: over 1,000 steps, from where on `auto` takes XLA


def measure(rounds: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of medians over rounds, and the bars of the issue. The first epoch, which compiles, is left out: steady."""
    import keras
    import tensorflow as tf

    from tasks.data import DataConfig, load_dataset
    from tasks.data.dataset import take
    from tasks.definitions import ModelConfig, define
    from tasks.training import TrainingConfig, train_with_custom_loop, train_with_fit

    whole = load_dataset(DataConfig(rows=6250))  # 5,000 to train on
    # No contender validates: one batch is left, for our loops always do.
    dataset = dataclasses.replace(whole, x_val=take(whole.x_val, slice(0, 32)), y_val=take(whole.y_val, slice(0, 32)))
    count = len(dataset.x)  # type: ignore[arg-type]

    def model() -> Any:
        return define(ModelConfig(), dataset)[1]

    def compiled(**options: Any) -> Any:
        built = model()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        built.compile("adam", loss, metrics=["accuracy"], **options)
        return built

    def ours(compiler: str) -> float:
        config = TrainingConfig(epochs=_EPOCHS + 1, compiler=compiler)  # type: ignore[arg-type]
        return count / statistics.median(train_with_custom_loop(model(), dataset, config).history.seconds[1:])

    def our_fit() -> float:
        config = TrainingConfig(epochs=_EPOCHS + 1)
        return count / statistics.median(train_with_fit(model(), dataset, config).history.seconds[1:])

    class Clock(keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.seconds: list[float] = []

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self._started = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.seconds.append(time.perf_counter() - self._started)

    def fit(data: str, **options: Any) -> float:
        clock = Clock()
        built = compiled(**options)
        if data == "arrays":
            built.fit(dataset.x, dataset.y, batch_size=32, epochs=_EPOCHS + 1, verbose=0, callbacks=[clock])
        else:
            pipeline = tf.data.Dataset.from_tensor_slices((dataset.x, dataset.y)).shuffle(count).batch(32).prefetch(2)
            built.fit(pipeline, epochs=_EPOCHS + 1, verbose=0, callbacks=[clock])
        return count / statistics.median(clock.seconds[1:])

    def tutorial() -> float:
        built = model()
        optimizer = keras.optimizers.Adam()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        pipeline = tf.data.Dataset.from_tensor_slices((dataset.x, dataset.y)).batch(32)
        started, seen = time.perf_counter(), 0
        for x, y in pipeline.take(60):
            with tf.GradientTape() as tape:
                value = loss(y, built(x, training=True))
            optimizer.apply_gradients(
                zip(tape.gradient(value, built.trainable_variables), built.trainable_variables, strict=True)
            )
            seen += len(y)
        return seen / (time.perf_counter() - started)

    contenders: dict[str, Callable[[], float]] = {
        "tutorial: eager GradientTape": tutorial,
        "fit on arrays": lambda: fit("arrays"),
        "fit on arrays, steps_per_execution=32": lambda: fit("arrays", steps_per_execution=32),
        "fit on tf.data, steps_per_execution=32": lambda: fit("tf.data", steps_per_execution=32),
        "fit on tf.data, steps_per_execution=32, jit": lambda: fit("tf.data", steps_per_execution=32, jit_compile=True),
        "fit on tf.data, a whole epoch an execution": lambda: fit("tf.data", steps_per_execution=157),
        "ours: fit": our_fit,
        "ours: custom loop, graph": lambda: ours("graph"),
        "ours: custom loop, auto = XLA": lambda: ours("auto"),
    }
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            speeds[name].append(contender())
    best = {name: statistics.median(values) for name, values in speeds.items()}
    rows = [{"what": name, "examples_per_s": round(value)} for name, value in best.items()]
    eager = best["tutorial: eager GradientTape"]
    fastest_fit = max(value for name, value in best.items() if name.startswith("fit"))
    loop = best["ours: custom loop, auto = XLA"]
    bars = {
        "custom loop to the tutorial's eager loop": bar(loop / eager, ">= 50"),
        "custom loop to Keras fit at its best setting": bar(loop / fastest_fit, ">= 1.5"),
    }
    return rows, bars
