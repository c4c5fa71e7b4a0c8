"""Frames wait in their places until their chunk runs; surfaces need a device for them."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from swiftvr_trt import FrameForm, MediaError, MisuseError, Restorer
from swiftvr_trt.engines.bundle.pixel_formats import NV12, YUV420P
from swiftvr_trt.runtime.stream.buffers import LAST_FRAME, View
from swiftvr_trt.runtime.stream.frames import Surface
from swiftvr_trt.runtime.stream.places import SurfaceEntrance, SurfaceExit
from tests.conftest import BundleFactory

FORM = FrameForm(NV12)


class Noting:
    """A workspace that notes what is copied."""

    def __init__(self) -> None:
        self.copied: list[tuple[Any, View]] = []

    def copy_in(self, surface: Any, views: Sequence[View]) -> None:
        self.copied += [(surface, view) for view in views]

    def copy_out(self, view: View, form: FrameForm) -> Any:
        return view, form


def test_a_surface_is_read_while_it_is_fed_and_never_again() -> None:
    workspace: Any = Noting()
    entrance, surface = SurfaceEntrance(workspace), Surface((None, None), FORM, (4, 6))
    known = weakref.ref(surface)
    entrance.put(1, 2, surface)
    assert workspace.copied == [(surface, View("frames_in_1", 2, 1)), (surface, LAST_FRAME)]
    workspace.copied.clear()
    entrance.repeat(1, 3, 2)
    del surface
    assert workspace.copied == []
    assert known() is None


def test_restored_surfaces_come_from_the_places_of_their_chunk() -> None:
    workspace: Any = Noting()
    assert SurfaceExit(workspace, FORM).frames(0, 3, 2) == [(View("frames_out_0", k, 1), FORM) for k in (3, 4)]


@pytest.mark.parametrize(
    ("planes", "form", "size"),
    [((None,), FORM, (4, 6)), ((None, None), FORM, (5, 6)), ((None, None), FrameForm(YUV420P), (4, 6))],
)
def test_what_is_no_surface_is_refused(planes: Any, form: FrameForm, size: tuple[int, int]) -> None:
    with pytest.raises(MediaError, match="expected two, of nv12 or p010 with even sides"):
        Surface(planes, form, size)


def test_the_cpu_takes_and_gives_no_surfaces(mini_bundle: BundleFactory) -> None:
    with Restorer.open(mini_bundle(), device="cpu") as restorer:
        with restorer.session() as session, pytest.raises(MisuseError, match="this bundle runs on the CPU: use arrays"):
            session.feed(Surface((None, None), FORM, (16, 16)))
        with restorer.session(FORM, surfaces=True) as session, pytest.raises(MisuseError, match="runs on the CPU"):
            session.feed(np.zeros((16, 16, 3), np.uint8))
