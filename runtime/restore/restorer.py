"""`Restorer`: a bundle, loaded, that turns frames into frames.

with Restorer.open("bundle") as restorer:
    for restored in restorer.restore(frames): ...
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from swiftvr_trt.engines.bundle.files import Bundle
from swiftvr_trt.engines.bundle.manifest import Manifest
from swiftvr_trt.engines.bundle.targets import find_target
from swiftvr_trt.errors import BundleError, MisuseError
from swiftvr_trt.runtime.devices.gpu import gpu_index
from swiftvr_trt.runtime.stream.device import Device
from swiftvr_trt.runtime.stream.session import Frame, Session
from swiftvr_trt.runtime.stream.trace import Trace


class Restorer:
    """Stages loaded once, any number of independent streams through them."""

    def __init__(self, device: Device, manifest: Manifest) -> None:
        """For devices of your own; `Restorer.open` is the usual way."""
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

        device: `cpu` for a bundle of graphs; `cuda` or `cuda:N`, the N-th GPU, for one of engines, and for graphs, too,
        on ONNX Runtime; None for what the bundle was built for. threads: CPU threads that one stage may use, None for
        one per physical core. ort_graphs: let ONNX Runtime capture its stages on a GPU (`ort_cuda.py`). trace: told
        what takes how long; it must be closed after the restorer.
        Raises `BundleError` if the bundle is damaged or was built for something else, `MissingPackageError` or
        `MachineError` if the machine lacks what runs it.
        """
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        if threads is not None and not 1 <= threads <= 1024:
            raise MisuseError(f"threads is {threads}, expected 1 to 1024")
        return cls(open_device(opened, device, threads, trace, ort_graphs=ort_graphs), opened.manifest)

    def session(self) -> Session:
        """A new stream, to be fed by hand; see `Session`."""
        if self._device is None:
            raise MisuseError("this restorer is closed; open the bundle again with Restorer.open()")
        return Session(self._device, self.manifest)

    def restore(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Restore a stream: uint8 [h, w, 3] RGB frames of one size in, as many uint8 [H, W, 3] frames out.

        Lazy: takes frames as it needs them (one chunk ahead), so the source may be endless.
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
    """What runs bundles for `target`: `cpu`, `cuda` or `cuda:N`. None is what they are for; nothing is opened.

    Raises `MisuseError` if that device does not run them, or not in this way.
    """
    known = find_target(target)
    chosen = device or known.usual_device
    if chosen != "cpu":
        gpu_index(chosen)
    if ort_graphs and (chosen == "cpu" or known.compiled):
        raise MisuseError(
            f"--ort-graphs was given for a bundle for {target} on {chosen}, expected one of graphs on a GPU "
            "(--device cuda); engines are captured in any case"
        )
    if chosen == "cpu" and not known.runs_on_cpu:
        raise BundleError(
            f"the CPU was asked for, and the bundle holds engines for target {target}, which do not run on it; build "
            "one that does: swiftvr-export build-engine --target cpu --checkpoint DIR --resolution WxH"
        )
    return chosen


def open_device(
    bundle: Bundle,
    device: str | None = None,
    threads: int | None = None,
    trace: Trace | None = None,
    *,
    ort_graphs: bool = False,
) -> Device:
    """What runs a bundle, as in `Restorer.open`: graphs run on ONNX Runtime, engines on the GPU they are for."""
    target = bundle.manifest.recipe.target
    chosen = choose_device(target, device, ort_graphs=ort_graphs)
    if chosen == "cpu":
        from swiftvr_trt.runtime.devices.cpu import CpuDevice

        return CpuDevice(bundle, threads=threads, trace=trace)
    from swiftvr_trt.runtime.devices.cuda import CudaDevice
    from swiftvr_trt.runtime.devices.ort_cuda import OrtCudaProvider
    from swiftvr_trt.runtime.devices.tensorrt import TensorRTProvider, import_tensorrt

    compiled = find_target(target).compiled
    provider = (
        TensorRTProvider(import_tensorrt(bundle.manifest.toolchain.compiler))
        if compiled
        else OrtCudaProvider(stage_graphs=ort_graphs)
    )
    return CudaDevice(bundle, provider, index=gpu_index(chosen), trace=trace)
