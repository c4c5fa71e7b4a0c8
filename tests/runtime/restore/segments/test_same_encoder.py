"""Pieces that different encoders made are not joined."""

from __future__ import annotations

import pytest

from swiftvr_trt.errors import MachineError
from swiftvr_trt.runtime.media import SinkOptions
from swiftvr_trt.runtime.restore.segments.piece import Mark
from swiftvr_trt.runtime.restore.segments.same_encoder import as_before, check_encoder, surfaces_refused

ON_GPU = SinkOptions(gpu=0, surfaces=True)


def marks(*encoders: str) -> dict[int, Mark]:
    return {number: Mark(0, 1, 1, 1, "", "1/25", 0, False, encoder) for number, encoder in enumerate(encoders)}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((), ON_GPU),
        (("h264_nvenc",), ON_GPU),
        (("libx264", "libx264"), SinkOptions()),
        (("libx264", "h264_nvenc"), ON_GPU),  # they do not join either way
    ],
)
def test_what_was_begun_in_software_goes_on_so(before: tuple[str, ...], after: SinkOptions) -> None:
    assert as_before(ON_GPU, marks(*before)) == after
    assert as_before(SinkOptions(), marks(*before)) == SinkOptions()


@pytest.mark.parametrize("name", ["h264_nvenc", "libx264"])
def test_the_same_encoder_goes_on(name: str) -> None:
    check_encoder((name, ""), {})
    check_encoder((name, ""), marks(name, name))


@pytest.mark.parametrize("encoders", [("h264_nvenc",), ("libx264", "h264_nvenc")])
def test_another_one_does_not_and_says_why(encoders: tuple[str, ...]) -> None:
    with pytest.raises(MachineError, match=r"^in software: no sessions; pieces encoded by h264_nvenc do not .*libx264"):
        check_encoder(("libx264", ""), marks(*encoders), ["in software: no sessions"])


def test_one_of_the_same_name_with_another_header_does_not() -> None:
    with pytest.raises(MachineError, match=r"^pieces encoded by another h264_nvenc do not join .* devices of one kind"):
        check_encoder(("h264_nvenc", "a"), marks("h264_nvenc"))


def test_surfaces_that_are_refused_have_a_reason() -> None:
    assert str(surfaces_refused(["through the host: no sessions"])).startswith("through the host: no sessions, and")
