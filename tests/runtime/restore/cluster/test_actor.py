"""What runs on a node, without Ray: pieces leave in parts, and are those that a local run makes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from swiftvr_trt import Bundle
from swiftvr_trt.installing import onnxruntime_version
from swiftvr_trt.runtime.restore.cluster import actor
from swiftvr_trt.runtime.restore.cluster.actor import News, SpanActor, SpanOrder
from swiftvr_trt.runtime.restore.cluster.parcels import Goods, goods_of
from swiftvr_trt.runtime.restore.cluster.receiving import Receiver
from swiftvr_trt.runtime.restore.job import Job
from swiftvr_trt.runtime.restore.segments.piece import segments_folder
from swiftvr_trt.runtime.restore.segments.task import KnownInput, runtime_of
from swiftvr_trt.runtime.restore.verdict import Outcome, Verdict
from tests.conftest import BundleFactory

from ..fleet_lab import ONE_THREAD
from ..segments.lab import SINK, write_clip


@pytest.fixture(scope="module")
def bundle(mini_bundle: BundleFactory) -> Bundle:
    return mini_bundle(clip_len=4)


@pytest.fixture
def span_actor(tmp_path: Path) -> Iterator[SpanActor]:
    made = SpanActor(tmp_path)
    yield made
    made.close()
    assert [path.name for path in tmp_path.glob("swiftvr-cluster-*/*")] == ["lock"]


def order(source: Path, output: Path, bundle: Bundle, span: tuple[int, int | None]) -> SpanOrder:
    job = Job(source, str(output), sink=SINK, piece_s=2 * 4 / 25, span=span, device="cpu")
    return SpanOrder(job, goods_of(source, ship=False), goods_of(bundle.path, ship=False), ONE_THREAD)


def listen(span_actor: SpanActor) -> list[News]:
    """Everything that the actor tells of a span."""
    news = [span_actor.look()]
    while news[-1].outcome is None:
        news.append(span_actor.look())
    return news


def test_pieces_leave_in_parts_and_arrive_as_they_were(
    tmp_path: Path, span_actor: SpanActor, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actor, "PART_BYTES", 100)
    source, output = write_clip(tmp_path / "in.mp4", 40), tmp_path / "out.mp4"
    segments_folder(output).mkdir()
    receiver = Receiver(output)
    span_actor.begin(order(source, output, bundle, (1, 4)))
    news = listen(span_actor)
    parts = [each.part for each in news if each.part]
    assert all(len(part.data) <= 100 for part in parts)
    assert [part.piece for part in parts if receiver.take(part)] == [1, 2, 3]
    assert receiver.done == {1, 2, 3}
    assert receiver.frames == news[-1].frames == 24
    assert news[-1].outcome is not None
    assert news[-1].outcome.verdict is Verdict.DONE
    assert sorted(path.name for path in segments_folder(output).iterdir()) == [
        f"0000{piece}.{kind}" for piece in (1, 2, 3) for kind in ("json", "piece")
    ]


def test_an_actor_goes_on_with_the_next_span(tmp_path: Path, span_actor: SpanActor, bundle: Bundle) -> None:
    source, output = write_clip(tmp_path / "in.mp4", 40), tmp_path / "out.mp4"
    segments_folder(output).mkdir()
    for span in ((0, 1), (1, 2)):
        receiver = Receiver(output)
        before = receiver.mark_before(span[0])
        assert (before is None) == (span[0] == 0)
        span_actor.begin(replace(order(source, output, bundle, span), before=before))
        parts = [each.part for each in listen(span_actor) if each.part]
        assert [part.piece for part in parts if receiver.take(part)] == [span[0]]


@pytest.mark.parametrize(
    ("goods", "reason"),
    [
        (Goods("/no/such/in.mp4", "0"), "/no/such/in.mp4 cannot be read there (No such file or directory); expected "),
        (Goods(__file__, "0"), f"{__file__} is another file there; expected the same file on every node: use a path "),
    ],
)
def test_a_node_without_the_file_leaves_it_to_others(
    tmp_path: Path, span_actor: SpanActor, bundle: Bundle, goods: Goods, reason: str
) -> None:
    source = write_clip(tmp_path / "in.mp4", 20)
    span_actor.begin(replace(order(source, tmp_path / "out.mp4", bundle, (0, None)), source=goods))
    outcome = listen(span_actor)[-1].outcome
    assert outcome is not None
    assert outcome.verdict is Verdict.UNBEGUN
    assert outcome.text.startswith(reason)


def test_a_node_with_another_onnx_runtime_leaves_the_file_to_others(
    tmp_path: Path, span_actor: SpanActor, bundle: Bundle
) -> None:
    """Its pictures would differ in a few pixels from those of the other pieces."""
    given = replace(order(write_clip(tmp_path / "in.mp4", 20), tmp_path / "out.mp4", bundle, (0, None)), runtime="0.1")
    span_actor.begin(given)
    assert isinstance(outcome := listen(span_actor)[-1].outcome, Outcome)
    assert outcome.verdict is Verdict.UNBEGUN
    said = f"ONNX Runtime there is {onnxruntime_version()}, expected 0.1: install the same version on every node"
    assert outcome.text == said
    span_actor.begin(replace(given, runtime=runtime_of(bundle.manifest)))
    assert isinstance(outcome := listen(span_actor)[-1].outcome, Outcome)
    assert outcome.verdict is Verdict.DONE


def test_a_node_that_finds_another_input_does_not_restore_it(
    tmp_path: Path, span_actor: SpanActor, bundle: Bundle
) -> None:
    """It was replaced after the run had begun."""
    given = order(write_clip(tmp_path / "in.mp4", 20), tmp_path / "out.mp4", bundle, (0, None))
    span_actor.begin(replace(given, job=replace(given.job, known=KnownInput("another"))))
    assert isinstance(outcome := listen(span_actor)[-1].outcome, Outcome)
    assert outcome.verdict is Verdict.FAILED
    assert "in.mp4 was changed while it was restored" in outcome.text


def test_a_bundle_that_the_device_cannot_run_is_told(tmp_path: Path, span_actor: SpanActor, bundle: Bundle) -> None:
    source = write_clip(tmp_path / "in.mp4", 20)
    given = order(source, tmp_path / "out.mp4", bundle, (0, None))
    span_actor.begin(replace(given, job=replace(given.job, device="cuda:77")))
    assert isinstance(outcome := listen(span_actor)[-1].outcome, Outcome)
    assert outcome.verdict is Verdict.UNFIT
