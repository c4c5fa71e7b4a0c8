"""Both stage providers have the methods that the CUDA device calls, with the same parameters."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from swiftvr_trt.runtime.devices.ort_cuda import OrtCudaContext, OrtCudaProvider, OrtCudaStages
from swiftvr_trt.runtime.devices.stage_provider import LoadedStages, StageContext, StageProvider
from swiftvr_trt.runtime.devices.tensorrt import TensorRTContext, TensorRTEngines, TensorRTProvider

IMPLEMENTATIONS: list[tuple[type, type]] = [
    (StageProvider, TensorRTProvider),
    (StageProvider, OrtCudaProvider),
    (LoadedStages, TensorRTEngines),
    (LoadedStages, OrtCudaStages),
    (StageContext, TensorRTContext),
    (StageContext, OrtCudaContext),
]


def members(protocol: type) -> Iterator[tuple[str, Any]]:
    for name, member in vars(protocol).items():
        if not name.startswith("_"):
            yield name, member


@pytest.mark.parametrize(("protocol", "kind"), IMPLEMENTATIONS, ids=lambda cls: cls.__name__)
def test_an_implementation_has_every_member_of_its_protocol(protocol: type, kind: type) -> None:
    found = dict(members(protocol))
    assert found
    for name, member in found.items():
        ours = inspect.getattr_static(kind, name)
        if inspect.isfunction(member):
            assert list(inspect.signature(ours).parameters) == list(inspect.signature(member).parameters), name
        else:
            assert not inspect.isfunction(ours), f"{name} is a property or a value"


def test_only_tensorrt_stages_fit_into_a_graph_of_a_whole_chunk() -> None:
    providers: list[StageProvider] = [TensorRTProvider(library=None), OrtCudaProvider()]
    assert [provider.capturable for provider in providers] == [True, False]
