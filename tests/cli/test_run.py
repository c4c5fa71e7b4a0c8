"""`swiftvr-run` as a user meets it: real processes, real files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import click
import numpy as np
import pytest

from swiftvr_trt import Bundle
from swiftvr_trt.cli import run as cli
from swiftvr_trt.engines.bundle.cache import BundleCache
from swiftvr_trt.export.moving_picture import synthetic_frame
from swiftvr_trt.installing import install_command
from tests.clips import video_pts, write_clip
from tests.conftest import BundleFactory
from tests.engines.fakes import RECIPE, write_fake_bundle
from tests.patience import PATIENCE_S

SECOND = 1.0
RUN = [sys.executable, "-m", "swiftvr_trt.cli.run"]


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [*RUN, *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)  # type: ignore[call-overload,no-any-return]


@pytest.fixture(scope="module")
def bundle(mini_bundle: BundleFactory) -> Bundle:
    return mini_bundle()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "in.mp4")


def assert_one_error_line(outcome: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert outcome.returncode == code, outcome.stderr
    errors = [line for line in outcome.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, outcome.stderr
    assert outcome.stderr.splitlines()[-1] == errors[0]
    assert "Traceback" not in outcome.stderr
    assert outcome.stdout == ""
    for word in words:
        assert word in errors[0]


def test_a_video_is_restored_with_its_sound_and_timestamps(bundle: Bundle, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    outcome = run(clip, out, "--bundle", bundle.path, "--threads", 1)
    assert outcome.returncode == 0, outcome.stderr
    assert video_pts(out) == video_pts(clip)
    with av.open(out) as restored, av.open(clip) as source:
        assert (restored.streams.video[0].width, restored.streams.video[0].height) == (100, 132)
        ours, theirs = ([bytes(p) for p in c.demux(audio=0) if p.size] for c in (restored, source))
    assert ours == theirs
    assert "30 frames" in outcome.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4"]


def test_a_part_of_a_video_is_restored(bundle: Bundle, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    outcome = run(clip, out, "--bundle", bundle.path, "--threads", 1, "--start", "200ms", "--duration", 0.4)
    assert outcome.returncode == 0, outcome.stderr
    assert video_pts(out) == [pts - video_pts(clip)[5] for pts in video_pts(clip)[5:15]]


def test_a_preview_of_a_part_is_refused(clip: Path, tmp_path: Path) -> None:
    outcome = run(clip, tmp_path / "out.mp4", "--start=1", "--preview=1")
    assert_one_error_line(outcome, 2, "--preview was given with --start")


def test_a_preview_is_half_before_and_half_after(bundle: Bundle, clip: Path, tmp_path: Path) -> None:
    outcome = run(clip, tmp_path / "look.mp4", "--bundle", bundle.path, "--threads", 1, "--preview", 0.2)
    assert outcome.returncode == 0, outcome.stderr
    assert len(video_pts(tmp_path / "look.mp4")) == 5


def test_a_folder_of_images_becomes_a_folder_of_images(bundle: Bundle, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for index in range(3):
        with av.open(source / f"shot{index}.png", "w", format="image2") as container:
            stream = container.add_stream("png", rate=1)
            stream.width, stream.height, stream.pix_fmt = 40, 20, "rgb24"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(synthetic_frame(index, 20, 40), format="rgb24")))
            container.mux(stream.encode(None))
    outcome = run(source, tmp_path / "out", "--bundle", bundle.path, "--quiet")
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["shot0.png", "shot1.png", "shot2.png"]


@pytest.mark.parametrize("frames", [1, 2, 13])
def test_short_clips_come_back_in_full(bundle: Bundle, tmp_path: Path, frames: int) -> None:
    source = write_clip(tmp_path / "in.mp4", frames)
    assert run(source, tmp_path / "out.mp4", "--bundle", bundle.path, "--threads", 1).returncode == 0
    assert video_pts(tmp_path / "out.mp4") == video_pts(source)


def test_a_bundle_of_another_shape_keeps_the_display_aspect(bundle: Bundle, clip: Path, tmp_path: Path) -> None:
    assert run(clip, tmp_path / "out.mp4", "--bundle", bundle.path, "--threads", 1).returncode == 0
    with av.open(tmp_path / "out.mp4") as restored:
        stream = restored.streams.video[0]
        assert stream.sample_aspect_ratio is not None
        display = Fraction(stream.width, stream.height) * stream.sample_aspect_ratio
    assert abs(display - Fraction(56, 34)) < Fraction(1, 50)


def test_the_cached_bundle_of_the_right_size_is_found(mini_checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    recipe = ("--checkpoint", mini_checkpoint, "--upscale", 1, "--clip-len", 4, "--cache", cache)
    built = run(clip, tmp_path / "a.mkv", *recipe, "-v")
    assert built.returncode == 0, built.stderr
    assert "prepared part 4 of 4" in built.stderr
    assert "traced decode" in built.stderr
    found = run(clip, tmp_path / "b.mkv", "--resolution", "56x34", "--clip-len", 4, "--cache", cache)
    assert found.returncode == 0, found.stderr
    assert "prepared" not in found.stderr
    with av.open(tmp_path / "a.mkv") as a, av.open(tmp_path / "b.mkv") as b:
        for ours, theirs in zip(a.decode(video=0), b.decode(video=0), strict=True):
            assert np.array_equal(ours.to_ndarray(), theirs.to_ndarray())


def test_a_cached_bundle_with_another_recipe_is_not_used(clip: Path, tmp_path: Path) -> None:
    for checkpoint, changes in (("a", {"clip_len": 8}), ("b", {"parity": True}), ("c", {"target": "h100"})):
        recipe = replace(RECIPE, checkpoint=checkpoint * 64, width=112, height=68, clip_len=24, target="cpu")
        recipe = replace(recipe, **changes)
        write_fake_bundle(BundleCache(tmp_path / "cache").path(recipe), recipe)
    outcome = run(clip, tmp_path / "out.mp4", "--cache", tmp_path / "cache")
    assert_one_error_line(outcome, 2, "112x68, fp32, 24-frame chunks, target cpu")


def test_bundles_of_several_checkpoints_are_refused_as_ambiguous(clip: Path, tmp_path: Path) -> None:
    for checkpoint in "ab":
        recipe = replace(RECIPE, checkpoint=checkpoint * 64, width=112, height=68, clip_len=24, target="cpu")
        write_fake_bundle(BundleCache(tmp_path / "cache").path(recipe), recipe)
    outcome = run(clip, tmp_path / "out.mp4", "--cache", tmp_path / "cache")
    assert_one_error_line(outcome, 2, "several checkpoints", "aaaaaaaa", "bbbbbbbb")


def test_an_output_that_cannot_be_written_is_refused_before_a_bundle_is_built(
    mini_checkpoint: Path, clip: Path, tmp_path: Path
) -> None:
    (tmp_path / "there.mp4").write_bytes(b"precious")
    build = ("--checkpoint", mini_checkpoint, "--cache", tmp_path / "cache")
    for name, word in (("there.mp4", "exists"), ("none/out.mp4", "does not exist"), ("out.xyz", ".xyz")):
        outcome = run(clip, tmp_path / name, *build)
        assert_one_error_line(outcome, outcome.returncode, word)
        assert outcome.returncode in (1, 2)
    assert not (tmp_path / "cache").exists()


def test_an_interrupt_during_a_build_ends_the_build(mini_checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    command: list[str | Path] = [*RUN, clip, tmp_path / "out.mp4", "--checkpoint", mini_checkpoint, "--cache", cache]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "prepared part 1" in line:
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert not [path for path in (cache / "bundles").iterdir() if path.is_dir()]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache"]


def test_a_truncated_input_is_restored_as_far_as_it_goes_and_fails(bundle: Bundle, tmp_path: Path) -> None:
    for name in ("in.mkv", "in.ts"):
        whole = write_clip(tmp_path / f"whole-{name}", frames=250)
        data = whole.read_bytes()
        cut = tmp_path / name
        cut.write_bytes(data[: len(data) // 5])
        out = tmp_path / f"out-{name}"
        outcome = run(cut, out, "--bundle", bundle.path, "--threads", 1)
        if name.endswith(".ts"):  # a transport stream promises nothing
            assert outcome.returncode == 0, outcome.stderr
        else:
            assert_one_error_line(outcome, 1, "the input promises 10.0 s, but ends after", out.name)
        assert 10 < len(video_pts(out)) < 100


def test_a_trace_has_every_stage_of_every_chunk(bundle: Bundle, clip: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    options = ("--bundle", bundle.path, "--device", "cpu", "--trace", trace, "--threads", 1)
    outcome = run(clip, tmp_path / "out.mp4", *options)
    assert outcome.returncode == 0, outcome.stderr
    names = [event["name"] for event in json.loads(trace.read_text()) if event["ph"] == "X"]
    # 30 frames in clips of 8: FIRST and LAST see one latent more.
    assert (names.count("dit_edge"), names.count("dit")) == (2, 2)
    assert names.count("encode") == names.count("decode") == 3 + 2 + 2 + (30 - 28 + 3 + 3) // 4
    assert_one_error_line(
        run(clip, tmp_path / "b.mp4", "--bundle", bundle.path, "--trace", tmp_path / "no" / "trace"), 1, "trace"
    )


def test_the_runtime_never_imports_torch(bundle: Bundle, clip: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    blocked = ("torch", "onnx", "onnxscript", "safetensors")
    (site / "sitecustomize.py").write_text(f"import sys\nfor name in {blocked!r}:\n    sys.modules[name] = None\n")
    outcome = run(
        clip, tmp_path / "out.mp4", "--bundle", bundle.path, "--threads", 1, env={**os.environ, "PYTHONPATH": str(site)}
    )
    assert outcome.returncode == 0, outcome.stderr


def test_without_onnxruntime_one_line_names_the_extra(bundle: Bundle, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['onnxruntime'] = None\n")
    outcome = run(clip, tmp_path / "out.mp4", "--bundle", bundle.path, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert_one_error_line(outcome, 1, "onnxruntime", install_command("cpu"))


def test_misuse_ends_in_one_line_and_exit_code_2(bundle: Bundle, clip: Path, tmp_path: Path) -> None:
    out, empty = tmp_path / "out.mp4", tmp_path / "empty"
    empty.mkdir()
    rubbish = tmp_path / "rubbish.mp4"
    rubbish.write_bytes(b"no video at all" * 100)
    good = ("--bundle", bundle.path)
    for arguments, words in (
        ((tmp_path / "none.mp4", out, *good), ("none.mp4",)),
        ((rubbish, out, *good), ("rubbish.mp4",)),
        ((empty, tmp_path / "o", *good), ("empty",)),
        ((clip, clip, *good), ("itself",)),
        ((clip, out, "--bundle", empty), ("manifest.json",)),
        ((clip, out, *good, "--upscale", 3), ("100x132", "168x102")),
        ((clip, out, *good, "--checkpoint", "x"), ("--checkpoint",)),
        ((clip, out, "--resolution", "many"), ("WIDTHxHEIGHT",)),
        ((clip, out, "--upscale", "0"), ("--upscale",)),
        ((clip, out, "--cache", empty), ("112x68",)),
        ((clip, out, "--checkpoint", empty, "--cache", tmp_path / "c"), ("safetensors",)),
        ((clip, out, *good, "--codec", "nonsense"), ("nonsense",)),
        ((clip, out, *good, "--threads", 0), ("--threads",)),
        ((clip, out, *good, "--precision", "fp16"), ("--precision", "--bundle")),
        ((clip, out, *good, "--clip-len", 8), ("--clip-len", "--bundle", "inspect")),
        ((clip, out, *good, "--trace", clip), ("INPUT",)),
        ((clip, out, *good, "--trace", out), ("OUTPUT",)),
        ((clip, out, *good, "--trace", rubbish), ("rubbish.mp4", "exists", "-y")),
        ((clip, out, *good, "--trace", empty), ("directory",)),
        (("", out, *good), ("empty name",)),
        ((clip, "", *good), ("empty name",)),
        ((clip, tmp_path / "out.xyz", *good), (".xyz",)),
        ((clip,), ("OUTPUT",)),
        ((clip, out, "--frobnicate"), ("--frobnicate",)),
    ):
        assert_one_error_line(run(*arguments), 2, *words)
    assert (
        sorted(path.name for path in tmp_path.iterdir()) == ["empty", "rubbish.mp4"] + ["c"] * (tmp_path / "c").exists()
    )


def test_an_existing_output_is_kept_unless_told_otherwise(bundle: Bundle, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    out.write_bytes(b"precious")
    assert_one_error_line(run(clip, out, "--bundle", bundle.path), 2, "exists")
    assert out.read_bytes() == b"precious"
    assert run(clip, out, "--bundle", bundle.path, "-y", "--threads", 1).returncode == 0
    assert len(video_pts(out)) == 30


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")
def test_if_the_trace_cannot_be_written_it_is_named_and_the_output_kept(
    bundle: Bundle, clip: Path, tmp_path: Path
) -> None:
    outcome = run(clip, tmp_path / "out.mp4", "--bundle", bundle.path, "--trace", "/dev/full")
    assert_one_error_line(outcome, 1, "/dev/full", "trace")
    assert len(video_pts(tmp_path / "out.mp4")) == 30


@pytest.mark.skipif(os.name != "posix", reason="closes a descriptor in the child")
def test_a_run_completes_when_standard_error_is_closed(bundle: Bundle, clip: Path, tmp_path: Path) -> None:
    command = [*RUN, str(clip), str(tmp_path / "out.mp4"), "--bundle", str(bundle.path)]
    assert subprocess.run(command, preexec_fn=lambda: os.close(2), check=False).returncode == 0
    assert len(video_pts(tmp_path / "out.mp4")) == 30


@pytest.mark.alone
@pytest.mark.parametrize("polite", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_and_says_so(bundle: Bundle, tmp_path: Path, polite: signal.Signals) -> None:
    source = write_clip(tmp_path / "in.mkv", frames=600)
    out = tmp_path / "out"
    out.mkdir()
    command: list[str | Path] = [*RUN, source, out / "o.mp4", "--bundle", bundle.path, "--threads", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not list(out.iterdir()):
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.5)
    process.send_signal(polite)
    began = time.monotonic()
    _, stderr = process.communicate(timeout=20)
    assert time.monotonic() - began < SECOND
    assert process.returncode == 130
    assert stderr.splitlines()[-1].startswith("error: interrupted")
    assert list(out.iterdir()) == []


def test_a_full_disk_ends_in_one_line_and_leaves_nothing(bundle: Bundle, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    source = write_clip(tmp_path / "in.mkv", frames=120)
    out = tmp_path / "out"
    out.mkdir()

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))

    outcome = run(source, out / "o.mp4", "--bundle", bundle.path, "--threads", 1, preexec_fn=small_files)
    assert_one_error_line(outcome, 1, "o.mp4")
    assert list(out.iterdir()) == []


def test_help_and_version_are_printed() -> None:
    for argument, word in (("--help", "OUTPUT"), ("--version", "0.")):
        outcome = run(argument)
        assert outcome.returncode == 0
        assert word in outcome.stdout


def test_help_fits_a_terminal_and_groups_every_option() -> None:
    said = run("--help", env={**os.environ, "COLUMNS": "80"}).stdout
    assert max(map(len, said.splitlines())) <= 80
    headings = [line for line in said.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == [*(f"{heading}:" for heading in cli._SECTIONS), "Other:"]
    options = [param.opts[0] for param in cli.command.params if isinstance(param, click.Option)]
    listed = [line for line in said.splitlines() if line.startswith("  -")]
    assert len(listed) == len(options) + 1  # and --help
    assert all(option in said for option in options)


def cpu_seconds_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell the time of a child that has ended")
def test_help_takes_less_than_half_a_second() -> None:
    took = []
    for _ in range(3):  # the first one may have to compile the sources
        before = cpu_seconds_of_children()
        assert run("--help").returncode == 0
        took.append(cpu_seconds_of_children() - before)
    assert min(took) < 0.5


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, json\nfrom swiftvr_trt.cli import run\n"
        "print(json.dumps([m for m in ('torch', 'av', 'onnxruntime', 'rich', 'onnx') if m in sys.modules]))"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(outcome.stdout) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--ort-graphs"], ("--ort-graphs was given for a bundle for onnx on cpu", "--device cuda")),
        (["--device", "gpu"], ("device 'gpu' is not known", "cuda:N")),
    ],
)
@pytest.mark.parametrize("count", [1, 2])
def test_an_unsuitable_device_is_refused_once_and_before_anything_else(
    bundle: Bundle, clip: Path, tmp_path: Path, options: list[str], words: tuple[str, ...], count: int
) -> None:
    inputs = [clip, *(shutil.copy(clip, tmp_path / "b.mp4") for _ in range(count - 1))]
    output = tmp_path / ("out.mp4" if count == 1 else "out/")
    outcome = run(*inputs, f"{output}{'/' * (count - 1)}", "--bundle", bundle.path, *options)
    assert_one_error_line(outcome, 2, *words)
    assert len(outcome.stderr.splitlines()) == 1
    assert not output.exists()


def test_engines_for_the_cpu_are_refused_before_they_are_built(
    mini_checkpoint: Path, clip: Path, tmp_path: Path
) -> None:
    building = (
        "--checkpoint",
        mini_checkpoint,
        "--target",
        "RTX 4070 Ti",
        "--cache",
        tmp_path / "c",
    )
    outcome = run(clip, tmp_path / "out.mp4", "--device", "cpu", *building)
    assert_one_error_line(outcome, 2, "holds engines for target RTX 4070 Ti, which run on GPUs only", "--target cpu")
    assert not (tmp_path / "c").exists()
