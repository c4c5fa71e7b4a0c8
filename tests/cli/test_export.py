"""`swiftvr-export` as scripts see it: exit codes, results on standard output, the rest on standard error."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from swiftvr_trt import Bundle, MisuseError, Resolution, Restorer
from swiftvr_trt.engines.bundle.cache import BundleCache
from swiftvr_trt.engines.bundle.manifest import MANIFEST
from swiftvr_trt.export.graph.to_onnx import WEIGHTS
from swiftvr_trt.export.moving_picture import synthetic_frame
from swiftvr_trt.installing import install_command
from swiftvr_trt.runtime.stream.plan import plan_memory
from tests.cli.program import Call, Said, finish, start
from tests.mini import other_weights
from tests.runtime.devices.fake_trt import write_engine_bundle

SIZE = ("--resolution", "45x37", "--clip-len", "4")


@dataclass(frozen=True)
class Exports:
    """The two exports of this module: what they printed, and where their bundles are."""

    bundle: Path
    cache: Path
    onnx: Said
    build_engine: Said


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory, mini_checkpoint: Path) -> Exports:
    """`onnx` and `build-engine`, run once each and in parallel, since they take half a minute."""
    place = tmp_path_factory.mktemp("cli")
    bundle, cache = place / "bundle", place / "cache"
    line = ("--checkpoint", mini_checkpoint, *SIZE)
    processes = (
        start(
            "onnx", *line, "--no-rewrite", "owned", "--no-rewrite", "growth", "-o", bundle, XDG_CACHE_HOME=str(place)
        ),
        start("build-engine", *line, "--cache", cache),
    )
    return Exports(bundle, cache, *map(finish, processes))


@pytest.fixture
def no_torch(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that cannot import torch."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'torch':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
    )
    return {"PYTHONPATH": str(tmp_path / "site")}


@pytest.fixture
def bundle(tmp_path: Path, exports: Exports) -> Path:
    """A copy of the exported bundle, to be damaged."""
    return Path(shutil.copytree(exports.bundle, tmp_path / "copy"))


def falsify(bundle: Path, checkpoint: str | None = None) -> None:
    """Make the manifest agree with the files as they are, and name another checkpoint."""
    raw = json.loads((bundle / MANIFEST).read_text())
    for entry in raw["files"]:
        entry["sha256"] = hashlib.sha256((bundle / entry["name"]).read_bytes()).hexdigest()
    raw["recipe"]["checkpoint"] = checkpoint or raw["recipe"]["checkpoint"]
    (bundle / MANIFEST).write_text(json.dumps(raw))


def test_rewrites_that_are_switched_off_are_recorded(exports: Exports) -> None:
    assert Bundle.open(exports.bundle).manifest.recipe.without == ("growth", "owned")


def test_an_unknown_rewrite_is_refused_before_anything_is_built(
    cli: Call, mini_checkpoint: Path, tmp_path: Path
) -> None:
    said = cli("onnx", "--checkpoint", mini_checkpoint, *SIZE, "--no-rewrite", "magic", "-o", tmp_path / "bundle")
    assert said.code == MisuseError.exit_code
    assert "'magic', expected one of modulation, prompt" in said.error
    assert not (tmp_path / "bundle").exists()


def test_onnx_writes_a_bundle_that_runs_and_prints_only_its_path(exports: Exports) -> None:
    said = exports.onnx
    assert (said.code, said.out) == (0, f"{exports.bundle}\n")
    assert "prepared part 4 of 4" in said.err
    assert "dit_edge" not in said.err, "only -v shows it"
    with Restorer.open(exports.bundle) as restorer:
        assert [frame.shape for frame in restorer.restore([synthetic_frame(0, 20, 30)])] == [(37, 45, 3)]


def test_build_engine_finds_what_it_built_before_without_torch(
    exports: Exports, mini_checkpoint: Path, no_torch: dict[str, str]
) -> None:
    built = exports.build_engine
    assert built.code == 0
    [path] = BundleCache(exports.cache).search(resolution=Resolution(45, 37))
    assert built.out == f"{path}\n"
    assert Bundle.open(path).manifest.recipe.target == "cpu"
    line = ("build-engine", "--checkpoint", mini_checkpoint, *SIZE, "--cache", exports.cache)
    again = finish(start(*line, **no_torch))
    assert (again.code, again.out) == (0, built.out)
    assert "found in the cache" in again.err
    assert "prepared" not in again.err
    quiet = finish(start(*line, "-q", **no_torch))
    assert quiet == Said(0, built.out, "")


def test_without_torch_an_export_names_the_extra(
    tmp_path: Path, mini_checkpoint: Path, no_torch: dict[str, str]
) -> None:
    line = ("--checkpoint", mini_checkpoint, *SIZE)
    said = finish(start("onnx", *line, "-o", tmp_path / "bundle", **no_torch))
    assert said.code == 1
    assert said.error.endswith(f"needs the package 'torch', which is not installed: {install_command('export')}")
    assert len(said.err.splitlines()) == 1
    assert not (tmp_path / "bundle").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("stopped", ["SIGKILL", "SIGTERM"])
def test_a_build_that_is_killed_leaves_no_bundle(tmp_path: Path, mini_checkpoint: Path, stopped: str) -> None:
    cache = BundleCache(tmp_path / "cache")
    with start("build-engine", "--checkpoint", mini_checkpoint, *SIZE, "--cache", cache.root) as process:
        assert process.stderr is not None
        assert any("prepared part 1" in line for line in process.stderr)
        process.send_signal(signal.Signals[stopped])
        said = finish(process)
    assert cache.search() == []
    left = {path.name.partition(".")[2].partition("-")[0] for path in cache.bundles.iterdir()}
    if stopped == "SIGTERM":
        assert (said.code, said.error) == (130, "interrupted; nothing was left half-written")
        assert left <= {"lock"}
    else:
        assert left == {"lock", "partial"}


def test_verify_passes_a_bundle_of_this_checkpoint(cli: Call, bundle: Path, mini_checkpoint: Path) -> None:
    said = cli("verify", bundle, "--checkpoint", mini_checkpoint)
    assert said.code == 0
    rows = [line for line in said.out.splitlines() if " ok " in line]
    assert [subject for subject in ("encode", "dit_edge", "decode", "whole loop") if subject not in "".join(rows)] == []
    assert "differs" not in said.out
    assert "not finite" not in said.out


def test_verify_fails_a_bundle_whose_weights_were_tampered_with(cli: Call, bundle: Path, mini_checkpoint: Path) -> None:
    weights = bytearray((bundle / WEIGHTS).read_bytes())
    weights[3] ^= 0x40  # the exponent of one number
    (bundle / WEIGHTS).write_bytes(weights)
    assert "sha256 differs" in cli("verify", bundle, "--checkpoint", mini_checkpoint).error
    falsify(bundle)
    said = cli("verify", bundle, "--checkpoint", mini_checkpoint, "--frames", 5)
    assert said.code == 1
    assert "differs" in said.out or "not finite" in said.out


def test_verify_fails_a_bundle_of_other_weights_that_claims_this_checkpoint(
    cli: Call, tmp_path: Path, bundle: Path, mini_checkpoint: Path
) -> None:
    other = other_weights(mini_checkpoint, tmp_path / "other")
    assert "pass the checkpoint it was made from" in cli("verify", bundle, "--checkpoint", other).error
    falsify(bundle, BundleCache(tmp_path / "cache").checkpoint_digest(other))
    said = cli("verify", bundle, "--checkpoint", other, "--frames", 5)
    assert said.code == 1
    differing = [line.split()[1:4:2] for line in said.out.splitlines() if "differs" in line]
    assert [subject for subject, _ in differing] == ["decode", "whole"]


def test_inspect_describes_a_bundle_as_text_and_as_json(cli: Call, bundle: Path) -> None:
    recipe = Bundle.open(bundle).manifest.recipe
    text = cli("inspect", bundle)
    assert (text.code, text.err) == (0, "")
    for fact in (
        "45x37, fp32, target onnx",
        "4 frames",
        recipe.checkpoint,
        "float32 [4, 12, 32, 32]",
        "rgb24, rgb48, yuv420p, nv12, yuv420p10, p010; out in rgb24, rgb48",
        "decode.onnx",
    ):
        assert fact in text.out
    small, large = (json.loads(cli("inspect", bundle, "--json", "--input-size", size).out) for size in ("9x7", "90x70"))
    assert small["recipe"]["checkpoint"] == recipe.checkpoint
    assert [stage["name"] for stage in small["stages"]] == ["encode", "dit", "dit_edge", "decode"]
    assert small["bytes_on_disk"] == sum(p.stat().st_size for p in bundle.iterdir() if p.name != MANIFEST)
    assert large["stream_bytes"] - small["stream_bytes"] == (4 + 4) * (90 * 70 - 9 * 7) * 3


def test_inspect_prints_the_memory_plan_of_a_stream(cli: Call, bundle: Path, tmp_path: Path) -> None:
    engines = write_engine_bundle(tmp_path / "engines", Bundle.open(bundle))
    found = json.loads(cli("inspect", engines.path, "--json", "--input-size", "27x21").out)
    plan = plan_memory(engines.manifest, 21, 27)
    assert found["stream_bytes"] == plan.device.nbytes
    assert {b["name"]: b["offset"] for b in found["buffers"]} == plan.device.offsets
    assert {b["name"]: b["host_offset"] for b in found["buffers"] if b["host_offset"] is not None} == plan.host.offsets
    assert [b["over"] for b in found["buffers"]] == [spec.over for spec in plan.buffers.values()]


def test_inspect_describes_a_bundle_for_a_target_of_a_later_version(cli: Call, bundle: Path, tmp_path: Path) -> None:
    later = tmp_path / "later"
    shutil.copytree(bundle, later)
    manifest = json.loads((later / MANIFEST).read_text(encoding="utf-8"))
    manifest["recipe"]["target"] = "rtx9090"
    (later / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    said = cli("inspect", later)
    assert (said.code, said.err) == (0, "")
    assert "45x37, fp32, target rtx9090" in said.out


def test_a_picture_of_graphs_is_refused(cli: Call, bundle: Path, tmp_path: Path) -> None:
    said = cli("inspect", bundle, "--picture", tmp_path / "picture.svg")
    assert said.code == 2
    assert "holds graphs, and there are no engines to draw" in said.error
    assert not (tmp_path / "picture.svg").exists()


def test_doctor_describes_the_machine_as_text_and_as_json(cli: Call, tmp_path: Path, home: Path) -> None:
    text = cli("doctor", "--cache", tmp_path / "cache")
    assert (text.code, text.err) == (0, "")
    for fact in ("export a checkpoint", "target rtx5090", "numpy", str(tmp_path / "cache")):
        assert fact in text.out
    said = json.loads(cli("doctor", "--json").out)
    assert said["cache"] == str(home / "swiftvr-trt")
    assert {purpose["name"]: purpose["ready"] for purpose in said["purposes"]}["target cpu"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--target", "tpu"], "target 'tpu' is not known, expected a card such as rtx4070, or one of cpu, cuda"),
        (["--target", "onnx"], "target 'onnx' is not known, expected a card such as rtx4070, or one of cpu, cuda"),
        (["--target", "cuda", "--precision", "fp8"], "precision fp8 is not available for target cuda; it takes: fp32"),
        (
            ["--target", "rtx3080", "--precision", "fp8"],
            "precision fp8 is not available for the RTX 3080 10 GB (SM86 cannot",
        ),
        (["--target", "rtx4090", "--precision", "nvfp4"], "nvfp4 is not available for target rtx4090 (SM89 cannot"),
        (
            ["--target", "rtx5090", "--precision", "fp32"],
            "precision fp32 is not available for target rtx5090 (TensorRT-RTX has no fused",
        ),
        (["--target", "4070it"], "target '4070it' is not known, did you mean rtx4070ti or "),
        (["--target", "RTX 6000"], "several cards are called RTX 6000: name one of RTX PRO 6000 (rtxpro6000), "),
        (["--target", "b200"], "there are no engines for the B200 (SM100) without it: build on the machine that has"),
        (["-o", "two", "--resolution", "64x64"], "-o names one bundle, but 2 resolutions were asked for"),
        (["--precision", "int3"], "'int3' is not one of 'auto', 'fp32'"),
        (["--precision", "fp8"], "precision fp8 is not available for target cpu"),
        (["--resolution", "big"], "resolution is 'big', expected WIDTHxHEIGHT"),
        (["--resolution", "0x9"], "resolution is 0x9, expected sides from 1"),
        (["--clip-len", "5"], "clip length is 5 frames"),
        (["--clip-len", "many"], "'many' is not a valid integer"),
        (["--checkpoint", "nowhere"], "nowhere: no such directory"),
        (["--colour"], "No such option"),
        (["-o", "precious"], "precious: already exists and is not a bundle"),
        (["-o", "file"], "file: already exists and is a file"),
        (["-o", "."], "exists and is not a bundle"),
        (["-o", "empty/.."], "exists and is not a bundle"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_built_is_refused_in_one_line(
    cli: Call,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mini_checkpoint: Path,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "precious").mkdir()
    (tmp_path / "empty").mkdir()
    for file in ("precious/holiday.jpg", "file"):
        (tmp_path / file).touch()
    answer = cli("build-engine", "--checkpoint", mini_checkpoint, *SIZE, *arguments)
    assert answer.code == 2
    assert said in answer.error
    assert len(answer.err.splitlines()) == 1
    assert (tmp_path / "precious" / "holiday.jpg").exists()


def test_onnx_refuses_what_only_tensorrt_executes(cli: Call, tmp_path: Path, mini_checkpoint: Path) -> None:
    place = tmp_path / "bundle"
    said = cli("onnx", "--checkpoint", mini_checkpoint, *SIZE, "--precision", "nvfp4", "-o", place)
    assert said.code == 2
    assert said.error.startswith("precision nvfp4 is not available for target onnx (")
    assert "use build-engine --target rtx5090" in said.error
    assert said.error.endswith("it takes: fp32, bf16, fp16, fp8, int8")
    assert len(said.err.splitlines()) == 1
    assert not place.exists()


@pytest.mark.parametrize("verb", ["inspect", "verify"])
def test_a_missing_bundle_is_refused_in_one_line(cli: Call, tmp_path: Path, mini_checkpoint: Path, verb: str) -> None:
    rest = ("--checkpoint", mini_checkpoint) if verb == "verify" else ()
    said = cli(verb, tmp_path / "nothing", *rest)
    assert said.code == 2
    assert said.error.startswith(f"{tmp_path / 'nothing'}: no such directory")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("option", [("--calibration", "x.json"), ("--calibration-percentile", "99")])
def test_scales_for_a_precision_without_any_are_refused(
    cli: Call, tmp_path: Path, mini_checkpoint: Path, precision: str, option: tuple[str, str]
) -> None:
    line = ("onnx", "--checkpoint", mini_checkpoint, *SIZE, "--precision", precision, *option, "-o")
    said = cli(*line, tmp_path / "bundle")
    assert said.code == 2
    assert f"precision {precision} has no scales: leave {option[0]} out" in said.error
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--calibration", "nothing.json"), "nothing.json does not exist"),
        (("--calibration-clip", "nothing.mp4"), "nothing.mp4 does not exist"),
        (("--calibration-percentile", "12"), "90<=x<=100"),
        (("--calibration", "a.json", "--calibration-clip", "b.mp4"), "without a clip"),
    ],
    ids=["no-file", "no-clip", "percentile", "both"],
)
def test_scales_that_cannot_be_found_are_refused(
    cli: Call, tmp_path: Path, mini_checkpoint: Path, options: tuple[str, ...], message: str
) -> None:
    line = ("onnx", "--checkpoint", mini_checkpoint, *SIZE, "--precision", "fp8", *options, "-o")
    said = cli(*line, tmp_path / "bundle")
    assert said.code == 2
    assert message in said.error
    assert not (tmp_path / "bundle").exists()


def test_a_bundle_without_a_name_is_refused(
    cli: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mini_checkpoint: Path
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    said = cli("onnx", "--checkpoint", mini_checkpoint, *SIZE, "-o", ".")
    assert said.code == 2
    assert "a name of its own" in said.error


def test_a_cache_that_cannot_be_written_ends_with_exit_code_1(cli: Call, tmp_path: Path, mini_checkpoint: Path) -> None:
    (tmp_path / "file").touch()
    said = cli("build-engine", "--checkpoint", mini_checkpoint, *SIZE, "--cache", tmp_path / "file")
    assert said.code == 1
    assert "the cache cannot be written" in said.error


def test_a_process_ends_with_the_exit_code_and_one_line(mini_checkpoint: Path) -> None:
    said = finish(start("build-engine", "--checkpoint", mini_checkpoint, "--resolution", "big"))
    assert said.code == 2
    assert said.error.startswith("resolution is 'big'")
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize("verb", ["onnx", "build-engine", "verify", "inspect", "doctor"])
def test_every_command_has_a_help_that_fits_a_terminal(cli: Call, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = cli(verb, "--help")
    assert (said.code, said.err) == (0, "")
    assert max(map(len, said.out.splitlines())) <= 80
    assert said.out.startswith(f"Usage: swiftvr-export {verb}")
