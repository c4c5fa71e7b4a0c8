"""What is built, what is refused before anything is built, and what the bundles of one call share."""

from __future__ import annotations

import builtins
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from swiftvr_trt import Bundle, CheckpointError, MachineError, MissingPackageError, MisuseError, Resolution
from swiftvr_trt.engines.bundle.auto import Host
from swiftvr_trt.engines.bundle.cache import BundleCache
from swiftvr_trt.engines.bundle.calibration import Calibration
from swiftvr_trt.engines.bundle.manifest import Recipe
from swiftvr_trt.engines.compile import compiler, estimate
from swiftvr_trt.errors import BuildError
from swiftvr_trt.export import build, write
from swiftvr_trt.export.build import BuildOptions, build_bundles, foresee_build, needs_export_extra
from swiftvr_trt.export.graph.calibration import CalibrationSource
from swiftvr_trt.installing import PACKAGES
from swiftvr_trt.runtime.devices import compatible
from swiftvr_trt.runtime.devices.driver import Driver
from tests.engines.fakes import WEIGHTS, write_fake_bundle

SMALL, LARGE = Resolution(45, 37), Resolution(64, 48)


@dataclass
class Written:
    """What `write_bundle` was asked for, and the directories of graphs that were opened and closed."""

    recipes: list[Recipe] = field(default_factory=list)
    graphs: list[object] = field(default_factory=list)
    calibrations: list[object] = field(default_factory=list)
    opened: list[tuple[Path, Path | None]] = field(default_factory=list)
    closed: int = 0


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Written:
    """Bundles are written at once, by hand; no compiler is needed."""
    seen = Written()

    def write_bundle(_checkpoint: object, recipe: Recipe, path: Path, _report: object, **shared: Any) -> Bundle:
        seen.recipes.append(recipe)
        seen.graphs.append(shared["graphs"])
        seen.calibrations.append(shared["calibration"])
        return write_fake_bundle(path, recipe)

    @contextmanager
    def open_graphs(bundle: Path, keep: Path | None) -> Any:
        seen.opened.append((bundle, keep))
        try:
            yield object()
        finally:
            seen.closed += 1

    monkeypatch.setattr(write, "write_bundle", write_bundle)
    monkeypatch.setattr(write, "open_graphs", open_graphs)
    monkeypatch.setattr(compiler, "compiler_version", lambda _compiler: "1.7.1")
    return seen


@pytest.fixture
def options(mini_checkpoint: Path, tmp_path: Path) -> BuildOptions:
    return BuildOptions(mini_checkpoint, (SMALL,), clip_len=8, cache=tmp_path / "cache")


def engines(options: BuildOptions) -> BuildOptions:
    return replace(options, target="rtx5090", precision="fp16")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "tpu"}, "target 'tpu' is not known"),
        ({"precision": "fp8"}, "precision fp8 is not available for target cpu"),
        ({"target": "onnx", "precision": "nvfp4"}, "precision nvfp4 is not available for target onnx"),
        ({"clip_len": 5}, "clip length is 5 frames"),
        ({"output": Path("b"), "resolutions": (SMALL, LARGE)}, "-o names one bundle, but 2 resolutions"),
        ({"calibration": Path("c.json")}, "precision fp32 has no scales: leave --calibration out"),
        ({"calibration_clip": Path("c.mp4")}, "precision fp32 has no scales: leave --calibration-clip out"),
        ({"calibration_percentile": 99.0}, "precision fp32 has no scales: leave --calibration-percentile out"),
    ],
    ids=str,
)
def test_options_that_cannot_be_built_are_refused_at_once(changes: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"checkpoint": Path("nowhere"), "resolutions": (SMALL,)}
    BuildOptions(**good)
    with pytest.raises(MisuseError, match=message):
        BuildOptions(**{**good, **changes})


def test_an_output_path_may_come_with_a_repeated_size() -> None:
    assert len(BuildOptions(Path(), (SMALL, SMALL), output=Path("b")).recipes("c0" * 32, None)) == 1


def test_recipes_name_the_target_by_its_own_name_and_rewrites_once_in_order() -> None:
    options = BuildOptions(
        Path(), (LARGE, SMALL), "rtx4070", "fp8", clip_len=8, parity=True, without=("owned", "growth", "owned")
    )
    first = Recipe("c0" * 32, 64, 48, 8, "fp8", "rtx4090", True, ("growth", "owned"), "ab" * 32, "int8")
    assert options.recipes("c0" * 32, "ab" * 32) == (first, replace(first, width=45, height=37))


def test_bundles_go_into_the_cache_and_are_found_there(options: BuildOptions, written: Written) -> None:
    options = replace(options, resolutions=(LARGE, SMALL))
    lines: list[str] = []
    built = list(build_bundles(options, lines.append))
    assert [bundle.manifest.recipe.resolution for bundle in built] == [LARGE, SMALL]
    assert {bundle.path.parent for bundle in built} == {BundleCache(options.cache).bundles}
    assert "preparing the model for 64x48, once for all videos" in lines
    assert "found in the cache" not in lines
    assert [bundle.path for bundle in build_bundles(options, lines.append)] == [bundle.path for bundle in built]
    assert lines[-2:] == ["found in the cache"] * 2
    assert len(written.recipes) == 2


def test_a_bundle_with_an_output_path_is_built_there_each_time(
    options: BuildOptions, written: Written, tmp_path: Path
) -> None:
    options = replace(options, output=tmp_path / "b", overwrite=True, target="onnx")
    for _ in range(2):
        [bundle] = build_bundles(options)
        assert (bundle.path, bundle.manifest.recipe.target) == (tmp_path / "b", "onnx")
    assert len(written.recipes) == 2
    assert not (tmp_path / "cache" / "bundles").exists()


def test_engines_of_one_call_share_their_graphs(options: BuildOptions, written: Written, tmp_path: Path) -> None:
    options = replace(engines(options), resolutions=(LARGE, SMALL), keep_onnx=tmp_path / "keep")
    lines: list[str] = []
    with closing(build_bundles(options, lines.append)) as bundles:
        next(bundles)
        next(bundles)
        assert written.closed == 0
    assert written.closed == 1
    assert [keep for _, keep in written.opened] == [tmp_path / "keep"]
    assert written.graphs[0] is written.graphs[1] is not None
    assert [line for line in lines if line.startswith("estimate: ")]


def test_graphs_for_onnx_runtime_have_no_directory_of_their_own(options: BuildOptions, written: Written) -> None:
    list(build_bundles(replace(options, keep_onnx=Path("unused"))))
    assert written.graphs == [None]
    assert written.opened == []


def test_bundles_of_one_call_share_their_scales(
    options: BuildOptions, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Calibration("", "", 100.0, {})
    asked: list[CalibrationSource] = []

    def obtain(source: CalibrationSource, *_: object) -> Calibration:
        asked.append(source)
        return found

    monkeypatch.setattr(CalibrationSource, "obtain", obtain)
    options = replace(options, target="onnx", precision="fp8", resolutions=(LARGE, SMALL), calibration_percentile=99.5)
    identities = {bundle.manifest.recipe.calibration for bundle in build_bundles(options)}
    assert identities == {asked[0].identity}
    assert [source.percentile for source in asked] == [99.5]
    assert written.calibrations == [found, found]


@pytest.mark.parametrize(
    ("module", "function", "error"),
    [
        (estimate, "check_feasible", MachineError("the build would take about 7 GB of memory")),
        (compiler, "compiler_version", MissingPackageError("tensorrt-rtx", "building engines", "rtx")),
    ],
    ids=["memory", "compiler"],
)
def test_what_this_machine_cannot_compile_is_refused_before_the_checkpoint_is_loaded(
    options: BuildOptions,
    written: Written,
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    function: str,
    error: MachineError,
) -> None:
    def refuse(*_: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr("swiftvr_trt.export.network.checkpoint.load_checkpoint", lambda _path: pytest.fail("loaded"))
    monkeypatch.setattr(module, function, refuse)
    with pytest.raises(MachineError) as caught:
        list(build_bundles(engines(options)))
    assert caught.value is error
    assert written.recipes == []


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"without": ("magic",)}, MisuseError, "'magic', expected one of"),
        ({"checkpoint": Path("nowhere")}, CheckpointError, "nowhere: no such directory"),
        ({"calibration_clip": Path("nothing.mp4")}, MisuseError, "nothing.mp4 does not exist"),
        ({"output": Path(__file__)}, MisuseError, "already exists and is a file"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_inputs_that_do_not_exist_are_refused_before_anything_is_built(
    options: BuildOptions, written: Written, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    options = replace(options, target="onnx", precision="fp8")
    with pytest.raises(error, match=message):
        list(build_bundles(replace(options, **changes)))
    assert written.recipes == []


def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = builtins.__import__

    def absent(name: str, *rest: Any) -> object:
        if name == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return usual(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    message = r"tracing needs the package 'torch', which is not installed: pip install .*\[export\]"
    with pytest.raises(MissingPackageError, match=message), needs_export_extra("tracing"):
        import torch  # noqa: F401


def test_a_bundle_is_replaced_on_request_only(written: Written, options: BuildOptions, tmp_path: Path) -> None:
    place = write_fake_bundle(tmp_path / "b", content=b"precious").path
    options = replace(options, output=place, target="onnx")
    with pytest.raises(MisuseError, match=r"b: a bundle is there already; choose another name, or replace it with -y$"):
        list(build_bundles(options))
    assert written.recipes == []
    assert (place / WEIGHTS).read_bytes() == b"precious"
    (bundle,) = build_bundles(replace(options, overwrite=True))
    assert bundle.manifest.recipe.target == "onnx"
    assert Bundle.open(place).manifest == bundle.manifest


def test_the_usual_precision_is_said_where_nobody_asked_for_one(written: Written, options: BuildOptions) -> None:
    lines: list[str] = []
    list(build_bundles(replace(options, target="rtx3060"), lines.append))
    assert lines[0] == "precision fp16, the usual one for target rtx3060; --precision takes bf16, fp16, int8"
    assert "of the 12 GB of an RTX 3060" in lines[1]
    lines.clear()
    list(build_bundles(replace(options, target="rtx3060", precision="fp16"), lines.append))
    list(build_bundles(options, lines.append))
    assert not any("the usual one" in line for line in lines)
    assert [recipe.target for recipe in written.recipes] == ["rtx3090", "cpu"]


RTX4090 = Host("RTX 4090", "", "8.9", None, frozenset(PACKAGES))


@pytest.mark.usefixtures("written")
def test_auto_builds_for_this_machine(options: BuildOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "look_at_host", lambda: RTX4090)
    lines = list[str]()
    (bundle,) = build_bundles(replace(options, target="auto", precision="fp16"), lines.append)
    assert (bundle.manifest.recipe.target, bundle.manifest.recipe.precision) == ("rtx4090", "fp16")
    assert lines[0] == "TensorRT-RTX engines (target rtx4090) in fp16 on the RTX 4090"


@pytest.mark.usefixtures("written")
def test_auto_builds_graphs_where_engines_cannot_be_built(
    options: BuildOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_compiler(_compiler: str) -> str:
        raise BuildError("the compiler gave up")

    monkeypatch.setattr(build, "look_at_host", lambda: RTX4090)
    monkeypatch.setattr(compiler, "compiler_version", no_compiler)
    lines = list[str]()
    (bundle,) = build_bundles(replace(options, target="auto", precision="fp16"), lines.append)
    assert (bundle.manifest.recipe.target, bundle.manifest.recipe.precision) == ("cuda", "fp16")
    assert "this bundle cannot be built: the compiler gave up" in lines


@pytest.mark.parametrize("error", [BuildError("it crashed (code -11)"), MachineError("too little memory")])
def test_auto_goes_on_with_the_sizes_that_are_left(
    options: BuildOptions, written: Written, monkeypatch: pytest.MonkeyPatch, error: MachineError
) -> None:
    """A size that was built is neither built nor yielded again."""
    writes = write.write_bundle

    def fails_at_the_second(checkpoint: Any, recipe: Recipe, *rest: Any, **shared: Any) -> Bundle:
        if recipe.target == "rtx4090" and written.recipes:
            raise error
        return writes(checkpoint, recipe, *rest, **shared)

    monkeypatch.setattr(build, "look_at_host", lambda: replace(RTX4090, extras=RTX4090.extras - {"tensorrt"}))
    monkeypatch.setattr(write, "write_bundle", fails_at_the_second)
    options = replace(options, target="auto", precision="fp16", resolutions=(LARGE, SMALL))
    lines = list[str]()
    built = [bundle.manifest.recipe for bundle in build_bundles(options, lines.append)]
    assert [(recipe.target, recipe.resolution) for recipe in built] == [("rtx4090", LARGE), ("cuda", SMALL)]
    assert f"this bundle cannot be built: {error}" in lines


@pytest.mark.parametrize(
    ("capability", "changes", "message"),
    [
        ("8.6", {"precision": "fp8"}, r"for the GPU here, of compute capability 8.6; it takes: bf16, fp16, int8$"),
        ("7.5", {"precision": "bf16"}, "precision bf16 is not available .* it takes: fp16, int8$"),
        ("9.0", {"precision": "nvfp4"}, "precision nvfp4 is not available .* it takes: bf16, fp16, fp8, int8$"),
        ("7.0", {"autoencoder": "int8"}, "--autoencoder int8 is not available for a GPU of compute capability 7.0"),
    ],
)
def test_formats_that_the_gpu_of_this_machine_lacks_are_refused_at_once(
    options: BuildOptions,
    monkeypatch: pytest.MonkeyPatch,
    capability: str,
    changes: dict[str, Any],
    message: str,
) -> None:
    """The compiler refuses them, too, after minutes of calibrating and tracing."""
    monkeypatch.setattr(build, "find_driver", lambda: Driver("13.0", capability))
    options = replace(options, target="local", **changes)
    for do in (foresee_build, lambda one: list(build_bundles(one))):
        with pytest.raises(MisuseError, match=message):
            do(options)


@pytest.mark.parametrize(
    ("target", "driver", "message"),
    [
        ("h100", Driver("13.0", "8.9"), "h100 is for GPUs of .* 9.0, but cuda has 8.9: take .*rtx4090$"),
        ("h100", Driver("13.0", None), "h100 is built on the GPU that will run it, and no NVIDIA GPU was"),
        ("local", None, "local is built on the GPU that will run it, and no NVIDIA driver was found: build"),
    ],
)
def test_tensorrt_builds_for_the_gpu_that_is_there_or_not_at_all(
    options: BuildOptions,
    written: Written,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    driver: Driver | None,
    message: str,
) -> None:
    """TensorRT would build for whatever GPU is there, and the manifest would name the one that was asked for."""
    for module in (build, compatible):
        monkeypatch.setattr(module, "find_driver", lambda _gpu=0: driver)
    for do in (foresee_build, lambda one: list(build_bundles(one))):
        with pytest.raises((MachineError, MisuseError), match=message):
            do(replace(options, target=target, precision="fp16"))
    assert written.recipes == []


def test_cards_of_a_series_find_each_others_bundles(written: Written, options: BuildOptions) -> None:
    for name in ("rtx4070", "RTX 4090", "l4", "sm89"):
        list(build_bundles(replace(options, target=name, precision="fp16")))
    assert [recipe.target for recipe in written.recipes] == ["rtx4090"]
