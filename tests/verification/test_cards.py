"""What people read of a version: the model card, its pictures, the report in the bundle. No text of a manifest is markup."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from tasks.serialization import Carried
from tasks.storage import Manifest
from tasks.storage.manifest import TrainingRecord
from tasks.verification.cards import load_line, model_card, verdict_card
from tasks.verification.charts import confusion_svg, curves_svg, groups
from tasks.verification.report import html_report
from tests.bundles import bare_manifest
from tests.proofs import verdict_on

URI = "s3://bucket/model/versions/1"
CURVES = {"loss": [2.0, 1.0, 0.5], "val_loss": [2.1, 1.5, 1.4], "accuracy": [0.2, 0.6, 0.9]}
COUNTS = [[8, 2], [1, 9]]
SVG = "{http://www.w3.org/2000/svg}"


def manifest_with(format_name: str = "weights-h5", **changes: Any) -> Manifest:
    carried = Carried(curves=CURVES, epoch_seconds=[1.0] * 3, confusion=COUNTS)
    return bare_manifest(format_name).model_copy(update={"carried": carried} | changes)


def pictures(card: str) -> list[ET.Element]:
    return [ET.fromstring(base64.b64decode(data)) for data in re.findall(r"data:image/svg\+xml;base64,([^)]+)", card)]


def points(svg: str) -> list[list[tuple[float, float]]]:
    lines = ET.fromstring(svg).iter(f"{SVG}polyline")
    return [[tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()] for line in lines]  # type: ignore[misc]


# The card


def test_a_card_has_a_picture_of_each_metric_and_the_confusion_matrix() -> None:
    labels = [picture.attrib["aria-label"] for picture in pictures(model_card(manifest_with(), URI))]
    assert labels == ["loss by epoch", "accuracy by epoch", "Confusion matrix"]


def test_a_card_says_where_the_version_is_and_how_it_is_loaded() -> None:
    manifest = manifest_with()
    card = model_card(manifest, URI, store="s3://bucket")
    assert f"`{URI}`" in card
    assert f'model = load_model("model@{manifest.version}", store="s3://bucket")' in card


def test_the_line_that_loads_needs_no_store_where_the_environment_names_it() -> None:
    manifest = manifest_with()
    assert load_line(manifest).endswith(f'load_model("model@{manifest.version}")')


def test_before_a_verdict_a_card_says_that_it_waits_for_one_and_shows_promises_alone() -> None:
    card = model_card(manifest_with(), URI)
    assert "**not verified yet**" in card
    assert "| weights | yes |\n" in card
    assert "came back" not in card


def test_a_passed_verdict_stands_in_the_card_with_the_run_that_found_it() -> None:
    manifest = manifest_with("full-h5")
    verdict = verdict_on("model", manifest.version).model_copy(
        update={"survived": {"weights": True, "optimizer": False}, "healed": ["seeds of Dropout"]}
    )

    card = model_card(manifest, URI, verdict=verdict, proved_in="../../runs/flow-run/7")

    assert "✓ **verified** by [this run of return](../../runs/flow-run/7)" in card
    assert "| weights | yes | ✓ yes |" in card
    assert "| optimizer |  | ✗ no |" in card
    assert "- healed: seeds of Dropout" in card


def test_a_refused_version_says_so_and_why() -> None:
    verdict = verdict_on("model", "1", passed=False)
    assert "✗ **refused**" in model_card(manifest_with(), URI, verdict=verdict)
    assert "- weights: dense/kernel differs" in model_card(manifest_with(), URI, verdict=verdict)
    assert "# model: refused" in verdict_card(verdict)


def test_an_architecture_that_its_definition_rebuilt_is_not_called_lost() -> None:
    verdict = verdict_on("model", "1").model_copy(update={"loads": True, "survived": {"architecture": False}})
    assert "| architecture |  | rebuilt from its definition |" in model_card(manifest_with(), URI, verdict=verdict)


def test_a_regression_has_no_confusion_matrix() -> None:
    card = model_card(manifest_with(carried=Carried(curves={"loss": [1.0]})), URI)
    assert "Confusion" not in card


@pytest.mark.parametrize(
    "hostile",
    [
        "[click](https://evil.example)",
        "![x](https://evil.example/p.png)",
        "https://evil.example",
        "www.evil.example",
        "a@evil.example",
        "<img src=x>",
        "a | b",
        "``` \n# heading",
    ],
)
def test_no_text_of_a_manifest_is_markup(hostile: str) -> None:
    training = TrainingRecord(scenario="weights-h5", loop=hostile, config={}, metrics={hostile: 1.0}, notes=(hostile,))
    manifest = manifest_with(training=training)
    verdict = verdict_on("model", manifest.version, passed=False).model_copy(update={"reasons": [hostile]})
    plain = manifest_with()

    card = model_card(manifest, URI, verdict=verdict)

    unescaped = re.sub(r"\\.", "", card)
    for sign in ("](https", "://evil", "www.", "a@", "<img", "\n# heading", "a | b"):
        assert sign not in unescaped, sign
    assert len(card.split("\n# ")) == len(model_card(plain, URI, verdict=verdict_on("model", "1")).split("\n# "))


def test_no_code_span_is_ended_by_what_stands_in_it() -> None:
    assert "`` s3://b/`x` ``" in model_card(manifest_with(), "s3://b/`x`")


# Charts


def test_curves_and_their_validation_twins_share_a_picture() -> None:
    assert {name: list(curves) for name, curves in groups(CURVES).items()} == {
        "loss": ["loss", "val_loss"],
        "accuracy": ["accuracy"],
    }


def test_a_falling_curve_falls_and_goes_from_left_to_right() -> None:
    (line,) = points(curves_svg("loss", {"loss": [3.0, 2.0, 1.0]}))
    assert line == sorted(line)
    assert [y for _, y in line] == sorted(y for _, y in line)  # y grows downwards


@pytest.mark.parametrize(
    "curve", [[1.0], [0.0, 0.0, 0.0], [float("nan"), 1.0, float("inf")], [], [1e-12, 2e-12], [-5.0, 3e8]]
)
def test_any_curve_makes_a_picture_whose_points_lie_in_it(curve: list[float]) -> None:
    picture = curves_svg("loss", {"loss": curve})
    width, height = (float(ET.fromstring(picture).attrib[side]) for side in ("width", "height"))
    assert all(0 <= x <= width and 0 <= y <= height for line in points(picture) for x, y in line)


def test_a_long_training_is_thinned_and_keeps_its_last_epoch() -> None:
    picture = curves_svg("loss", {"loss": [1 / (1 + i) for i in range(100_000)]})
    (line,) = points(picture)
    assert len(line) <= 300
    assert ">100000</text>" in picture


def test_a_confusion_matrix_shows_every_count() -> None:
    texts = [text.text for text in ET.fromstring(confusion_svg(COUNTS)).iter(f"{SVG}text")]
    assert texts[1:] == ["0", "1", "0", "8", "2", "1", "1", "9"]


# The report in the bundle


def test_the_report_has_the_pictures_and_what_the_format_promises_and_neither_scripts_nor_links() -> None:
    report = html_report(manifest_with(flow_run="7", flow_run_url="http://here/runs/7"))
    assert report.count("<svg") == 3
    assert "What weights-h5 promises to keep" in report
    assert "http://here/runs/7" in report
    assert not re.search(r"<script|<a |href=|<link", report)
