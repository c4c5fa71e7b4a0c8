"""Playlists are read if that is allowed, and open nothing outside their folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from swiftvr_trt.errors import MediaError
from swiftvr_trt.runtime.media import Picture, SinkOptions, open_sink, open_source
from swiftvr_trt.runtime.media.playlists import files_of_playlist, kind_of_playlist, read_playlist
from swiftvr_trt.runtime.media.source_options import SourceOptions
from swiftvr_trt.runtime.restore.segments.task import PiecesTask, digest_of_files, files_of

from .videos import EVEN, make_noise, make_video, one_line

ALLOWED = SourceOptions(allow_playlist=True)
HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.2,\n{0}\n#EXTINF:1.2,\n{1}\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile '{0}'\nfile '{1}'\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two videos `a.ts` and `sub/b c.ts`, and beside it a video that it must not lead to."""
    (tmp_path / "list" / "sub").mkdir(parents=True)
    make_video(tmp_path / "list" / "a.ts", EVEN[:10])
    make_video(tmp_path / "list" / "sub" / "b c.ts", EVEN[:8])
    make_video(tmp_path / "secret.ts", EVEN[:5])
    return tmp_path / "list"


def write(folder: Path, text: str, name: str = "in.m3u8") -> Path:
    (folder / name).write_bytes(text.encode())
    return folder / name


def frames(path: Path) -> int:
    with open_source(path, options=ALLOWED) as source:
        return sum(isinstance(item, Picture) for item in source)


@pytest.mark.parametrize("form", [HLS, CONCAT], ids=["hls", "ffconcat"])
@pytest.mark.parametrize("name", ["in.m3u8", "in.txt", "50%d.mp4", "with space"])
def test_an_allowed_playlist_is_all_its_videos(folder: Path, form: str, name: str) -> None:
    path = write(folder, form.format("a.ts", "sub/b c.ts"), name)
    assert frames(path) == 18
    with open_source(path, options=ALLOWED) as source:
        assert source.info.files == (folder / "a.ts", folder / "sub" / "b c.ts")
        with pytest.raises(MediaError, match="is the input itself"):
            open_sink(folder / "a.ts", source.info, 64, 48, SinkOptions(overwrite=True))


@pytest.mark.parametrize("form", [HLS, CONCAT], ids=["hls", "ffconcat"])
def test_without_permission_the_message_names_the_option(folder: Path, form: str) -> None:
    with pytest.raises(MediaError, match=r"is a playlist.*allow it with --allow-playlist") as error:
        open_source(write(folder, form.format("a.ts", "a.ts")))
    assert one_line(error)


@pytest.mark.parametrize("form", [HLS, CONCAT], ids=["hls", "ffconcat"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../secret.ts", "expected names of files in its own folder"),
        ("sub/../../secret.ts", "expected names of files in its own folder"),
        ("{outside}/secret.ts", "expected names of files in its own folder"),
        ("/dev/zero", "expected names of files in its own folder"),
        ("file:../secret.ts", "expected names of files in its own folder"),
        ("http://127.0.0.1:1/a.ts", "expected names of files in its own folder"),
        ("//127.0.0.1/a.ts", "expected names of files in its own folder"),
        ("subfile,,start,0,end,9,,:a.ts", "expected names of files in its own folder"),
        ("a.ts?x=1", "expected names of files in its own folder"),
        ("img%03d.ts", "expected names of files in its own folder"),
        ("link.ts", "a link that leads out of its folder"),
        ("links/secret.ts", "a link that leads out of its folder"),
        ("no.ts", "does not exist or is not a file"),
        ("sub", "does not exist or is not a file"),
        ("pipe.ts", "does not exist or is not a file"),
        ("inner.m3u8", "is a playlist, too"),
    ],
)
def test_nothing_outside_its_folder_is_opened(folder: Path, form: str, name: str, said: str) -> None:
    (folder / "link.ts").symlink_to(folder.parent / "secret.ts")
    (folder / "links").symlink_to(folder.parent)
    write(folder, HLS.format("a.ts", "a.ts"), "inner.m3u8")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.ts")
    path = write(folder, form.format("a.ts", name.replace("{outside}", str(folder.parent))))
    with pytest.raises(MediaError, match=f"the playlist .* was not opened: .*{said}") as error:
        open_source(path, options=ALLOWED)
    assert one_line(error)


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\na.ts\n",
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nother.m3u8\n#EXT-X-ENDLIST\n",
        '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="key"\na.ts\n#EXT-X-ENDLIST\n',
        '#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,URI="a.ts"\na.ts\n#EXT-X-ENDLIST\n',
        '#EXTM3U\n#EXT-X-MAP:URI="../secret.ts"\na.ts\n#EXT-X-ENDLIST\n',
        "#EXTM3U\n#x\0../secret.ts\na.ts\n#EXT-X-ENDLIST\n",
        f"#EXTM3U\n#{'x' * 5000}../secret.ts\na.ts\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-ENDLIST\n",
        "#EXTM3U \N{ESCAPE}[31m\na.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 2.0\nfile a.ts\n",
        "ffconcat version 1.0\nfile 'a'\\''b.ts'\n",
        "ffconcat version 1.0\nfile a.ts\noption format_whitelist ALL\n",
        "ffconcat version 1.0\nstream\nexact_stream_id 1\n",
        "ffconcat version 1.0\n",
        '<?xml version="1.0"?>\n<MPD>\n</MPD>\n',
    ],
)
def test_only_what_is_known_to_be_harmless_is_read(folder: Path, text: str) -> None:
    with pytest.raises(MediaError, match=r"the playlist .* was not opened") as error:
        open_source(write(folder, text), options=ALLOWED)
    assert one_line(error)
    assert str(error.value).isprintable()


def test_a_playlist_that_is_no_text_or_too_large_is_refused(folder: Path) -> None:
    (folder / "in.m3u8").write_bytes(b"#EXTM3U\n\xff\xfe\n")
    with pytest.raises(MediaError, match="not a text in UTF-8"):
        read_playlist(folder / "in.m3u8")
    (folder / "in.m3u8").write_bytes(b"#EXTM3U\n" + b"a.ts\n" * 1_000_000)
    with pytest.raises(MediaError, match="larger than"):
        read_playlist(folder / "in.m3u8")


def test_videos_are_no_playlists(folder: Path) -> None:
    assert read_playlist(folder / "a.ts") is None
    assert files_of_playlist(folder / "a.ts", allowed=True) == ()
    assert frames(folder / "a.ts") == 10
    assert kind_of_playlist(b"\xef\xbb\xbf#EXTM3U\n") == "hls"


def test_a_changed_entry_is_another_input(folder: Path) -> None:
    """Pieces of an interrupted run are not mixed with those of other videos."""
    path = write(folder, CONCAT.format("a.ts", "a.ts"))
    task = PiecesTask(path, folder / "out.mkv", 64, 48, SinkOptions(), reading=ALLOWED)
    before = digest_of_files(files_of(task))
    make_noise(folder / "a.ts")
    assert digest_of_files(files_of(task)) != before
