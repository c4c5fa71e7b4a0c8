"""Both sides restore the same frames: as many out as in, and alike."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from swiftvr_trt.benchmarks.suite.clips import moving
from swiftvr_trt.benchmarks.suite.subjects import OpenBundle, TorchNetwork, open_subject
from swiftvr_trt.errors import MissingPackageError
from tests.conftest import BundleFactory

from .lab import order_for, trial_bundle


def test_both_sides_restore_the_same_frames(mini_bundle: BundleFactory, mini_checkpoint: Path, tmp_path: Path) -> None:
    order = order_for(mini_bundle(), tmp_path, "core", checkpoint=mini_checkpoint)
    frames = moving(14, 32, 48)
    with (
        open_subject(order) as bundle,
        open_subject(replace(order, subject=replace(order.subject, side="torch"))) as torch,
    ):
        assert isinstance(bundle, OpenBundle)
        assert isinstance(torch, TorchNetwork)
        ours, theirs = bundle.restore(frames), torch.restore(frames)
        assert len(ours) == len(theirs) == 14
        assert np.abs(np.stack(ours).astype(int) - np.stack(theirs)).max() <= 1
        for one in (bundle, torch):
            assert len(list(islice(one.chunks(frames), 3))) == 3
            assert len(list(islice(one.delays(frames), 3))) == 3


def test_without_torch_the_message_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "swiftvr_trt.export.network.reference", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingPackageError, match="comparing with the torch network needs the package 'torch'"):
        TorchNetwork(order_for(trial_bundle(), tmp_path, "core"))
