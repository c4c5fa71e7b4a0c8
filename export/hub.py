"""Talks to the Hugging Face Hub through `huggingface_hub`: what a repository holds, and the bytes of its files.

The library brings tokens, mirrors (`HF_ENDPOINT`), offline mode (`HF_HUB_OFFLINE`), redirects and retries. Its own
downloads start from zero after an interruption, so `download` keeps the files, and this module fetches into them, over
plain HTTP. The package switches the library's telemetry off (`__init__`). Errors of the library become errors of this
package.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..engines.bundle.checkpoints import CONFIG, PROMPT, REAE, TRANSFORMER, HubRepository
from ..errors import CheckpointError, DownloadError, MisuseError, OutputError, cannot_import
from ..text import first_line

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

_SHARD = re.compile(re.escape(TRANSFORMER.removesuffix(".safetensors")) + r"-\d{5}-of-(\d{5})\.safetensors")
_ABOUT = re.compile(r"(licen[cs]e|notice|readme)(\.(md|txt))?", re.IGNORECASE)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository. size: bytes. sha256: of a large file; git_sha1: its git object, of a small one."""

    name: str
    size: int
    sha256: str | None
    git_sha1: str | None


@dataclass(frozen=True)
class Listing:
    """What has to be downloaded of a repository at one commit. licence: as the model card states it, or None."""

    repository: HubRepository
    commit: str
    licence: str | None
    files: tuple[RemoteFile, ...]


def needed_files(names: Iterable[str], where: object) -> tuple[str, ...]:
    """Of the files of a repository or directory, those of the checkpoint, and its licence and model card.

    Raises `CheckpointError` if one is missing. where: for its message.
    """
    here = set(names)
    required = (CONFIG, *_transformer_files(here), REAE, PROMPT)
    for name in required:
        if name not in here:
            raise CheckpointError(f"{where}: {name} is missing; expected the files of a SwiftVR checkpoint")
    return (*required, *sorted(name for name in here if _ABOUT.fullmatch(name)))


def _transformer_files(here: Collection[str]) -> list[str]:
    """The transformer in one file, or else its index and all of its shards."""
    counts = {int(found[1]) for name in here if (found := _SHARD.fullmatch(name))}
    if TRANSFORMER in here or not counts:
        return [TRANSFORMER]
    count, stem = max(counts), TRANSFORMER.removesuffix(".safetensors")
    shards = [f"{stem}-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
    return [f"{TRANSFORMER}.index.json", *shards]


def list_files(repository: HubRepository) -> Listing:
    """Ask the hub what to download.

    Raises `CheckpointError` if there is no such repository or revision, it may not be read, or it holds no checkpoint;
    `DownloadError` if the hub cannot be reached; `MissingPackageError` without `huggingface_hub`.
    """
    with _own_errors(repository):
        from huggingface_hub import HfApi

        info = HfApi(library_name="swiftvr-trt").model_info(
            repository.name, revision=repository.revision, files_metadata=True, timeout=_TIMEOUT_S
        )
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    needed = needed_files(siblings, repository)
    if info.sha is None or not _COMMIT.fullmatch(info.sha):
        raise DownloadError(f"{_endpoint()} names no commit of {repository}; is it a mirror of the hub?")
    files = tuple(_remote_file(siblings[name]) for name in needed)
    return Listing(repository, info.sha, _licence(info), files)


def fetch(listing: Listing, file: RemoteFile, into: BinaryIO, resume_at: int) -> None:
    """Append the rest of a file to `into`, which holds its first `resume_at` bytes and stands at their end.

    If the server cannot resume, it truncates `into` and starts over. Raises as `list_files` does, and `OutputError` if
    the disk is full.
    """
    with _own_errors(listing.repository):
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers

        http_get(
            hf_hub_url(listing.repository.name, file.name, revision=listing.commit),
            into,
            resume_size=resume_at,
            # Ranges of a compressed answer would be ranges of something else.
            headers={**build_hf_headers(library_name="swiftvr-trt"), "Accept-Encoding": "identity"},
            expected_size=file.size,
        )


def shared_copy(repository: HubRepository, commit: str | None) -> Path | None:
    """A complete copy in the hub's own cache, where other programs may have put it; None if there is none."""
    with _own_errors(repository):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            revision = commit or repository.revision
            path = Path(snapshot_download(repository.name, revision=revision, local_files_only=True, allow_patterns=[]))
        except LocalEntryNotFoundError:
            return None
    try:
        needed_files((file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()), path)
    except CheckpointError:
        return None
    return path


def download_folder(repository: HubRepository) -> Path:
    """Where downloads of a repository go by default: below `HF_HOME`, in the part that the hub leaves to libraries."""
    with _own_errors(repository):
        from huggingface_hub.constants import HF_ASSETS_CACHE

        return Path(HF_ASSETS_CACHE) / "swiftvr-trt" / repository.name.replace("/", "--")


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a full commit, whose files never change."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def _remote_file(sibling: RepoSibling) -> RemoteFile:
    sha256 = sibling.lfs.sha256 if sibling.lfs else None
    if sibling.size is None or not (sha256 or sibling.blob_id):
        raise DownloadError(
            f"{_endpoint()} gives no size or digest of {sibling.rfilename}, so it cannot be checked; use another mirror"
        )
    return RemoteFile(sibling.rfilename, sibling.size, sha256, sibling.blob_id)


def _licence(info: ModelInfo) -> str | None:
    stated = info.card_data.license if info.card_data else None
    if isinstance(stated, str):
        return stated
    return next((tag.removeprefix("license:") for tag in info.tags or () if tag.startswith("license:")), None)


def _endpoint() -> str:
    from huggingface_hub.constants import ENDPOINT

    return ENDPOINT


@contextmanager
def _own_errors(repository: HubRepository) -> Iterator[None]:
    """Turn what `huggingface_hub` raises in the block into an error of this package."""
    try:
        from httpx2 import HTTPError, InvalidURL
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
        from huggingface_hub.utils import disable_progress_bars
    except ImportError as error:
        raise cannot_import(error, "huggingface_hub", f"downloading {repository}", "hub") from error
    except ValueError as error:
        raise MisuseError(
            f"huggingface_hub cannot use this environment ({first_line(error)}); check HF_ENDPOINT and other variables "
            "that begin with HF_"
        ) from error
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    disable_progress_bars()
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise DownloadError(
            f"{repository} cannot be downloaded while HF_HUB_OFFLINE is set; unset it, or name a directory"
        ) from error
    except HfHubHTTPError as error:
        raise _refusal(repository, error) from error
    except (HTTPError, InvalidURL) as error:
        raise DownloadError(
            f"cannot reach {_endpoint()} ({first_line(error)}); check the network, or name a mirror with HF_ENDPOINT, "
            "then run the same command again: it continues where it stopped"
        ) from error
    except HFValidationError as error:
        raise CheckpointError(f"{repository}: {first_line(error)}") from error
    except OSError as error:
        if error.errno is None:  # the library's own: fewer bytes came than were announced
            raise DownloadError(f"{repository}: the download is incomplete; run the same command again") from error
        raise OutputError(
            f"cannot write {error.filename or 'the download'} ({error.strerror}); run the same command again when that "
            "is solved: it continues where it stopped"
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DownloadError(
            f"{_endpoint()} did not answer as the Hugging Face Hub does; check HF_ENDPOINT, and whether the network "
            "asks for a login"
        ) from error


def _refusal(repository: HubRepository, error: Exception) -> CheckpointError | DownloadError:
    """The error for an answer with an HTTP status of 400 or above."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    login = "log in with `hf auth login`, or set HF_TOKEN"
    if isinstance(error, GatedRepoError):
        return CheckpointError(
            f"{repository} is only for those who accepted its terms: accept them at {_endpoint()}/{repository.name}, "
            f"then {login}"
        )
    if isinstance(error, RepositoryNotFoundError):
        return CheckpointError(
            f"{repository}: {_endpoint()} has no such repository, or it is private; check the name, or {login}"
        )
    if isinstance(error, RevisionNotFoundError):
        return CheckpointError(
            f"{repository}: the repository exists, but has no revision {repository.revision}; expected a branch, a tag "
            "or a commit"
        )
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    if status in (401, 403):
        return CheckpointError(f"{repository}: {_endpoint()} denies access (HTTP {status}); {login}")
    if status == 404:
        return CheckpointError(f"{repository}: {_endpoint()} does not have it (HTTP 404); check HF_ENDPOINT")
    return DownloadError(
        f"{repository}: {_endpoint()} answered with HTTP {status}; run the same command again later: it continues "
        "where it stopped"
    )
