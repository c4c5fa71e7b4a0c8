"""`Restorer`: an open bundle that restores frames.

with Restorer.open("bundle") as restorer:
    for restored in restorer.restore(frames): ...
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...engines.bundle.files import Bundle
from ...engines.bundle.manifest import Manifest
from ...engines.bundle.targets import bundle_target
from ...errors import BundleError, MisuseError
from ..devices.gpu import gpu_index
from ..stream.device import Device
from ..stream.session import Frame, Session
from ..stream.trace import Trace


@dataclass(frozen=True)
class OpenOptions:
    """How a bundle is run.

    threads: CPU threads per stage, 1 to 1024; None for one per physical core. ort_graphs: let ONNX Runtime capture its
    stages as CUDA graphs. Raises `MisuseError` for another number of threads.
    """

    threads: int | None = None
    ort_graphs: bool = False

    def __post_init__(self) -> None:
        if self.threads is not None and not 1 <= self.threads <= 1024:
            raise MisuseError(f"threads is {self.threads}, expected 1 to 1024")


class Restorer:
    """The loaded stages of a bundle. Any number of independent streams may run through them."""

    def __init__(self, device: Device, manifest: Manifest) -> None:
        """For a device of your own; otherwise use `Restorer.open`."""
        self._device: Device | None = device
        self.manifest = manifest

    @classmethod
    def open(
        cls,
        bundle: str | Path | Bundle,
        *,
        device: str | None = None,
        threads: int | None = None,
        ort_graphs: bool = False,
        trace: Trace | None = None,
    ) -> Restorer:
        """Check and load a bundle.

        device: `cpu` (graphs only), `cuda` (the first GPU) or `cuda:N` (GPU N, from 0); None for the device that the
        bundle was built for. threads, ort_graphs: see `OpenOptions`. trace: records when each step runs and how
        long it takes; close it after the restorer.
        Raises `BundleError` if the bundle is damaged or was built for another device, `MissingPackageError` or
        `MachineError` if the machine lacks what the bundle needs.
        """
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        return cls(open_device(opened, device, OpenOptions(threads, ort_graphs), trace), opened.manifest)

    def session(self) -> Session:
        """A new stream that you feed yourself; see `Session`. Raises `MisuseError` if this restorer is closed."""
        if self._device is None:
            raise MisuseError("this restorer is closed; open the bundle again with Restorer.open()")
        return Session(self._device, self.manifest)

    def restore(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Restore a stream: uint8 [h, w, 3] RGB frames of one size in, as many uint8 [H, W, 3] frames out.

        Lazy: reads at most one chunk ahead, so the source may be endless.
        """
        with self.session() as session:
            for frame in frames:
                yield from session.feed(frame)
            yield from session.flush()

    def close(self) -> None:
        """Release the stages. A second call does nothing."""
        if self._device is not None:
            self._device.close()
        self._device = None

    def __enter__(self) -> Restorer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def choose_device(target: str, device: str | None = None, *, ort_graphs: bool = False) -> str:
    """The device that runs bundles for `target`: `cpu`, `cuda` or `cuda:N`. Opens nothing.

    device: the requested one; None for the target's own. Raises `MisuseError` if it cannot run such bundles.
    """
    known = bundle_target(target)
    chosen = device or known.usual_device
    if chosen != "cpu":
        gpu_index(chosen)
    if ort_graphs and (chosen == "cpu" or known.compiled):
        raise MisuseError(
            f"--ort-graphs was given for a bundle for {target} on {chosen}, expected a bundle of graphs on a GPU "
            "(--device cuda); engines are always captured"
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
    chosen = choose_device(target, device, ort_graphs=options.ort_graphs)
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
    return CudaDevice(bundle, provider, index=gpu_index(chosen), trace=trace)
