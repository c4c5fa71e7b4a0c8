"""`swiftvr-export cache`: lists what is there, and removes what it said it would."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from swiftvr_trt import MisuseError
from swiftvr_trt.cli.cache import cache_commands
from swiftvr_trt.engines.bundle.cache import BundleCache
from swiftvr_trt.engines.bundle.lease import Lease
from tests.engines.fakes import RECIPE, write_fake_bundle


@pytest.fixture
def bundles(tmp_path: Path) -> list[Path]:
    cache = BundleCache(tmp_path)
    recipes = [RECIPE, replace(RECIPE, width=200)]
    return [cache.get_or_build(recipe, partial(write_fake_bundle, recipe=recipe))[0].path for recipe in recipes]


def call(tmp_path: Path, *arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(cache_commands, [*arguments, "--cache", str(tmp_path)], input=answer)


def test_the_list_says_what_each_bundle_is(tmp_path: Path, bundles: list[Path]) -> None:
    said = call(tmp_path, "list")
    for fact in ("100x60", "200x60", "fp32", "target cpu", "swiftvr-trt test", "2 bundles", RECIPE.checkpoint[:8]):
        assert fact in said.output
    assert len(said.stdout.splitlines()) == len(bundles)


def test_the_list_as_json_has_every_field(tmp_path: Path, bundles: list[Path]) -> None:
    listed = json.loads(call(tmp_path, "list", "--json").stdout)
    assert {entry["path"] for entry in listed["entries"]} == set(map(str, bundles))
    entry = next(entry for entry in listed["entries"] if entry["resolution"] == "100x60")
    assert (entry["precision"], entry["target"], entry["checkpoint"]) == ("fp32", "cpu", RECIPE.checkpoint)
    assert entry["last_used"].startswith("20")
    assert json.loads(call(tmp_path / "none", "list", "--json").stdout)["entries"] == []


def test_without_a_rule_whole_bundles_stay(tmp_path: Path, bundles: list[Path]) -> None:
    assert call(tmp_path, "prune", "-y").stdout == "nothing to remove\n"
    assert all(path.exists() for path in bundles)


def test_a_dry_run_removes_nothing(tmp_path: Path, bundles: list[Path]) -> None:
    assert "would free 0.0 MB (2 bundles)" in call(tmp_path, "prune", "--all", "--dry-run").stdout
    assert all(path.exists() for path in bundles)


def test_all_are_removed_and_what_was_freed_is_said(tmp_path: Path, bundles: list[Path]) -> None:
    said = call(tmp_path, "prune", "--all", "-y")
    assert said.stdout == "freed 0.0 MB (2 bundles)\n"
    assert said.stderr.count("removed ") == 2
    assert not any(path.exists() for path in bundles)


def test_a_bundle_in_use_is_kept_and_counted(tmp_path: Path, bundles: list[Path]) -> None:
    with Lease(bundles[0]):
        assert call(tmp_path, "prune", "--all", "-y").stdout == "freed 0.0 MB (1 bundle); kept 1 in use\n"
    assert [path.exists() for path in bundles] == [True, False]


def test_without_a_terminal_nothing_is_removed_unasked(tmp_path: Path, bundles: list[Path]) -> None:
    said = call(tmp_path, "prune", "--max-size", "0")
    assert isinstance(said.exception, MisuseError)
    assert "would remove 2 bundles" in str(said.exception)
    assert all(path.exists() for path in bundles)


@pytest.mark.parametrize(("answer", "left"), [("y\n", 0), ("n\n", 2), ("\n", 2)])
def test_a_terminal_is_asked(
    tmp_path: Path, bundles: list[Path], monkeypatch: pytest.MonkeyPatch, answer: str, left: int
) -> None:
    monkeypatch.setattr("swiftvr_trt.cli.cache._can_ask", lambda: True)
    said = call(tmp_path, "prune", "--all", answer=answer)
    assert "remove 2 bundles, " in said.stderr
    assert sum(path.exists() for path in bundles) == left


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--older-than", "30", "'30' is not a time, expected days (30d)"),
        ("--older-than", "-1d", "is not a time"),
        ("--max-size", "20 apples", "'20 apples' is not a size, expected one such as 20GB"),
        ("--max-size", "nan", "is not a size"),
    ],
)
def test_a_rule_that_is_no_number_is_refused(tmp_path: Path, option: str, value: str, words: str) -> None:
    said = call(tmp_path, "prune", f"{option}={value}")
    assert said.exit_code == 2
    assert words in " ".join(said.output.split())


@pytest.mark.parametrize("size", ["0.5GB", "20gb", "1 TiB", "500M", "123"])
def test_sizes_and_ages_are_read_as_people_write_them(tmp_path: Path, size: str) -> None:
    said = call(tmp_path, "prune", "--max-size", size, "--older-than", "2W", "--dry-run")
    assert (said.exit_code, said.stdout) == (0, "nothing to remove\n")
