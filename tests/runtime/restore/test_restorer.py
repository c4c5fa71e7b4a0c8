"""Opening a bundle: which device runs it, and what is refused before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swiftvr_trt import Bundle, BundleError, MisuseError, Restorer
from swiftvr_trt.export.moving_picture import synthetic_frame
from swiftvr_trt.runtime.devices.cpu import CpuDevice
from swiftvr_trt.runtime.restore import restorer as module
from swiftvr_trt.runtime.restore.restorer import OpenOptions, choose_device, open_device
from swiftvr_trt.runtime.stream.session import Frame
from tests.conftest import BundleFactory
from tests.runtime.devices.fake_trt import write_engine_bundle


@pytest.mark.parametrize(
    ("target", "device", "chosen"),
    [
        ("onnx", None, "cpu"),
        ("cpu", None, "cpu"),
        ("cuda", None, "cuda"),
        ("rtx5090", None, "cuda"),
        ("of-a-later-version", None, "cuda"),
        ("onnx", "cuda:1", "cuda:1"),
        ("cuda", "cpu", "cpu"),
        ("rtx5090", "cuda:3", "cuda:3"),
    ],
)
def test_a_bundle_runs_on_the_named_device_or_on_its_targets(target: str, device: str | None, chosen: str) -> None:
    assert choose_device(target, device) == chosen


@pytest.mark.parametrize(
    ("target", "device", "ort_graphs", "kind", "said"),
    [
        ("rtx5090", "cpu", False, BundleError, "holds engines for target rtx5090, which run on GPUs only"),
        ("of-a-later-version", "cpu", False, BundleError, "holds engines for target of-a-later-version"),
        ("onnx", "tpu", False, MisuseError, "tpu"),
        ("onnx", None, True, MisuseError, "--ort-graphs was given for a bundle for onnx on cpu"),
        ("rtx5090", None, True, MisuseError, "engines are captured without it"),
    ],
)
def test_a_device_that_cannot_run_the_bundle_is_refused(
    target: str, device: str | None, ort_graphs: bool, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        choose_device(target, device, OpenOptions(ort_graphs=ort_graphs))


@pytest.mark.parametrize("target", ["cpu", "onnx", "cuda"])
def test_overlap_is_refused_where_it_has_no_meaning(target: str) -> None:
    with pytest.raises(MisuseError, match=rf"^--overlap was given for a bundle for {target} on \w+, expected engines"):
        choose_device(target, None, OpenOptions(overlap=True))
    assert choose_device("rtx5090", None, OpenOptions(overlap=True)) == "cuda"


def test_options_that_exclude_each_other_are_refused() -> None:
    for options in ({"graphs": False}, {"overlap": True}):
        with pytest.raises(MisuseError, match=r"^--ort-graphs and --(no-graphs|overlap) were both given"):
            OpenOptions(ort_graphs=True, **options)


def test_open_refuses_engines_on_the_cpu(bundle: Bundle, tmp_path: Path) -> None:
    engines = write_engine_bundle(tmp_path / "engines", bundle)
    with pytest.raises(BundleError, match=r"holds engines for target rtx5090.*--target cpu"):
        Restorer.open(engines, device="cpu")


def test_open_refuses_ort_graphs_on_the_cpu(bundle: Bundle) -> None:
    with pytest.raises(MisuseError, match=r"--ort-graphs was given for a bundle for onnx on cpu, expected"):
        Restorer.open(bundle, ort_graphs=True)


@pytest.mark.parametrize("threads", [0, -1, 1025])
def test_threads_out_of_range_are_refused(bundle: Bundle, threads: int) -> None:
    for refuse in (lambda: OpenOptions(threads), lambda: Restorer.open(bundle, threads=threads)):
        with pytest.raises(MisuseError, match=f"threads is {threads}, expected 1 to 1024"):
            refuse()


def test_options_reach_the_device(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def device(_bundle: Bundle, *arguments: object) -> CpuDevice:
        seen.append(arguments)
        return CpuDevice(bundle, threads=1)

    monkeypatch.setattr(module, "open_device", device)
    Restorer.open(bundle, device="cuda", threads=3, ort_graphs=True).close()
    assert seen == [("cuda", OpenOptions(3, True), None)]


def test_a_bundle_of_graphs_opens_on_the_cpu(bundle: Bundle) -> None:
    device = open_device(bundle, options=OpenOptions(threads=1))
    assert isinstance(device, CpuDevice)
    device.close()


def test_restore_is_lazy_and_closes_its_session(bundle: Bundle) -> None:
    taken = 0

    def frames() -> Iterator[Frame]:
        nonlocal taken
        for index in range(40):
            taken += 1
            yield synthetic_frame(index, 33, 57)

    with Restorer.open(str(bundle.path), threads=1) as restorer:
        assert restorer.manifest == bundle.manifest
        stream = restorer.restore(frames())
        assert taken == 0
        first = next(stream)
        assert taken == 12  # clips of 8: the first chunk takes 4 more
        assert first.dtype == np.uint8
        assert first.shape == (132, 100, 3)
        assert sum(1 for _ in stream) == 39


def test_a_closed_restorer_says_so(bundle: Bundle) -> None:
    restorer = Restorer.open(bundle, threads=1)
    restorer.close()
    restorer.close()
    with pytest.raises(MisuseError, match="this restorer is closed"):
        next(restorer.restore([]))


def test_a_session_whose_restorer_is_closed_says_so(mini_bundle: BundleFactory) -> None:
    frame = np.zeros((8, 8, 3), np.uint8)
    with Restorer.open(mini_bundle(), threads=1) as restorer:
        fresh, used = restorer.session(), restorer.session()
        used.feed(frame)
    for session in (fresh, used):
        for call in (lambda session=session: session.feed(frame), session.flush):
            with pytest.raises(MisuseError, match="the restorer of this session is closed; open the bundle again"):
                call()
        session.close()


@pytest.mark.parametrize("device", ["", 0, 1.5, b"cpu", ["cpu"], "cuda:", "cuda:-1", "CPU\n"])
def test_devices_that_are_none_are_refused(mini_bundle: BundleFactory, device: Any) -> None:
    with pytest.raises(MisuseError, match="is not known, expected cpu, cuda, or cuda:N") as caught:
        Restorer.open(mini_bundle(), device=device)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("threads", [0, 1025, "2", 1.0, True, [1]])
def test_threads_are_a_whole_number(mini_bundle: BundleFactory, threads: Any) -> None:
    with pytest.raises(MisuseError, match=r"threads is .*, expected 1 to 1024"):
        Restorer.open(mini_bundle(), threads=threads)


@pytest.mark.parametrize("bundle", [None, 0, b"x", ["x"]])
def test_a_bundle_is_named_by_a_path(bundle: Any) -> None:
    with pytest.raises(MisuseError, match="expected the path of its directory"):
        Restorer.open(bundle)
