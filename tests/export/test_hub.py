"""Which files of a repository are a checkpoint. What is asked of a hub is tested in `test_download`."""

from __future__ import annotations

import inspect
import sys

import pytest

from swiftvr_trt import CheckpointError, MissingPackageError
from swiftvr_trt.engines.bundle.checkpoints import CONFIG, PROMPT, PUBLISHED, REAE, TRANSFORMER
from swiftvr_trt.export.hub import is_commit, list_files, needed_files

STEM = TRANSFORMER.removesuffix(".safetensors")
INDEX = f"{TRANSFORMER}.index.json"
SHARDS = [f"{STEM}-0000{number}-of-00002.safetensors" for number in (1, 2)]
REST = [CONFIG, REAE, PROMPT]


@pytest.mark.parametrize(
    ("names", "needed"),
    [
        ([*REST, TRANSFORMER], [*REST, TRANSFORMER]),
        ([*REST, TRANSFORMER, INDEX, *SHARDS], [*REST, TRANSFORMER]),
        ([*REST, INDEX, *SHARDS], [*REST, INDEX, *SHARDS]),
        ([*REST, TRANSFORMER, f"{STEM}.fp16.safetensors", "a.py", "b.gguf", "x/LICENSE"], [*REST, TRANSFORMER]),
        (
            [*REST, TRANSFORMER, "LICENSE", "NOTICE.txt", "README.md", "license.md", "LICENSES"],
            [*REST, TRANSFORMER, "LICENSE", "NOTICE.txt", "README.md", "license.md"],
        ),
    ],
    ids=["one file", "one file and shards", "shards", "other files", "licences"],
)
def test_only_the_checkpoint_and_its_licence_are_needed(names: list[str], needed: list[str]) -> None:
    assert sorted(needed_files(names, "there")) == sorted(needed)


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        ([], CONFIG),
        ([CONFIG, REAE, PROMPT], TRANSFORMER),
        ([CONFIG, TRANSFORMER, PROMPT], REAE),
        ([CONFIG, TRANSFORMER, REAE], PROMPT),
        ([*REST, *SHARDS], INDEX),
        ([*REST, INDEX, SHARDS[0]], SHARDS[1]),
        ([*REST, INDEX, SHARDS[1]], SHARDS[0]),
    ],
)
def test_a_repository_without_a_checkpoint_is_refused(names: list[str], missing: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        needed_files(names, "hf:a/b")
    assert str(caught.value) == f"hf:a/b: {missing} is missing; expected the files of a SwiftVR checkpoint"


@pytest.mark.parametrize(
    ("revision", "fixed"), [(None, False), ("main", False), ("0" * 40, True), ("0" * 39, False), ("A" * 40, False)]
)
def test_only_a_full_commit_never_changes(revision: str | None, fixed: bool) -> None:
    assert is_commit(revision) is fixed


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", None)
    with pytest.raises(MissingPackageError, match=r"downloading hf:H-oliday/SwiftVR needs .*huggingface_hub.*\[hub\]"):
        list_files(PUBLISHED)


def test_the_library_has_what_is_called() -> None:
    """A new major version may rename these; then the bound in `pyproject.toml` stays as it is."""
    import huggingface_hub
    from huggingface_hub.constants import ENDPOINT, HF_ASSETS_CACHE
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers, disable_progress_bars

    assert isinstance(ENDPOINT, str)
    assert isinstance(HF_ASSETS_CACHE, str)
    assert callable(disable_progress_bars)
    for function, names in (
        (http_get, {"url", "temp_file", "resume_size", "headers", "expected_size"}),
        (build_hf_headers, {"library_name"}),
        (huggingface_hub.hf_hub_url, {"repo_id", "filename", "revision"}),
        (huggingface_hub.HfApi.model_info, {"repo_id", "revision", "files_metadata", "timeout"}),
        (huggingface_hub.snapshot_download, {"repo_id", "revision", "local_files_only", "allow_patterns"}),
    ):
        assert names <= set(inspect.signature(function).parameters)
