"""The page of cards says what the facts in the repository say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.card_table import FACTS, PAGE, frames_per_second, is_current, key_of, read_facts, render
from swiftvr_trt.engines.bundle.card_names import named_card
from swiftvr_trt.engines.bundle.cards import cards_for
from swiftvr_trt.engines.bundle.geometry import Resolution
from swiftvr_trt.engines.bundle.manifest import Recipe
from swiftvr_trt.engines.bundle.pipeline_memory import PUBLISHED_PARAMETERS
from swiftvr_trt.engines.bundle.targets import find_target
from swiftvr_trt.engines.compile.estimate import estimate
from swiftvr_trt.errors import SwiftVRError

FACTS_NOW = read_facts(FACTS)


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(FACTS_NOW), "run python -m benchmarks.card_table"


def test_speed_follows_the_roofline() -> None:
    """A chunk of 8 frames has 2 latents: 2 encode, 1 dit, 2 decode."""
    card = named_card("rtx5090")
    kernels = {"encode": [["Float", 0, int(card.bandwidth), 1]], "dit": [["Half", int(card.fp16), 0, 3]], "decode": []}
    assert frames_per_second({"clip_len": 8, "kernels": kernels}, card) == pytest.approx(8 / (2 * 1 + 3), rel=1e-6)


def test_thirty_blocks_agree_with_the_engine_of_the_whole_network() -> None:
    """The engine of all 30 blocks, built in int8, needs 5.80 GB and projects to 108.9 frames/s (docs/engines.md)."""
    (build,) = (b for b in FACTS_NOW["builds"] if key_of(b) == ("rtx5090", "int8", "1920x1080"))
    assert build["gpu_bytes"] == pytest.approx(5.80e9, rel=0.01)
    assert frames_per_second(build, named_card("rtx5090")) == pytest.approx(108.9, rel=0.03)
    assert f"| {named_card('rtx5090').name} | 32 | " in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("build", FACTS_NOW["builds"], ids=lambda build: "-".join(key_of(build)))
def test_the_estimate_and_the_page_agree_on_which_cards_fit(build: dict[str, Any]) -> None:
    """Before a build, the tool refuses a card by its estimate; the page goes by what was compiled."""
    target, precision, size = key_of(build)
    sides = Resolution.parse(size)
    recipe = Recipe("c0" * 32, sides.width, sides.height, build["clip_len"], precision, target)
    expected = estimate(PUBLISHED_PARAMETERS, recipe).gpu_bytes
    assert 0.995 < expected / build["gpu_bytes"] < 1.09
    for card in cards_for(find_target(target).sm):
        assert (expected <= card.memory_bytes) == (build["gpu_bytes"] <= card.memory_bytes), card.name


def test_what_was_compiled_before_its_graphs_changed_is_named() -> None:
    build = next(build for build in FACTS_NOW["builds"] if is_current(build))
    old = {**build, "form": build["form"] + 1}
    assert not is_current(old)
    pages = [render({**FACTS_NOW, "builds": [one]}) for one in (build, old)]
    said = f"\nCompiled before the last change of their graphs: {build['size']} {build['precision']}.\n"
    assert [said in page for page in pages] == [False, True]


@pytest.mark.parametrize(
    "change",
    [
        {"gpu_bytes": -1},
        {"gpu_bytes": "many"},
        {"clip_len": 10**40},
        {"form": 0},
        {"precision": "int3"},
        {"size": "1x"},
        {"target": "\x1b[31m"},
        {"kernels": {"encode": []}},
        {"kernels": {"encode": [["Half", 1, 2]], "dit": [], "decode": []}},
        {"kernels": {"encode": [["Half", 1, 2, float("nan")]], "dit": [], "decode": []}},
    ],
)
def test_facts_that_were_edited_are_refused_in_one_line(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "cards.json"
    path.write_text(json.dumps({**FACTS_NOW, "builds": [{**FACTS_NOW["builds"][0], **change}]}))
    with pytest.raises(SwiftVRError) as error:
        read_facts(path)
    assert str(error.value).isprintable()
