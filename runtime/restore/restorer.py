"""`Restorer`: an open bundle that restores frames.

with Restorer.open("bundle") as restorer:
    for restored in restorer.restore(frames): ...
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, TypeVar, Unpack
from weakref import WeakSet

from ...engines.bundle.files import Bundle
from ...engines.bundle.lease import Lease
from ...engines.bundle.manifest import Manifest
from ...engines.bundle.targets import bundle_target
from ...errors import BundleError, MisuseError
from ..devices.gpu import gpu_index
from ..stream.cuts import Cut, cut_at
from ..stream.device import Device
from ..stream.frames import AnyFrame, FrameForm
from ..stream.session import Session
from ..stream.trace import Trace

_F = TypeVar("_F", bound=AnyFrame)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenOptions:
    """How a bundle is run.

    threads: CPU threads per stage, 1 to 1024; None for one per physical core. ort_graphs: let ONNX Runtime capture its
    stages as CUDA graphs. graphs: capture the chunks of engines as CUDA graphs; without, frames are the same. overlap:
    engines decode a chunk beside the work on the next one, which takes more GPU memory; frames are the same.
    Raises `MisuseError` for another number of threads.
    """

    threads: int | None = None
    ort_graphs: bool = False
    graphs: bool = True
    overlap: bool = False

    def __post_init__(self) -> None:
        threads = self.threads
        if threads is not None and (type(threads) is not int or not 1 <= threads <= 1024):
            raise MisuseError(f"threads is {threads!r}, expected 1 to 1024")
        if self.ort_graphs and not self.graphs:
            raise MisuseError("--ort-graphs and --no-graphs were both given, expected one of them")
        if self.ort_graphs and self.overlap:
            raise MisuseError(
                "--ort-graphs and --overlap were both given, but one is for graphs, the other for engines"
            )


class OpenKeywords(TypedDict, total=False):
    """The fields of `OpenOptions`, as keywords."""

    threads: int | None
    ort_graphs: bool
    graphs: bool
    overlap: bool


class Restorer:
    """The loaded stages of a bundle. Any number of independent streams may run through them."""

    def __init__(self, device: Device, manifest: Manifest) -> None:
        """For a device of your own; otherwise use `Restorer.open`."""
        self._device: Device | None = device
        self._lease: Lease | None = None
        self._sessions: WeakSet[Session] = WeakSet()
        self.manifest = manifest

    @classmethod
    def open(
        cls,
        bundle: str | Path | Bundle,
        *,
        device: str | None = None,
        trace: Trace | None = None,
        **options: Unpack[OpenKeywords],
    ) -> Restorer:
        """Check and load a bundle.

        device: `cpu` (graphs only), `cuda` (the first GPU) or `cuda:N` (GPU N, from 0); None for the device that the
        bundle was built for. trace: records when each step runs and how long it takes; close it after the restorer.
        options: threads, ort_graphs, graphs and overlap, see `OpenOptions`.
        Raises `BundleError` if the bundle is damaged or was built for another device, `MissingPackageError` or
        `MachineError` if the machine lacks what the bundle needs.
        """
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        with ExitStack() as on_error:
            lease = on_error.enter_context(Lease(opened.path))
            restorer = cls(open_device(opened, device, OpenOptions(**options), trace), opened.manifest)
            restorer._lease = lease
            on_error.pop_all()
        return restorer

    @property
    def surfaces(self) -> bool:
        """Whether streams take and give `Surface`s."""
        return self._device is not None and self._device.surfaces

    def session(self, give: FrameForm | None = None, *, surfaces: bool | None = None) -> Session:
        """A new stream that you feed yourself; see `Session`.

        give: the form of the restored frames; None for that of the frames that come in. surfaces: whether they are
        `Surface`s, in the memory of the GPU; None if those that come in are. Raises `MisuseError` if this
        restorer is closed.
        """
        if self._device is None:
            raise MisuseError("this restorer is closed; open the bundle again with Restorer.open()")
        session = Session(self._device, self.manifest, give, surfaces=surfaces)
        self._sessions.add(session)
        return session

    def restore(self, frames: Iterable[_F]) -> Iterator[_F]:
        """Restore a stream: uint8 [h, w, 3] RGB frames of one size in, as many uint8 [H, W, 3] frames out.

        uint16 RGB (65535 is white) comes out as uint16, and `Planes` of YUV as planes in the same format and colours.
        Lazy: reads at most one chunk ahead, so the source may be endless.
        """
        with self.session() as session:
            for frame in frames:
                yield from session.feed(frame)
            yield from session.flush()

    def cut(self, chunk: int) -> Cut:
        """Where chunk `chunk` of any stream begins, and which frames are needed to begin there; see `Session.begin_at`.

        Raises `MisuseError` for a negative number, `BundleError` if the bundle is too old to say.
        """
        return cut_at(self.manifest, chunk)

    def close(self) -> None:
        """Release the stages and end all sessions. A second call does nothing."""
        for session in list(self._sessions):
            session.end_with_restorer()
        if self._device is not None:
            self._device.close()
        if self._lease is not None:
            self._lease.close()
        self._device = None

    def __enter__(self) -> Restorer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def choose_device(target: str, device: str | None = None, options: OpenOptions | None = None) -> str:
    """The device that runs bundles for `target`: `cpu`, `cuda` or `cuda:N`. Opens nothing.

    device: the requested one; None for the target's own. Raises `MisuseError` if it cannot run such bundles, or not
    with these options.
    """
    options = options or OpenOptions()
    known = bundle_target(target)
    chosen = known.usual_device if device is None else device
    if chosen != "cpu":
        gpu_index(chosen)
    if options.ort_graphs and (chosen == "cpu" or known.compiled):
        raise MisuseError(
            f"--ort-graphs was given for a bundle for {target} on {chosen}, expected a bundle of graphs on a GPU "
            "(--device cuda); engines are captured without it"
        )
    if options.overlap and not known.compiled:
        raise MisuseError(
            f"--overlap was given for a bundle for {target} on {chosen}, expected engines, which alone decode "
            "a chunk beside the next one; leave it out, frames are the same"
        )
    if chosen == "cpu" and not known.runs_on_cpu:
        raise BundleError(
            f"the device is the CPU, but the bundle holds engines for target {target}, which run on GPUs only; build "
            "one for the CPU: swiftvr-export build-engine --target cpu --checkpoint DIR --resolution WxH"
        )
    return chosen


def open_device(
    bundle: Bundle, device: str | None = None, options: OpenOptions | None = None, trace: Trace | None = None
) -> Device:
    """Load the stages of a bundle, as in `Restorer.open`: graphs into ONNX Runtime, engines onto their GPU."""
    options = options or OpenOptions()
    target = bundle.manifest.recipe.target
    chosen = choose_device(target, device, options)
    _log.info("opening %s on %s with %s", bundle.path, chosen, options)
    if chosen == "cpu":
        from ..devices.cpu import CpuDevice

        return CpuDevice(bundle, threads=options.threads, trace=trace)
    from ..devices.cuda import CudaDevice
    from ..devices.ort_cuda import OrtCudaProvider
    from ..devices.tensorrt import TensorRTProvider, import_tensorrt

    compiled = bundle_target(target).compiled
    provider = (
        TensorRTProvider(import_tensorrt(bundle.manifest.toolchain.compiler))
        if compiled
        else OrtCudaProvider(stage_graphs=options.ort_graphs)
    )
    index = gpu_index(chosen)
    return CudaDevice(bundle, provider, index=index, graphs=options.graphs, overlap=options.overlap, trace=trace)
