"""The manifest of a bundle: the recipe it was built from, what built it, and every file and tensor in it.

It is parsed into frozen dataclasses and validated: names are plain file names, shapes are those that the resolution and
the clip length imply, and the memory of all buffers is bounded before anything is allocated.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

from ...errors import BundleError, MisuseError
from ...outside import Door, Fields, parse_json
from .geometry import FRAMES_PER_LATENT, Resolution, check_clip_len
from .pixel_formats import GIVES, TAKES, PixelFormat, format_of_stage, given_formats
from .targets import AUTOENCODERS, PRECISIONS, bundle_target, form_of_graphs, needs_scales, usual_autoencoder

FORMAT = 2
MANIFEST = "manifest.json"
NETWORK_STAGES = ("encode", "dit", "dit_edge", "decode")
STAGES = (*TAKES, *NETWORK_STAGES, *GIVES)
"""All that a bundle may have. One of an odd size gives no frames with halved chroma."""
COLOUR_INPUTS = {"matrix": (3, 3), "offset": (3,), "siting": (2,)}
"""Name and shape of what a stage of YUV frames reads besides frames or pixels, in this order; all are float32."""
PIXEL_CHANNELS = 12
"""Channels of the pixels that the network works on: four of each colour, after the pixel-unshuffle."""
DTYPE_BYTES = {"uint8": 1, "float16": 2, "bfloat16": 2, "float32": 4}

MANIFEST_DOOR = Door("manifest", BundleError, "rebuild the bundle", max_bytes=1 << 20)
MAX_STREAM_BYTES = 1 << 36
"""More than any stream of this model family needs; a bundle that asks for more is refused."""
_MAX_STATES = 64
_MAX_PROFILES = 8

Shape = tuple[int, ...]
"""Sides of a tensor, all of them known."""


def tensor_bytes(shape: Sequence[int], dtype: str) -> int:
    """Bytes of a dense tensor. dtype: a key of `DTYPE_BYTES`."""
    return math.prod(shape) * DTYPE_BYTES[dtype]


class Role(str, Enum):
    """What a tensor means to the chunk loop.

    FRAMES: bytes, in a `PixelFormat`. PIXELS: four frames in the network's own form, at the output size. COLOUR: how a
    pixel stage converts.
    """

    FRAMES = "frames"
    PIXELS = "pixels"
    COLOUR = "colour"
    LATENTS = "latents"
    STATE_IN = "state_in"
    STATE_OUT = "state_out"


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a stage.

    dtype: a key of `DTYPE_BYTES`. shape: None is a side that is free until a stream starts.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    role: Role

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor, free sides counted as 1."""
        return tensor_bytes([side or 1 for side in self.shape], self.dtype)


@dataclass(frozen=True)
class StageSpec:
    """One stage: the file that holds it, and its tensors in the file's order.

    profile: the optimization profile it uses, since stages may share an engine file. arena_bytes: activation memory
    while it runs. weight_bytes: its weights on the device. Both as the compiler reported them; 0 for graphs, whose
    memory ONNX Runtime manages. reach: after so many steps the states no longer depend on those before; None if they
    always do, or if nobody has looked (bundles of early versions).
    """

    name: str
    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    profile: int = 0
    arena_bytes: int = 0
    weight_bytes: int = 0
    reach: int | None = None


@dataclass(frozen=True)
class FileSpec:
    """A file of the bundle: its plain name, size in bytes, and sha256 in hexadecimal."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Recipe:
    """What a bundle was built for. Bundles of the same recipe are interchangeable; it is the key of the cache.

    checkpoint: sha256 over the checkpoint's files. target: `onnx` (as exported) or a build target, e.g. `cpu`.
    without: names of the rewrites that were switched off, sorted. calibration: sha256 that identifies the calibration
    of a recipe with scales (`export/graph/calibration.py`), or None. autoencoder: `int8`, or None for more bits.
    """

    checkpoint: str
    width: int
    height: int
    clip_len: int
    precision: str
    target: str
    parity: bool = False
    without: tuple[str, ...] = ()
    calibration: str | None = None
    autoencoder: str | None = None

    @property
    def has_scales(self) -> bool:
        """See `needs_scales`."""
        return needs_scales(self.precision, self.autoencoder)

    @property
    def resolution(self) -> Resolution:
        return Resolution(self.width, self.height)

    @property
    def latents(self) -> int:
        """Latents of a MIDDLE chunk (n). In FIRST and LAST chunks the transformer sees one more."""
        return self.clip_len // FRAMES_PER_LATENT

    def describe(self) -> str:
        """The recipe in a few words, without the checkpoint."""
        parts = [str(self.resolution), self.precision, f"{self.clip_len}-frame chunks", f"target {self.target}"]
        parts += [f"autoencoder {self.autoencoder}"] if self.autoencoder else []
        parts += ["parity"] if self.parity else []
        return ", ".join(parts + [f"without {name}" for name in self.without])

    def command(self, checkpoint: str = "DIR") -> str:
        """The command that builds a bundle of this recipe."""
        target = bundle_target(self.target)
        usual = self.autoencoder == usual_autoencoder(target, self.precision)
        extra = "" if usual else f" --autoencoder {self.autoencoder or 'fp16'}"
        extra += " --parity" if self.parity else ""
        extra += "".join(f" --no-rewrite {name}" for name in self.without)
        return (
            f"swiftvr-export {target.command} --checkpoint {checkpoint} "
            f"--resolution {self.resolution} --precision {self.precision} --clip-len {self.clip_len}{extra}"
        )


@dataclass(frozen=True)
class Toolchain:
    """What made a bundle, and what its engines therefore need.

    tool: this package and its version. compiler, compiler_version: what made the stages, e.g. `TensorRT-RTX`, `1.7.1`.

    The others are known for engines only, as far as the machine that compiled them could tell; None if unknown.
    compute_capability: of the GPU that they are for, e.g. `12.0`. cuda: CUDA version of the compiler's package, e.g.
    `12`. driver_cuda: CUDA version that the driver offered, e.g. `13.0`. Bundles of early versions lack the last two.
    """

    tool: str
    compiler: str
    compiler_version: str
    compute_capability: str | None = None
    cuda: str | None = None
    driver_cuda: str | None = None


@dataclass(frozen=True)
class Manifest:
    """Everything that a bundle says about itself. form: `form_of_graphs` when it was built."""

    recipe: Recipe
    toolchain: Toolchain
    stages: tuple[StageSpec, ...]
    files: tuple[FileSpec, ...]
    form: int = 1

    @property
    def current(self) -> bool:
        """False if this version would build other graphs from the same recipe."""
        return self.form == form_of_graphs(self.recipe.precision, self.recipe.autoencoder)

    def stage(self, name: str) -> StageSpec:
        """The stage of this name, one of `stage_names`."""
        return next(stage for stage in self.stages if stage.name == name)

    def to_json(self) -> str:
        """The text of `manifest.json`, in which the toolchain's fields stand beside the recipe."""
        made = self.toolchain
        raw = {
            "format": FORMAT,
            "recipe": {k: v for k, v in asdict(self.recipe).items() if k != "autoencoder" or v},
            "tool": made.tool,
            "compiler": made.compiler,
            "compiler_version": made.compiler_version,
            "compute_capability": made.compute_capability,
            "stages": [asdict(stage) for stage in self.stages],
            "files": [asdict(file) for file in self.files],
            "cuda": made.cuda,
            "driver_cuda": made.driver_cuda,
        }
        return json.dumps(raw | ({"form": self.form} if self.form > 1 else {}), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: Path) -> Manifest:
        """Parse and validate. Raises `BundleError`, which names the wrong field and the file `where`."""
        fields = parse_json(text, where, MANIFEST_DOOR)
        version = fields.integer("format", 1, 1 << 16)
        if version != FORMAT:
            remedy = "update swiftvr-trt" if version > FORMAT else f"rebuild the bundle{_command_of(fields)}"
            raise BundleError(f"{where}: bundle format {version}, this version reads format {FORMAT}; {remedy}")
        manifest = cls(
            recipe=_parse_recipe(fields.child("recipe")),
            toolchain=_parse_toolchain(fields),
            stages=tuple(_parse_stage(stage) for stage in fields.children("stages", len(STAGES))),
            files=tuple(_parse_file(entry) for entry in fields.children("files", 64)),
            form=fields.integer("form", 1, 1 << 16) if "form" in fields else 1,
        )
        _check_consistency(manifest, where)
        return manifest


def stage_names(recipe: Recipe) -> tuple[str, ...]:
    """The stages of a bundle of this recipe, in the order in which it lists them."""
    gives = (entry.give for entry in given_formats(recipe.height, recipe.width))
    return (*TAKES, *NETWORK_STAGES, *gives)


def _command_of(fields: Fields) -> str:
    """The command that rebuilds a bundle of an earlier format, to append to a message; empty if it does not say."""
    try:
        return f": {_parse_recipe(fields.child('recipe')).command()}"
    except (BundleError, MisuseError):
        return ""


def _parse_recipe(fields: Fields) -> Recipe:
    recipe = Recipe(
        checkpoint=fields.digest("checkpoint"),
        width=fields.integer("width", 1, 1 << 16),
        height=fields.integer("height", 1, 1 << 16),
        clip_len=fields.integer("clip_len", 1, 1 << 16),
        precision=fields.choice("precision", PRECISIONS),
        target=fields.name("target"),
        parity=fields.flag("parity"),
        without=fields.names("without", 32),
        calibration=fields.optional_digest("calibration"),
        autoencoder=fields.choice("autoencoder", AUTOENCODERS) if fields.value("autoencoder", None) else None,
    )
    try:
        check_clip_len(recipe.clip_len)
        _ = recipe.resolution
    except MisuseError as error:
        raise BundleError(f"{fields.where}: {error}") from error
    return recipe


def _parse_toolchain(fields: Fields) -> Toolchain:
    return Toolchain(
        tool=fields.text("tool"),
        compiler=fields.text("compiler"),
        compiler_version=fields.text("compiler_version"),
        compute_capability=fields.optional_text("compute_capability"),
        cuda=fields.optional_version("cuda"),
        driver_cuda=fields.optional_version("driver_cuda"),
    )


def _parse_stage(fields: Fields) -> StageSpec:
    limit = _MAX_STATES + 1
    return StageSpec(
        name=fields.choice("name", STAGES),
        file=fields.name("file"),
        inputs=tuple(_parse_tensor(tensor) for tensor in fields.children("inputs", limit)),
        outputs=tuple(_parse_tensor(tensor) for tensor in fields.children("outputs", limit)),
        profile=fields.integer("profile", 0, _MAX_PROFILES - 1),
        arena_bytes=fields.integer("arena_bytes", 0, MAX_STREAM_BYTES),
        weight_bytes=fields.integer("weight_bytes", 0, MAX_STREAM_BYTES),
        reach=fields.optional_integer("reach", 0, _MAX_STATES),
    )


def _parse_tensor(fields: Fields) -> TensorSpec:
    return TensorSpec(
        name=fields.name("name"),
        dtype=fields.choice("dtype", tuple(DTYPE_BYTES)),
        shape=fields.shape("shape"),
        role=Role(fields.choice("role", tuple(role.value for role in Role))),
    )


def _parse_file(fields: Fields) -> FileSpec:
    return FileSpec(fields.name("name"), fields.integer("size", 0, 1 << 40), fields.digest("sha256"))


def _check_consistency(manifest: Manifest, where: Path) -> None:
    """Raise unless each stage is there once, its file is listed, and its tensors are those that the recipe implies."""
    expected = stage_names(manifest.recipe)
    if sorted(stage.name for stage in manifest.stages) != sorted(expected):
        raise BundleError(f"{where}: expected the stages {', '.join(expected)}, each once; rebuild the bundle")
    names = [entry.name for entry in manifest.files]
    if len(set(names)) != len(names) or MANIFEST in names:
        raise BundleError(f"{where}: a file is listed twice, or the manifest lists itself; rebuild the bundle")
    total = 0
    for stage in manifest.stages:
        if stage.file not in names:
            raise BundleError(f"{where}: {stage.name} names {stage.file}, which is not listed; rebuild the bundle")
        tensors, implied = (*stage.inputs, *stage.outputs), _expected(manifest.recipe, stage)
        if len(tensors) != len(implied):
            found = f"{len(tensors)} inputs and outputs, expected {len(implied)}"
            raise BundleError(f"{where}: stage {stage.name} has {found}; rebuild the bundle")
        for ours, theirs in zip(implied, tensors, strict=True):
            if not _matches(ours, theirs):
                raise BundleError(
                    f"{where}: stage {stage.name}, tensor {theirs.name} is {theirs.role.value} {list(theirs.shape)}; "
                    f"expected {ours[0].value} {list(ours[1])} for {manifest.recipe.describe()}"
                )
            # The loop holds the latents of a whole chunk, and a state twice (as input and as output).
            total += 0 if theirs.role is Role.FRAMES else theirs.nbytes
        _check_states(stage, where)
    # A chunk of frames is held in one format, and none takes more bytes than the widest.
    total += (manifest.recipe.latents + 1) * FRAMES_PER_LATENT * manifest.recipe.width * manifest.recipe.height * 6
    for role in (Role.LATENTS, Role.PIXELS):
        _check_exchanged(manifest, role, where)
    if total > MAX_STREAM_BYTES:
        most = MAX_STREAM_BYTES >> 30
        raise BundleError(f"{where}: its buffers would take {total >> 30} GiB, the limit is {most}; rebuild it")


def _check_exchanged(manifest: Manifest, role: Role, where: Path) -> None:
    """Raise unless all stages agree on the type and channels of what they exchange in one buffer."""
    kinds = {
        (tensor.dtype, tensor.shape[1]): stage.name
        for stage in manifest.stages
        for tensor in (*stage.inputs, *stage.outputs)
        if tensor.role is role
    }
    if len(kinds) > 1:
        found = ", ".join(f"{dtype} with {channels} channels in {stage}" for (dtype, channels), stage in kinds.items())
        raise BundleError(f"{where}: its stages exchange different {role.value} ({found}); rebuild the bundle")


_Expected = tuple[Role, tuple[int | None, ...]]


def _expected(recipe: Recipe, stage: StageSpec) -> list[_Expected]:
    """Role and shape of each input and output. None: a free side. -1: any positive size (channels, state sides)."""
    size, form = recipe.resolution, format_of_stage(stage.name)
    pixels: _Expected = (Role.PIXELS, (FRAMES_PER_LATENT, PIXEL_CHANNELS, *size.pixel_grid))
    if form is not None:
        return _expected_pixel_stage(recipe, form, pixels, takes=stage.name == form.take)
    counts = {"encode": 1, "decode": 1, "dit": recipe.latents, "dit_edge": recipe.latents + 1}
    latents: _Expected = (Role.LATENTS, (counts[stage.name], -1, size.latent_height, size.latent_width))
    before = [(Role.STATE_IN, (1, -1, -1, -1))] * (len(stage.inputs) - 1)
    after = [(Role.STATE_OUT, (1, -1, -1, -1))] * (len(stage.outputs) - 1)
    takes, gives = {"encode": (pixels, latents), "decode": (latents, pixels)}.get(stage.name, (latents, latents))
    return [takes, *before, gives, *after]


def _expected_pixel_stage(recipe: Recipe, form: PixelFormat, pixels: _Expected, *, takes: bool) -> list[_Expected]:
    colour = [(Role.COLOUR, shape) for shape in COLOUR_INPUTS.values()] if form.yuv else []
    if takes:
        return [(Role.FRAMES, form.free_shape(FRAMES_PER_LATENT)), *colour, pixels]
    return [pixels, *colour, (Role.FRAMES, (FRAMES_PER_LATENT, *form.byte_shape(recipe.height, recipe.width)))]


def _matches(expected: _Expected, tensor: TensorSpec) -> bool:
    role, shape = expected
    if role is not tensor.role or len(shape) != len(tensor.shape):
        return False
    if (tensor.dtype == "uint8") != (role is Role.FRAMES) or (role is Role.COLOUR and tensor.dtype != "float32"):
        return False
    return all(
        (theirs is not None and 1 <= theirs <= 1 << 20) if ours == -1 else ours == theirs
        for ours, theirs in zip(shape, tensor.shape, strict=True)
    )


def _check_states(stage: StageSpec, where: Path) -> None:
    """Raise unless output state k has the type and shape of input state k."""
    ins = [(t.dtype, t.shape) for t in stage.inputs if t.role is Role.STATE_IN]
    outs = [(t.dtype, t.shape) for t in stage.outputs if t.role is Role.STATE_OUT]
    if ins != outs or (ins and stage.name not in ("encode", "decode")):
        raise BundleError(f"{where}: input and output states of stage {stage.name} do not match; rebuild the bundle")
