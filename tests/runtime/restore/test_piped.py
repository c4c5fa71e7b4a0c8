"""What a run cannot do with pipes."""

from __future__ import annotations

from pathlib import Path

import pytest

from swiftvr_trt.errors import MisuseError
from swiftvr_trt.runtime.restore.piped import check_pipes

OPTIONS = ("--devices", "--cluster", "--preview", "--skip-existing", "--resume")


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize(("source", "output"), [("-", "out.mkv"), ("in.mkv", "-"), ("-", "-")])
def test_an_option_that_needs_files_is_refused(name: str, source: str, output: str) -> None:
    check_pipes([Path(source)], output, dict.fromkeys(OPTIONS, False))
    with pytest.raises(MisuseError, match=rf"^{name} was given, but standard (in|out)put is a pipe, which is .*: .*"):
        check_pipes([Path(source)], output, {name: True})


def test_files_allow_everything() -> None:
    check_pipes([Path("a.mkv"), Path("b.mkv")], "out/", dict.fromkeys(OPTIONS, True))


@pytest.mark.parametrize(("sources", "output"), [(["-", "a.mkv"], "out/"), (["a.mkv", "b.mkv"], "-")])
def test_a_pipe_carries_one_video(sources: list[str], output: str) -> None:
    with pytest.raises(MisuseError, match=r"expected (it alone|a folder)"):
        check_pipes([Path(source) for source in sources], output, {})
