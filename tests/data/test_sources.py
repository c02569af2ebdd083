"""Where data comes from, and what is refused there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.data import DataConfig, Dataset, load_dataset, rows
from tasks.data.dataset import each
from tasks.data.sources import generate
from tasks.errors import InputError
from tests.user_data import X, Y


def load(source: str, **options: Any) -> Dataset:
    return load_dataset(DataConfig(source=source, **options))


def npz(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return str(path)


def all_rows(dataset: Dataset) -> Any:
    """Training and validation examples together, in the order of their first feature."""
    both = np.concatenate([np.asarray(dataset.x), np.asarray(dataset.x_val)])
    return both[np.argsort(both[:, 0])]


# Generated data


def test_generated_data_is_the_same_for_the_same_seed() -> None:
    config = DataConfig(rows=100, features=8, classes=3, seed=5)
    assert load_dataset(config).digest == load_dataset(config).digest


def test_generated_data_is_other_for_another_seed() -> None:
    first, second = (DataConfig(rows=100, features=8, classes=3, seed=seed) for seed in (5, 6))
    assert load_dataset(first).digest != load_dataset(second).digest


def test_generated_classes_can_be_told_apart_but_not_perfectly() -> None:
    x, y = generate(DataConfig(rows=2000, features=64, classes=5))
    centres = np.stack([x[:1000][y[:1000] == c].mean(axis=0) for c in range(5)])

    nearest = np.linalg.norm(x[1000:, None] - centres, axis=2).argmin(axis=1)

    assert 0.9 < (nearest == y[1000:]).mean() < 1.0


def test_generated_data_has_the_shapes_that_were_asked_for() -> None:
    dataset = load_dataset(DataConfig(rows=100, features=8, classes=3, validation=0.25))
    shapes = [np.asarray(a).shape for a in (dataset.x, dataset.y, dataset.x_val, dataset.y_val)]
    assert shapes == [(75, 8), (75,), (25, 8), (25,)]


# Files


def test_an_npz_of_x_and_y_is_split(tmp_path: Path) -> None:
    dataset = load(npz(tmp_path / "d.npz", x=X, y=Y))
    np.testing.assert_array_equal(all_rows(dataset), X.astype(np.float32))


def test_an_npz_with_its_own_test_data_keeps_the_split_and_the_order(tmp_path: Path) -> None:
    dataset = load(npz(tmp_path / "d.npz", x_train=X[:8], y_train=Y[:8], x_test=X[8:], y_test=Y[8:]))
    np.testing.assert_array_equal(dataset.x, X[:8].astype(np.float32))
    np.testing.assert_array_equal(dataset.y_val, Y[8:])


def test_an_npz_with_training_data_only_is_split(tmp_path: Path) -> None:
    dataset = load(npz(tmp_path / "d.npz", x_train=X, y_train=Y))
    np.testing.assert_array_equal(all_rows(dataset), X.astype(np.float32))


def test_an_npz_holds_several_inputs_by_name(tmp_path: Path) -> None:
    dataset = load(npz(tmp_path / "d.npz", x_left=X, x_right_eye=X[:, :2], y=Y))
    assert {name: a.shape[1:] for name, a in each(dataset.x).items()} == {"left": (4,), "right_eye": (2,)}


def test_an_npz_with_objects_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="allow_pickle=False"):
        load(npz(tmp_path / "d.npz", x=np.array([{}], dtype=object), y=Y[:1]))


def test_an_npz_without_targets_tells_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds \['images', 'x'\]; x and y are needed"):
        load(npz(tmp_path / "d.npz", x=X, images=X))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no file .*d.npz"):
        load(str(tmp_path / "d.npz"))


def _npy(path: Path) -> bytes:
    np.save(path.with_suffix(".npy"), X)
    return path.with_suffix(".npy").read_bytes()


def _compressed_and_damaged(path: Path) -> bytes:
    np.savez_compressed(path, x=np.random.default_rng(0).random((50, 50)), y=np.ones(50))
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(b ^ 0xFF for b in content[200:260])
    return bytes(content)


def _cut_short(path: Path) -> bytes:
    np.savez(path, x=X, y=Y)
    return path.read_bytes()[:-50]


@pytest.mark.parametrize("content", [lambda _: b"", lambda _: b"hello", _npy, _compressed_and_damaged, _cut_short])
def test_a_broken_npz_is_refused_by_name(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "d.npz"
    path.write_bytes(content(path))
    with pytest.raises(InputError, match=r"d.npz is not a readable .npz file"):
        load(str(path))


# Callables


def test_a_callable_gives_a_pair_that_is_split() -> None:
    np.testing.assert_array_equal(all_rows(load("tests.user_data:pair")), X.astype(np.float32))


def test_a_callable_gives_its_own_test_data_which_stays_apart() -> None:
    dataset = load("tests.user_data:split")
    np.testing.assert_array_equal(dataset.x_val, X[8:].astype(np.float32))


def test_a_file_of_the_user_gives_data(tmp_path: Path) -> None:
    file = tmp_path / "mydata.py"
    file.write_text("import numpy as np\ndef load():\n    return np.ones((10, 3)), np.arange(10)\n")
    assert rows(load(f"{file}:load").x) == 8


@pytest.mark.parametrize("name", ["tf_unbatched", "tf_batched"])
def test_a_tf_dataset_is_read_whole(name: str) -> None:
    np.testing.assert_array_equal(all_rows(load(f"tests.user_data:{name}")), X.astype(np.float32))


def test_a_tf_dataset_of_dicts_keeps_their_names() -> None:
    dataset = load("tests.user_data:tf_dict")
    assert (set(each(dataset.x)), set(each(dataset.y))) == ({"left", "right"}, {"label"})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tf_endless", r"is an endless tf.data.Dataset. End it with `.take\(n\)`"),
        ("tf_inputs_only", r"elements are not pairs \(x, y\)"),
        ("broken", "raised ZeroDivisionError: the disk is on fire"),
        ("wrong_type", "returned str; "),
        ("short_targets", "x has 12 rows and y has 11"),
        ("dict_inputs_of_other_lengths", r"arrays of x have different numbers of rows: {'left': 12, 'right': 11}"),
        ("with_nan", r"x holds 1 NaN or infinite value, the first at index \(7, 2\)"),
        ("nothing", r"x holds no examples \(shape \(0, 4\)\)"),
        ("one_row", "1 rows are too few to hold back 20%"),
        ("ragged", "x is ragged"),
        ("objects", "x has dtype object"),
        ("split_of_other_widths", r"an example of x is \(4,\) for training, but \(3,\) for the test"),
    ],
)
def test_unfit_data_is_refused_with_the_place(name: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^tests.user_data:{name}.*{message}"):
        load(f"tests.user_data:{name}")


def test_a_source_of_no_known_kind_is_refused_with_what_to_write() -> None:
    with pytest.raises(InputError, match=r"'mnist' is no data source. Write `generated`, a `.npz` file"):
        load("mnist")


# The split


def test_data_sorted_by_class_is_shuffled_before_the_split() -> None:
    dataset = load("tests.user_data:sorted_by_class")
    assert set(np.asarray(dataset.y_val)) == {0, 1}


def test_the_split_keeps_every_example_with_its_target() -> None:
    dataset = load("tests.user_data:sorted_by_class")
    pairs = np.concatenate([np.asarray(dataset.x), np.asarray(dataset.x_val)])[:, 0]
    targets = np.concatenate([np.asarray(dataset.y), np.asarray(dataset.y_val)])
    np.testing.assert_array_equal(targets, pairs >= 100)


def test_the_split_is_a_function_of_the_seed() -> None:
    digests = [load("tests.user_data:pair", seed=seed).digest for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]
