"""Write the tiny bundle that `swiftvr-export doctor --try` runs: random weights, 1/1000 of the demonstration model.

    python -m scripts.make_trial_bundle

It ships with the package, so that a machine without torch can try its decoder, ONNX Runtime and its encoder. Run this
again when the format of bundles changes.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from swiftvr_trt.cli.trial import BUNDLE, OUT
from swiftvr_trt.engines.bundle.cache import BundleCache
from swiftvr_trt.engines.bundle.manifest import Recipe
from swiftvr_trt.export.write import write_bundle
from tests.mini import write_mini_checkpoint

CLIP_LEN = 4


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="swiftvr-") as folder:
        checkpoint = write_mini_checkpoint(Path(folder) / "checkpoint")
        digest = BundleCache(Path(folder) / "cache").checkpoint_digest(checkpoint)
        shutil.rmtree(BUNDLE, ignore_errors=True)
        write_bundle(checkpoint, Recipe(digest, *OUT, CLIP_LEN, "fp32", "onnx", False), BUNDLE)


if __name__ == "__main__":
    main()
