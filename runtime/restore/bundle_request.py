"""Which bundle a user wants, what `auto` makes of that on a machine, and whether its devices can run it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...engines.bundle.auto import AUTO, Host, choose_for
from ...engines.bundle.files import read_manifest
from ...engines.bundle.geometry import Resolution
from ...engines.bundle.manifest import Recipe
from ...engines.bundle.pipeline_memory import PUBLISHED_PARAMETERS, count_parameters, gpu_bytes_by_target
from ...engines.bundle.targets import choose_target, find_target, usual_autoencoder
from ...errors import MisuseError, SwiftVRError
from ..devices.compatible import check_target
from ..devices.gpu import gpu_index, require_driver
from ..devices.host import look_at_host
from .restorer import OpenOptions, choose_device

DEFAULT_UPSCALE = 2.0


@dataclass(frozen=True)
class BundleRequest:
    """The bundle to use, or the properties of the one to find or build.

    bundle      its directory; None to find or build one
    checkpoint  what to build from if the cache has no such bundle, as a user names it: see `engines.bundle.checkpoints`
    resolution  size of the output, `WxH`
    upscale     size of the output relative to the input, 0.1 to 16
    precision   number format; None for the usual one of the target
    target      a target or a card, see `find_target`; `auto` for what suits the machine
    host        the machine that `auto` is about; None for this one with its first GPU
    gpu         number of the GPU that engines are built for if their compiler takes the one that is there
    cache       root of the bundle cache; None for the user's

    Raises `MisuseError` for fields that exclude each other, and for a precision that the target lacks.
    """

    bundle: Path | None = None
    checkpoint: str | Path | None = None
    resolution: str | None = None
    upscale: float | None = None
    precision: str | None = None
    target: str = AUTO
    clip_len: int = 24
    cache: Path | None = None
    host: Host | None = None
    gpu: int = 0

    def __post_init__(self) -> None:
        if self.bundle is not None and self.checkpoint is not None:
            raise MisuseError("--bundle and --checkpoint were both given, expected one of them")
        if self.resolution is not None and self.upscale is not None:
            raise MisuseError("--resolution and --upscale were both given, expected one of them")
        if self.upscale is not None and not 0.1 <= self.upscale <= 16:
            raise MisuseError(f"--upscale is {self.upscale:g}, expected a factor from 0.1 to 16, e.g. 2")
        if self.precision is not None and self.target != AUTO:
            choose_target(self.target, self.precision)

    def recipe(self, checkpoint: str, size: Resolution) -> Recipe:
        """The recipe of the bundle that restores to `size`. checkpoint: digest of the checkpoint. Not for `auto`."""
        target = find_target(self.target)
        precision = self.precision or target.usual_precision
        autoencoder = usual_autoencoder(target, precision)
        sides = (size.width, size.height)
        return Recipe(checkpoint, *sides, self.clip_len, precision, target.name, autoencoder=autoencoder)

    def wanted_size(self, width: int, height: int) -> Resolution | None:
        """The requested output size for an input of `width x height` pixels; None if none was requested."""
        if self.resolution is not None:
            return Resolution.parse(self.resolution)
        if self.upscale is not None:
            return _scaled(width, height, self.upscale)
        return None


def output_size(request: BundleRequest, width: int, height: int, *, in_tiles: bool = True) -> Resolution:
    """The output size for an input of `width x height` pixels. Opens and builds no bundle.

    in_tiles: whether a larger output could be restored in tiles, for the message. Raises `MisuseError` if the requested
    size is not that of the requested bundle.
    """
    wanted = request.wanted_size(width, height)
    if request.bundle is None:
        return wanted or _scaled(width, height, DEFAULT_UPSCALE)
    size = read_manifest(request.bundle).recipe.resolution
    if wanted not in (None, size):
        ways = "build another bundle, or add --tile auto for a larger output" if in_tiles else "or build another bundle"
        raise MisuseError(
            f"{request.bundle} restores to {size}, but {wanted} was requested; leave the size out, {ways}"
        )
    return size


def untiled_size(request: BundleRequest, width: int, height: int) -> Resolution:
    """The output size for an input of `width x height` pixels, whatever the size of a named bundle is."""
    return request.wanted_size(width, height) or _scaled(width, height, DEFAULT_UPSCALE)


@dataclass(frozen=True)
class SuitedRequest:
    """A request for a certain target. reason: why `auto` came to it, in one line; empty if it was named."""

    request: BundleRequest
    reason: str = ""


def suited(request: BundleRequest, size: Resolution) -> tuple[SuitedRequest, ...]:
    """The request; if it leaves the target to the machine, one for each target that would do, the best first."""
    if request.target != AUTO:
        return (SuitedRequest(request),)
    checkpoint = request.checkpoint
    parameters = count_parameters(checkpoint) if isinstance(checkpoint, Path) else PUBLISHED_PARAMETERS
    host = look_at_host() if request.host is None else request.host
    needed = gpu_bytes_by_target(parameters, size, request.clip_len, overlap=host.overlap)
    return tuple(
        SuitedRequest(replace(request, target=choice.target.name, precision=choice.precision), choice.reason)
        for choice in choose_for(host, request.precision, needed)
    )


def suit_devices(
    request: BundleRequest, devices: Sequence[str | None], *, ort_graphs: bool, overlap: bool = False
) -> BundleRequest:
    """The request with the GPU that restores; for `auto`, also with what that has and whether engines will do.

    devices, ort_graphs, overlap: as `Restorer.open` takes them. Raises `MisuseError` for a device that cannot be.
    """
    if request.bundle is not None or request.host is not None:
        return request
    gpus = [gpu_index(device or "cuda") for device in devices if device != "cpu"]
    request = replace(request, gpu=gpus[0] if gpus else 0)
    if request.target != AUTO:
        return request
    if not gpus:
        return replace(request, host=Host(why_cpu="the CPU was asked for", overlap=overlap))
    engines = len(gpus) == len(devices) and not ort_graphs
    return replace(request, host=replace(look_at_host(gpus[0], engines=engines), overlap=overlap))


def check_devices(
    request: BundleRequest, devices: Sequence[str | None], opening: OpenOptions, *, elsewhere: bool = False
) -> None:
    """Raise, before a bundle is built, if none of the devices can run it. One that can is enough.

    elsewhere: they are on other machines, of whose drivers nothing is known.
    """
    refused: list[SwiftVRError] = []
    for device in devices:
        try:
            chosen = requested_device(request, device, opening)
            if chosen != "cpu" and not elsewhere:
                require_driver()
                if request.bundle is None:
                    check_target(find_target(_target(request)), chosen)
        except SwiftVRError as error:
            refused.append(error)
    if len(refused) == len(devices):
        raise refused[0]


def requested_device(request: BundleRequest, device: str | None, opening: OpenOptions) -> str:
    """What `choose_device` says for what is requested. `auto` itself takes engines for `--overlap`, once it chooses."""
    if request.bundle is None and request.target == AUTO:
        opening = replace(opening, overlap=False)
    return choose_device(_target(request), device, opening)


def _target(request: BundleRequest) -> str:
    """What the bundle is for. With `auto` it may be graphs, which run on every device."""
    if request.bundle is not None:
        return read_manifest(request.bundle).recipe.target
    return "cpu" if request.target == AUTO else request.target


def _scaled(width: int, height: int, factor: float) -> Resolution:
    return Resolution(max(round(width * factor), 1), max(round(height * factor), 1))
