"""Capture, graphs and their launches, and what a capture forbids."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from cuda.bindings import driver
from cuda.core import Device, Stream
from cuda.core._utils.cuda_utils import CUDAError, handle_return

from . import Emulator, emulated
from .lab import Lab, address, capture_fork_join, pinned

pytestmark = pytest.mark.cuda_emulator


def test_captured_work_runs_at_launch_and_at_every_launch(emulator: Emulator) -> None:
    with Lab(emulator) as lab:
        calls: list[int] = []
        builder = lab.streams[0].create_graph_builder().begin_building()
        for i in range(3):
            lab.launch(lab.streams[0], partial(calls.append, i))
        graph = builder.end_building().complete()
        builder.close()
        lab.streams[0].sync()
        assert calls == []
        for _ in range(2):
            graph.launch(lab.streams[0])
        lab.streams[0].sync()
        assert calls == [0, 1, 2] * 2
        assert emulator.counts().execs == 1
        graph.close()


def test_a_graph_lists_its_nodes(emulator: Emulator) -> None:
    with Lab(emulator) as lab:
        stream = lab.streams[0]
        handle_return(
            driver.cuStreamBeginCapture(stream.handle, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL)
        )
        lab.launch(stream, lambda: None)
        lab.device.fill(1, stream=stream)
        lab.device.copy_to(lab.down, stream=stream)
        graph = handle_return(driver.cuStreamEndCapture(stream.handle))
        count = handle_return(driver.cuGraphGetNodes(graph))[1]
        nodes, _ = handle_return(driver.cuGraphGetNodes(graph, count))
        kinds = [int(handle_return(driver.cuGraphNodeGetType(node))) for node in nodes]
        kind = driver.CUgraphNodeType
        assert kinds == [
            kind.CU_GRAPH_NODE_TYPE_KERNEL,
            kind.CU_GRAPH_NODE_TYPE_MEMSET,
            kind.CU_GRAPH_NODE_TYPE_MEMCPY,
        ]
        ready = handle_return(driver.cuGraphInstantiate(graph, 0))
        handle_return(driver.cuGraphDestroy(graph))
        handle_return(driver.cuGraphUpload(ready, stream.handle))
        handle_return(driver.cuGraphLaunch(ready, stream.handle))
        stream.sync()
        assert (lab.received == 1).all()
        handle_return(driver.cuGraphExecDestroy(ready))


def test_a_forked_and_joined_graph_gives_the_right_data_under_all_seeds() -> None:
    for seed in range(60):
        with emulated(seed) as emulator:
            Device(0).set_current()
            with Lab(emulator) as lab:
                graph = capture_fork_join(lab)
                for _ in range(2):
                    graph.launch(lab.streams[0])
                lab.streams[0].sync()
                assert (lab.received == 5).all()
                assert (lab.received_again == 6).all()
                graph.close()


def test_a_missing_join_in_a_graph_gives_wrong_data_under_some_seed_and_is_named_under_all() -> None:
    seen = set()
    for seed in range(30):
        with emulated(seed, clean=False) as emulator:
            Device(0).set_current()
            with Lab(emulator) as lab:
                graph = capture_fork_join(lab, join=False)
                graph.launch(lab.streams[0])
                lab.streams[0].sync()
                seen.add(int(lab.received[0]))
                graph.close()
            assert [text[:5] for text in emulator.violations()] == ["race:"]
    assert seen == {5, 6}


def test_independent_branches_run_in_any_order() -> None:
    orders = set()
    for seed in range(20):
        with emulated(seed) as emulator:
            Device(0).set_current()
            with Lab(emulator) as lab:
                order: list[str] = []
                main = lab.streams[0].create_graph_builder().begin_building()
                main, side = main.split(2)
                lab.launch(main.stream, partial(order.append, "main"))
                lab.launch(side.stream, partial(order.append, "side"))
                graph = main.join(main, side).end_building().complete()
                graph.launch(lab.streams[0])
                lab.streams[0].sync()
                orders.add(tuple(order))
                for thing in (graph, main, side):
                    thing.close()
    assert orders == {("main", "side"), ("side", "main")}


def embed(stream: Any, child: Any) -> None:
    """As a stream that is captured takes a graph: it cannot be launched there."""
    _, _, graph, nodes, _, count = handle_return(driver.cuStreamGetCaptureInfo(stream.handle))
    node = handle_return(driver.cuGraphAddChildGraphNode(graph, nodes[:count], count, child))
    flag = driver.CUstreamUpdateCaptureDependencies_flags.CU_STREAM_SET_CAPTURE_DEPENDENCIES
    handle_return(driver.cuStreamUpdateCaptureDependencies(stream.handle, [node], None, 1, flag))


def test_a_graph_in_a_graph_runs_between_what_is_captured_before_and_after_it() -> None:
    for seed in range(20):
        with emulated(seed) as emulator:
            Device(0).set_current()
            with Lab(emulator) as lab:
                main, side = lab.streams
                order: list[str] = []
                child = main.create_graph_builder().begin_building()
                one, other = child.split(2)
                for builder, name in ((one, "one"), (other, "other")):
                    lab.launch(builder.stream, partial(order.append, name))
                child = child.join(one, other).end_building()
                parent = side.create_graph_builder().begin_building()
                lab.launch(side, partial(order.append, "before"))
                embed(side, child.graph_definition.handle)
                lab.launch(side, partial(order.append, "after"))
                graph = parent.end_building().complete()
                for thing in (one, other, child, parent):  # the graph has a copy
                    thing.close()
                for _ in range(2):
                    graph.launch(main)
                main.sync()
                graph.close()
        assert [order[0], order[3], *sorted(order[1:3])] == ["before", "after", "one", "other"]
        assert order[4:5] == ["before"]
        assert len(order) == 8


def test_a_graph_that_is_launched_in_a_capture_spoils_it(hostile: Emulator) -> None:
    lab = Lab(hostile)
    child = lab.streams[1].create_graph_builder().begin_building().end_building().complete()
    parent = lab.streams[0].create_graph_builder().begin_building()
    with pytest.raises(CUDAError, match="STREAM_CAPTURE_UNSUPPORTED"):
        child.launch(lab.streams[0])
    with pytest.raises(RuntimeError, match="invalidated"):
        parent.end_building()


class Token:
    """Something that a callback holds."""

    def call(self, calls: list[int]) -> None:
        calls.append(1)


def test_a_graph_keeps_what_its_callbacks_need_until_it_is_gone(emulator: Emulator) -> None:
    calls: list[int] = []
    with Lab(emulator) as lab:
        builder = lab.streams[0].create_graph_builder().begin_building()
        token = Token()
        alive = weakref.ref(token)
        builder.callback(partial(Token.call, token, calls))
        del token
        graph = builder.end_building().complete()
        builder.close()
        gc.collect()
        assert alive() is not None
        graph.launch(lab.streams[0])
        lab.streams[0].sync()
        assert calls == [1]
        graph.close()
        gc.collect()
        assert alive() is None


def test_launches_of_one_exec_do_not_overlap(emulator: Emulator) -> None:
    """Not even on different streams."""
    with Lab(emulator) as lab:
        inside, most = [0], [0]

        def kernel() -> None:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.0005)
            inside[0] -= 1

        builder = lab.streams[0].create_graph_builder().begin_building()
        lab.launch(lab.streams[0], kernel)
        graph = builder.end_building().complete()
        builder.close()
        for _ in range(10):
            for stream in lab.streams:
                graph.launch(stream)
        handle_return(driver.cuCtxSynchronize())
        assert most == [1]
        graph.close()


def test_a_graph_that_is_destroyed_while_it_runs_is_finished(emulator: Emulator) -> None:
    with Lab(emulator) as lab:
        graph = capture_fork_join(lab)
        graph.launch(lab.streams[0])
        graph.close()
        lab.streams[0].sync()
        assert (lab.received == 5).all()


def code_of(error: CUDAError) -> str:
    return str(error).split(":")[0].removeprefix("CUDA_ERROR_")


Call = Callable[[Lab, Any], object]
ILLEGAL: dict[str, tuple[Call, str]] = {
    "synchronize the stream": (lambda lab, _: lab.streams[0].sync(), "STREAM_CAPTURE_UNSUPPORTED"),
    "synchronize another stream": (lambda lab, _: lab.streams[1].sync(), "STREAM_CAPTURE_UNSUPPORTED"),
    "synchronize the device": (lambda _lab, _: handle_return(driver.cuCtxSynchronize()), "STREAM_CAPTURE_UNSUPPORTED"),
    "allocate device memory": (lambda _lab, _: handle_return(driver.cuMemAlloc(8)), "STREAM_CAPTURE_UNSUPPORTED"),
    "allocate pinned memory": (lambda _lab, _: pinned(), "STREAM_CAPTURE_UNSUPPORTED"),
    "allocate from a pool": (
        lambda lab, _: handle_return(driver.cuMemAllocAsync(8, lab.streams[0].handle)),
        "STREAM_CAPTURE_UNSUPPORTED",
    ),
    "free": (lambda _lab, memory: handle_return(driver.cuMemFree(memory)), "STREAM_CAPTURE_UNSUPPORTED"),
    "copy synchronously": (
        lambda lab, _: handle_return(driver.cuMemcpyHtoD(address(lab.device), address(lab.up), 8)),
        "STREAM_CAPTURE_UNSUPPORTED",
    ),
    "query a captured event": (lambda lab, _: lab.streams[0].record().is_done, "CAPTURED_EVENT"),
    "wait for a captured event": (lambda lab, _: lab.streams[0].record().sync(), "CAPTURED_EVENT"),
    "destroy the stream": (
        lambda lab, _: handle_return(driver.cuStreamDestroy(int(lab.streams[0].handle))),
        "STREAM_CAPTURE_UNSUPPORTED",
    ),
    "begin again": (
        lambda lab, _: handle_return(
            driver.cuStreamBeginCapture(
                int(lab.streams[0].handle), driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
            )
        ),
        "ILLEGAL_STATE",
    ),
    "end on another stream": (
        lambda lab, _: (
            lab.streams[1].wait(lab.streams[0]),
            handle_return(driver.cuStreamEndCapture(int(lab.streams[1].handle))),
        ),
        "STREAM_CAPTURE_UNMATCHED",
    ),
    "wait for work outside": (lambda lab, _: lab.streams[0].wait(lab.streams[1]), "STREAM_CAPTURE_ISOLATION"),
}


@pytest.mark.parametrize("name", ILLEGAL)
def test_an_illegal_call_during_capture_fails_and_spoils_the_capture(hostile: Emulator, name: str) -> None:
    call, code = ILLEGAL[name]
    lab = Lab(hostile)
    memory = handle_return(driver.cuMemAlloc(8))
    stream = int(lab.streams[0].handle)
    handle_return(driver.cuStreamBeginCapture(stream, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL))
    lab.device.fill(1, stream=lab.streams[0])
    with pytest.raises(CUDAError) as raised:
        call(lab, memory)
    assert code_of(raised.value) == code
    error, graph = driver.cuStreamEndCapture(stream)
    if code == "ILLEGAL_STATE":  # refused, and nothing else happened
        assert (error, handle_return(driver.cuGraphGetNodes(graph))[1]) == (0, 1)
    else:
        assert error == driver.CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
    lab.device.fill(2, stream=lab.streams[0])  # the stream is usable again
    lab.device.copy_to(lab.down, stream=lab.streams[0])
    lab.streams[0].sync()
    assert (lab.received == 2).all()


def test_the_relaxed_mode_allows_allocation_and_other_threads(emulator: Emulator) -> None:
    with Lab(emulator) as lab:
        builder = lab.streams[0].create_graph_builder().begin_building("relaxed")
        handle_return(driver.cuMemFree(handle_return(driver.cuMemAlloc(8))))
        lab.streams[1].sync()
        assert builder.is_building
        graph = builder.end_building().complete()  # raises if the capture was spoiled
        graph.close()
        builder.close()


@pytest.mark.parametrize(("mode", "code"), [("global", 900), ("thread_local", 0), ("relaxed", 0)])
def test_the_mode_says_what_other_threads_may_do(hostile: Emulator, mode: str, code: int) -> None:
    lab = Lab(hostile)
    context = handle_return(driver.cuCtxGetCurrent())
    builder = lab.streams[0].create_graph_builder().begin_building(mode)
    results: list[int] = []

    def allocate() -> None:
        handle_return(driver.cuCtxSetCurrent(context))
        results.append(int(driver.cuMemAlloc(8)[0]))

    thread = threading.Thread(target=allocate)
    thread.start()
    thread.join()
    assert results == [code]
    if code:
        with pytest.raises(RuntimeError, match="invalidated"):
            builder.end_building()
    else:
        builder.end_building()


def test_a_capture_is_ended_by_the_thread_that_began_it(hostile: Emulator) -> None:
    lab = Lab(hostile)
    mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    handle_return(driver.cuStreamBeginCapture(lab.streams[0].handle, mode))
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(int(driver.cuStreamEndCapture(lab.streams[0].handle)[0])))
    thread.start()
    thread.join()
    assert results == [908]


def test_a_thread_may_say_that_its_unsafe_calls_are_meant(emulator: Emulator) -> None:
    mode = driver.CUstreamCaptureMode
    with Lab(emulator) as lab:
        builder = lab.streams[0].create_graph_builder().begin_building("global")
        assert (
            handle_return(driver.cuThreadExchangeStreamCaptureMode(mode.CU_STREAM_CAPTURE_MODE_RELAXED))
            == mode.CU_STREAM_CAPTURE_MODE_GLOBAL
        )
        handle_return(driver.cuMemFree(handle_return(driver.cuMemAlloc(8))))
        handle_return(driver.cuThreadExchangeStreamCaptureMode(mode.CU_STREAM_CAPTURE_MODE_GLOBAL))
        builder.end_building()
        builder.close()


def test_a_branch_that_is_not_joined_is_an_error(hostile: Emulator) -> None:
    lab = Lab(hostile)
    builder = lab.streams[0].create_graph_builder().begin_building()
    lab.streams[1].wait(lab.streams[0])
    lab.device.fill(1, stream=lab.streams[1])
    with pytest.raises(CUDAError, match="UNJOINED"):
        builder.end_building()


def test_a_branch_whose_stream_is_gone_must_have_been_joined(hostile: Emulator) -> None:
    lab = Lab(hostile)
    builder = lab.streams[0].create_graph_builder().begin_building()
    side = handle_return(driver.cuStreamCreate(1))
    Stream.from_handle(int(side)).wait(lab.streams[0])
    lab.device.fill(1, stream=Stream.from_handle(int(side)))
    handle_return(driver.cuStreamDestroy(side))
    with pytest.raises(CUDAError, match="UNJOINED"):
        builder.end_building()
