"""What an engine of `fake_trt` runs: an ONNX graph in ONNX Runtime, as kernels of the emulated driver."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from tests.cuda_emulator import HostFunction

if TYPE_CHECKING:
    from .fake_trt import FakeTensorRT


class Profile:
    """One optimization profile: its graph, loaded once per process."""

    def __init__(self, entry: Mapping[str, Any]) -> None:
        self.stage, self.arena = entry["stage"], int(entry["arena"])
        self.session = _session(entry["graph"])
        self.inputs = {t.name: _shape(t) for t in self.session.get_inputs()}
        self.outputs = {t.name: _shape(t) for t in self.session.get_outputs()}
        self.types = {t.name: t.type for t in (*self.session.get_inputs(), *self.session.get_outputs())}


@cache
def _session(graph: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(side if isinstance(side, int) else -1 for side in tensor.shape)


def is_capturing(stream: int) -> bool:
    from cuda.bindings import driver

    error, status = driver.cuStreamIsCapturing(stream)
    return not int(error) and int(status) != 0


class Kernels:
    """One enqueued run of a stage over the addresses that were set then: a kernel marks the arena, another computes.

    A real stage has many kernels, and no kernel of another stage may run on the arena between them.
    """

    def __init__(
        self,
        library: FakeTensorRT,
        profile: Profile,
        addresses: Mapping[str, int],
        shapes: Mapping[str, tuple[int, ...]],
        arena: int,
    ) -> None:
        self._library, self._profile, self._arena = library, profile, arena
        self._inputs = {n: (addresses[n], shapes[n], _NUMPY[profile.types[n]]) for n in profile.inputs}
        self._outputs = {n: (addresses[n], s, _NUMPY[profile.types[n]]) for n, s in profile.outputs.items()}
        self._token = np.frombuffer(os.urandom(64), np.uint8)
        self.functions = [HostFunction(partial(self._run, kernel)) for kernel in (self._begin, self._compute)]
        library.kernels.append(self)

    def _run(self, kernel: Callable[[], None], _data: Any) -> None:
        try:
            kernel()
        except Exception as error:  # noqa: BLE001 (there is nobody to raise it to)
            self._library.problems.append(f"{self._profile.stage}: {error}")

    def _places(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Where the token is written: at both ends of the arena."""
        arena: NDArray[Any] = self._library.emulator.array(self._arena, (self._profile.arena,), np.uint8, write=True)
        return arena[:64], arena[-64:]

    def _begin(self) -> None:
        self._library.running(self._profile.stage)
        for place in self._places():
            place[:] = self._token

    def _compute(self) -> None:
        emulator, session = self._library.emulator, self._profile.session
        places = self._places()
        binding = session.io_binding()
        keep = []
        for tensors, bind, write in (
            (self._inputs, binding.bind_input, False),
            (self._outputs, binding.bind_output, True),
        ):
            for name, (address, shape, dtype) in tensors.items():
                array: NDArray[Any] = emulator.array(address, shape, dtype, write=write)
                bind(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
                keep.append(array)
        session.run_with_iobinding(binding)
        if not all(np.array_equal(place, self._token) for place in places):
            self._library.problems.append(f"{self._profile.stage}: another stage ran on the arena meanwhile")


_NUMPY = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}
