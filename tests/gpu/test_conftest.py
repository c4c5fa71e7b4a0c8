"""Builds that the GPU tests start."""

from __future__ import annotations

import sys

import pytest

from .conftest import run_build


def test_a_build_that_fails_gives_its_reason() -> None:
    code = "import sys; print('first'); print('error: no memory for it', file=sys.stderr); sys.exit(3)"
    with pytest.raises(pytest.fail.Exception, match="the build failed, exit code 3: error: no memory for it"):
        run_build([sys.executable, "-c", code], 120)
    with pytest.raises(pytest.fail.Exception, match="Fatal Python error: Aborted"):
        run_build([sys.executable, "-c", "import os; os.abort()"], 120)
    with pytest.raises(pytest.fail.Exception, match="the build failed, ended at its time limit"):
        run_build([sys.executable, "-c", "import time; time.sleep(600)"], 2)
    run_build([sys.executable, "-c", ""], 120)
