"""Downloads from a hub on 127.0.0.1, with the real `huggingface_hub`: complete, right, resumed, or one line.

The library reads its environment when it is imported, so most tests run the command in a process of its own.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swiftvr_trt import CheckpointError, OutputError
from swiftvr_trt.engines.bundle.checkpoints import CONFIG, PROMPT, REAE, TRANSFORMER, HubRepository
from swiftvr_trt.export.download import _check_space, obtain_checkpoint, progress_lines
from swiftvr_trt.export.hub import RemoteFile
from tests.cli.program import Said, finish, start
from tests.hub_server import COMMIT, REPOSITORY, Faults, HubServer, serve_hub
from tests.patience import PATIENCE_S, wait_until

NAME = f"hf:{REPOSITORY}"
CHUNK = 10 << 20
"""What the library writes at a time."""
LARGE = 24 << 20
NEEDED = {"transformer/config.json", TRANSFORMER, REAE, PROMPT, "LICENSE", "README.md"}
Run = Callable[..., Said]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files with the right names. Nothing reads what is in them."""
    root = tmp_path_factory.mktemp("repository")
    (root / "transformer").mkdir()
    for name, data in (
        (CONFIG, b"{}"),
        (TRANSFORMER, os.urandom(LARGE)),
        (REAE, b"autoencoder"),
        (PROMPT, b"prompt"),
        ("LICENSE", b"Apache-2.0"),
        ("README.md", b"# SwiftVR\n"),
        ("inference.py", b"raise SystemExit"),
        ("other.safetensors", b"not needed"),
        ("transformer/diffusion_pytorch_model.fp16.safetensors", b"not needed"),
    ):
        (root / name).write_bytes(data)
    return root


@pytest.fixture
def hub(repository: Path) -> Iterator[HubServer]:
    with serve_hub(repository) as server:
        yield server


@pytest.fixture
def environment(hub: HubServer, tmp_path: Path) -> dict[str, str]:
    return {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "", "HF_TOKEN": "secret"}


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    def call(*arguments: object, **changes: str) -> Said:
        return finish(start("download", *arguments, **{**environment, **changes}))

    return call


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def complete(root: Path, repository: Path) -> bool:
    served = contents(repository)
    return contents(root) == {name: served[name] for name in NEEDED}


def ranges(hub: HubServer) -> list[str]:
    return [request.split()[2] for request in hub.requests if "bytes=" in request]


def test_only_what_a_checkpoint_needs_is_downloaded(run: Run, hub: HubServer, tmp_path: Path, repository: Path) -> None:
    said = run(NAME, "--to", tmp_path / "there")
    assert (said.code, said.out.strip()) == (0, str(tmp_path / "there"))
    assert "licence: apache-2.0" in said.err
    assert said.err.endswith(f"Use it: swiftvr-run old.mp4 new.mp4 --checkpoint {tmp_path / 'there'}\n")
    assert complete(tmp_path / "there", repository)
    paths = {request.split()[1] for request in hub.requests}
    resolve = f"/{REPOSITORY}/resolve/{COMMIT}/"
    storage = {f"/storage/{name}" for name in (TRANSFORMER, REAE, PROMPT)}
    asked = {f"/api/models/{REPOSITORY}"} | {resolve + name for name in NEEDED} | storage
    assert paths == asked, "nothing else is requested: no telemetry"
    assert hub.leaks == [], "the token is for the hub only"


def test_what_is_there_is_checked_and_not_downloaded_again(run: Run, hub: HubServer, tmp_path: Path) -> None:
    run(NAME, "--to", tmp_path / "there")
    hub.requests.clear()
    assert run(NAME, "--to", tmp_path / "there").code == 0
    assert hub.requests == [f"GET /api/models/{REPOSITORY}"]


def test_a_file_of_another_version_is_not_replaced(run: Run, tmp_path: Path) -> None:
    (tmp_path / REAE).write_bytes(b"mine")
    said = run(NAME, "--to", tmp_path, "-q")
    assert (said.code, (tmp_path / REAE).read_bytes()) == (2, b"mine")
    assert "exists and is not the file of this revision; delete it, or choose another directory" in said.error


def test_quiet_prints_the_directory_only(run: Run, tmp_path: Path) -> None:
    assert run(NAME, "--to", tmp_path / "there", "-q").err == ""


def test_a_connection_that_breaks_is_resumed(run: Run, hub: HubServer, tmp_path: Path, repository: Path) -> None:
    hub.faults = Faults(break_at=CHUNK + 1000, breaks=2)
    assert run(NAME, "--to", tmp_path / "there").code == 0
    assert ranges(hub) == [f"bytes={CHUNK}-", f"bytes={CHUNK}-", f"bytes={2 * CHUNK}-", f"bytes={2 * CHUNK}-"]
    assert complete(tmp_path / "there", repository)


@pytest.mark.parametrize("end", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_an_interrupted_download_continues(
    hub: HubServer, environment: dict[str, str], run: Run, tmp_path: Path, repository: Path, end: str
) -> None:
    hub.faults = Faults(stall=threading.Event())
    process = start("download", NAME, "--to", tmp_path / "there", **environment)
    part = tmp_path / "there" / f"{TRANSFORMER}.part"
    assert hub.stalled.wait(60)
    wait_until(lambda: part.is_file() and part.stat().st_size >= CHUNK)
    process.send_signal(getattr(signal, end))
    began = time.monotonic()
    said = finish(process)
    assert time.monotonic() - began < PATIENCE_S / 2
    if end != "SIGKILL":
        assert said.code == 130
        assert said.err.endswith("interrupted; run the same command again, it continues where it stopped\n")
    assert part.stat().st_size == CHUNK
    hub.faults = Faults()
    hub.requests.clear()
    assert run(NAME, "--to", tmp_path / "there").code == 0
    assert set(ranges(hub)) == {f"bytes={CHUNK}-"}
    assert complete(tmp_path / "there", repository)


def test_a_server_that_cannot_resume_starts_over(run: Run, hub: HubServer, tmp_path: Path, repository: Path) -> None:
    place = tmp_path / "there" / f"{TRANSFORMER}.part"
    place.parent.mkdir(parents=True)
    place.write_bytes(contents(repository)[TRANSFORMER][:CHUNK])
    hub.faults = Faults(no_ranges=True)
    assert run(NAME, "--to", tmp_path / "there").code == 0
    assert complete(tmp_path / "there", repository)


@pytest.mark.parametrize("length", [5, LARGE, LARGE + 1], ids=["short", "whole", "too long"])
def test_a_part_that_is_wrong_is_never_taken(run: Run, tmp_path: Path, repository: Path, length: int) -> None:
    place = tmp_path / "there" / f"{TRANSFORMER}.part"
    place.parent.mkdir(parents=True)
    place.write_bytes(bytes(length))
    said = run(NAME, "--to", tmp_path / "there")
    if said.code:
        assert "what arrived is damaged" in said.error
        assert not place.exists()
        assert run(NAME, "--to", tmp_path / "there").code == 0
    assert complete(tmp_path / "there", repository)


def test_damage_on_the_way_is_noticed(run: Run, hub: HubServer, tmp_path: Path) -> None:
    hub.faults = Faults(flip=True)
    said = run(NAME, "--to", tmp_path / "there")
    served = hashlib.sha256((hub.root / TRANSFORMER).read_bytes()).hexdigest()
    assert said.code == 1
    assert f"expected {served[:16]}" in said.error
    assert "run the same command again" in said.error
    assert set(contents(tmp_path / "there")) == {CONFIG}


REFUSALS = {
    "no such repository": (Faults(status=401, headers={"X-Error-Code": "RepoNotFound"}), 2, "has no such repository"),
    "gated": (Faults(status=403, headers={"X-Error-Code": "GatedRepo"}), 2, "accepted its terms"),
    "forbidden": (Faults(status=403), 2, "denies access (HTTP 403)"),
    "bad token": (
        Faults(status=401, headers={"X-Error-Message": "Invalid credentials in Authorization header"}),
        2,
        "denies access (HTTP 401)",
    ),
    "not a hub": (Faults(status=404), 2, "does not have it (HTTP 404); check HF_ENDPOINT"),
    "down": (Faults(status=503), 1, "HTTP 503; run the same command again later"),
    "too many": (Faults(status=429), 1, "HTTP 429"),
    "login page": (Faults(page="<html>Welcome to the hotel</html>"), 1, "did not answer as the Hugging Face Hub does"),
    "other JSON": (Faults(page="[1, 2]"), 1, "did not answer as the Hugging Face Hub does"),
    "bare mirror": (Faults(no_digests=True), 1, "gives no size or digest"),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_what_a_server_refuses_is_said_in_one_line(run: Run, hub: HubServer, tmp_path: Path, kind: str) -> None:
    hub.faults, code, words = REFUSALS[kind]
    said = run(NAME, "--to", tmp_path / "there")
    assert (said.code, "secret" in said.err) == (code, False)
    assert words in said.error
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((f"{NAME}@nope",), 2, "has no revision nope"),
        ((NAME, "--revision", "nope"), 2, "has no revision nope"),
        ((f"{NAME}@v1", "--revision", "main"), 2, "name two revisions"),
        (("hf:someone/Else",), 2, "has no such repository"),
        (("SwiftVR",), 2, "expected hf:OWNER/NAME"),
        (("hf:../../etc",), 2, "expected hf:OWNER/NAME"),
        (("hf:-x/y..z",), 2, "hf:-x/y..z"),
    ],
)
def test_what_cannot_be_downloaded_is_said_in_one_line(
    run: Run, arguments: tuple[str, ...], code: int, words: str
) -> None:
    said = run(*arguments)
    assert said.code == code
    assert words in said.error


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"HF_ENDPOINT": "http://127.0.0.1:9"},
            "cannot reach http://127.0.0.1:9 (",
        ),
        ({"HF_ENDPOINT": "huggingface.co"}, "cannot reach huggingface.co ("),
        ({"HF_HUB_OFFLINE": "1"}, "cannot be downloaded while HF_HUB_OFFLINE is set"),
    ],
    ids=["refused", "no scheme", "offline"],
)
def test_a_hub_that_cannot_be_reached_is_said_in_one_line(run: Run, changes: dict[str, str], words: str) -> None:
    said = run(NAME, **changes)
    assert said.code == 1
    assert words in said.error


@pytest.mark.parametrize("changes", [{"HF_ENDPOINT": "http://[::bad"}, {"HF_HUB_DOWNLOAD_TIMEOUT": "soon"}], ids=str)
def test_an_environment_that_makes_no_sense_is_said_in_one_line(run: Run, changes: dict[str, str]) -> None:
    said = run(NAME, **changes)
    assert said.code == 2
    assert "check HF_ENDPOINT and other variables that begin with HF_" in said.error


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are POSIX")
def test_a_disk_that_takes_no_more_is_said_and_the_rest_continues(
    run: Run, environment: dict[str, str], tmp_path: Path, repository: Path
) -> None:
    import resource

    line = [sys.executable, "-m", "swiftvr_trt.cli.export", "download", NAME, "--to", str(tmp_path / "there")]
    limited = subprocess.run(
        line,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (CHUNK + 5000, CHUNK + 5000)),
    )
    assert limited.returncode == 1
    assert "cannot write" in limited.stderr
    assert "continues where it stopped" in limited.stderr
    assert "Traceback" not in limited.stderr
    assert run(NAME, "--to", tmp_path / "there").code == 0
    assert complete(tmp_path / "there", repository)


def test_a_disk_that_is_too_small_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    huge = RemoteFile(TRANSFORMER, 10**18, "0" * 64, None)
    with pytest.raises(OutputError, match=r"1000000000.00 GB are still to be downloaded, but only .* are free"):
        _check_space(tmp_path, [huge])
    _check_space(tmp_path, [RemoteFile(REAE, 5, "0" * 64, None)])


def test_a_directory_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = run(NAME, "--to", tmp_path / "file" / "there", "-q")
    assert said.code == 1
    assert "cannot be written" in said.error


def test_two_at_once_do_not_mix(environment: dict[str, str], tmp_path: Path, repository: Path) -> None:
    both = [start("download", NAME, "--to", tmp_path / "there", **environment) for _ in range(2)]
    assert [finish(process).code for process in both] == [0, 0]
    assert complete(tmp_path / "there", repository)


OBTAIN = """
import sys
from swiftvr_trt.export.download import obtain_checkpoint
print(obtain_checkpoint(sys.argv[1], lambda line: print(line, file=sys.stderr)))
"""


def obtain(environment: dict[str, str], name: str = NAME, **changes: str) -> Said:
    line = [sys.executable, "-c", OBTAIN, name]
    done = subprocess.run(line, env={**os.environ, **environment, **changes}, capture_output=True, text=True)
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("revision", ["", "@v1", f"@{COMMIT}"])
def test_a_download_is_found_again_with_and_without_a_network(
    environment: dict[str, str], hub: HubServer, repository: Path, revision: str
) -> None:
    name = NAME + revision
    first = obtain(environment, name)
    place = Path(first.out.strip())
    assert complete(place, repository)
    hub.requests.clear()
    assert obtain(environment, name).out == first.out
    assert len(hub.requests) == (0 if COMMIT in revision else 1), "a commit never changes"
    for changes in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        again = obtain(environment, name, **changes)
        assert again.out == first.out
        assert COMMIT in revision or f"using the copy in {place}, because the hub cannot be reached" in again.err
    assert obtain(environment, f"{NAME}@other", HF_HUB_OFFLINE="1").code == 1, "only what was downloaded is there"


def test_a_download_that_is_incomplete_is_not_taken_for_a_copy(
    environment: dict[str, str], hub: HubServer, repository: Path
) -> None:
    hub.faults = Faults(flip=True)
    assert obtain(environment).code == 1
    assert "HF_HUB_OFFLINE is set" in obtain(environment, HF_HUB_OFFLINE="1").err
    hub.faults = Faults()
    assert complete(Path(obtain(environment).out.strip()), repository)


SNAPSHOT = "import sys, huggingface_hub\nprint(huggingface_hub.snapshot_download(sys.argv[1]))"


def test_what_other_programs_have_downloaded_is_used(
    environment: dict[str, str], hub: HubServer, repository: Path
) -> None:
    line = [sys.executable, "-c", SNAPSHOT, REPOSITORY]
    other = subprocess.run(
        line,
        env={**os.environ, **environment, "HF_HUB_DISABLE_XET": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    hub.requests.clear()
    assert obtain(environment).out == other.stdout
    assert hub.requests == [f"GET /api/models/{REPOSITORY}"]
    assert obtain(environment, HF_HUB_OFFLINE="1").out == other.stdout
    (Path(other.stdout.strip()) / REAE).unlink()
    fresh = Path(obtain(environment).out.strip())
    assert fresh != Path(other.stdout.strip())
    assert complete(fresh, repository)


def test_a_directory_needs_no_download(tmp_path: Path) -> None:
    assert obtain_checkpoint(tmp_path) == tmp_path
    with pytest.raises(CheckpointError):
        obtain_checkpoint(tmp_path / "nothing")


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    lines: list[str] = []
    progress = progress_lines(lines.append)
    for second, done in ((0, 2_000_000_000), (1, 3_000_000_000), (10, 4_000_000_000), (11, 5_000_000_000)):
        now[0] = 100.0 + second
        progress(done, 20_000_000_000)
    assert lines == ["4.00 GB of 20.00 GB (20 %), 200.0 MB/s, 1:20 to go"]


def test_repositories_are_named_like_packages() -> None:
    assert str(HubRepository.parse("hf:a/b@refs/pr/1")) == "hf:a/b@refs/pr/1"
