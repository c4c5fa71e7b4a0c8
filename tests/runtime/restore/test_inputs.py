"""What folders hold, and what becomes of it: nothing is left out in silence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from av.format import ContainerFormat, formats_available

from swiftvr_trt import MediaError, MisuseError
from swiftvr_trt.runtime.media.contents import VIDEOS
from swiftvr_trt.runtime.media.image_names import OTHER_SUFFIXES
from swiftvr_trt.runtime.restore.inputs import VIDEO_SUFFIXES, Inputs, find_inputs

NO_VIDEOS = {
    "sound": "aac afc aif aifc aiff au caf flac isma m2a m4a m4b mka mks mp2 mp3 mpa ogg ra son w64 wav wma wv",
    "pictures": "fits mpo",
    "scripts and data": "avs cdata cgi str ty ty+ v vb xl",
}
"""Suffixes that FFmpeg knows for a demuxer of videos, and that mostly mean something else."""


def test_every_suffix_that_ffmpeg_knows_for_videos_counts_in_a_folder() -> None:
    named = [
        each
        for name in formats_available
        if (each := ContainerFormat(name)).is_input and set(name.split(",")) & set(VIDEOS.split(","))
    ]
    known = {f".{suffix}" for each in named for suffix in each.extensions}
    others = {f".{suffix}" for names in NO_VIDEOS.values() for suffix in names.split()}
    assert known - set(VIDEO_SUFFIXES) - OTHER_SUFFIXES <= others
    assert ".apng" in VIDEO_SUFFIXES


@pytest.fixture
def tapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(*names: str) -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.write_text("")


def places(inputs: Inputs) -> dict[str, str]:
    return {each.path.as_posix(): each.place.as_posix() for each in inputs.found}


def find(*sources: str, output: str = "out/", recursive: bool = False, batch: bool = False) -> Inputs:
    return find_inputs(tuple(map(Path, sources)), output, recursive=recursive, batch=batch)


@pytest.mark.usefixtures("tapes")
class TestFolders:
    def test_a_folder_of_videos_is_a_batch_in_natural_order(self) -> None:
        make("tapes/tape10.avi", "tapes/tape2.MP4", "tapes/B.mkv")
        found = find("tapes")
        assert places(found) == {
            "tapes/B.mkv": "B.mkv",
            "tapes/tape2.MP4": "tape2.MP4",
            "tapes/tape10.avi": "tape10.avi",
        }
        assert list(places(found).values()) == ["B.mkv", "tape2.MP4", "tape10.avi"]
        assert (found.is_batch, found.notes, found.warnings) == (True, (), ())

    def test_a_folder_of_one_video_is_a_batch_too(self) -> None:
        make("tapes/a.avi")
        assert (places(find("tapes")), find("tapes").is_batch) == ({"tapes/a.avi": "a.avi"}, True)

    def test_a_folder_of_pictures_is_one_input(self) -> None:
        make("shots/1.png", "shots/2.png", "shots/notes.txt")
        found = find("shots")
        assert (places(found), found.is_batch) == ({"shots": "shots"}, False)
        assert found.notes == ("1 file left out, neither video nor picture: notes.txt",)
        assert find("shots", batch=True).is_batch
        assert places(find("shots", recursive=True)) == {"shots": "shots"}
        assert not find("shots", recursive=True).is_batch

    def test_in_a_mixed_folder_the_output_decides(self) -> None:
        make("mix/a.mp4", "mix/b.mp4", "mix/cover.png")
        found = find("mix")
        assert list(places(found)) == ["mix/a.mp4", "mix/b.mp4"]
        assert found.warnings == (
            "1 picture in mix left out (cover.png): to restore pictures, put them into a folder of their own",
        )
        found = find("mix", output="film.mp4")
        assert (places(found), found.is_batch) == ({"mix": "mix"}, False)
        assert found.warnings == (
            "2 videos in mix left out (a.mp4, b.mp4): to restore videos, name a folder as OUTPUT",
        )

    def test_pictures_in_other_formats_are_not_called_anything_else(self) -> None:
        make("mix/a.mp4", "mix/1.dpx", "mix/2.dpx", "mix/notes.txt", "deep/x/1.exr", "deep/a.mp4")
        found = find("mix")
        assert found.notes == ("1 file left out, neither video nor picture: notes.txt",)
        assert found.warnings == (
            "2 pictures in mix left out (1.dpx, 2.dpx): their format is not read; convert them to PNG first, e.g. "
            "magick mogrify -format png *.dpx",
        )
        assert find("deep").warnings == ("1 folder in deep left out (x): add --recursive",)
        assert len(find("deep", recursive=True).warnings) == 1
        with pytest.raises(MediaError, match=r"no pictures but 1\.exr, whose format is not read: convert it"):
            find("deep/x", recursive=True)

    def test_what_is_no_media_is_counted_and_named(self) -> None:
        make("tapes/a.mp4", *(f"tapes/{name}" for name in ("Thumbs.db", "a.srt", "notes.txt", ".DS_Store", "._a.mp4")))
        assert find("tapes").notes == (
            "3 files left out, neither video nor picture: a.srt, notes.txt, Thumbs.db",
            "2 files left out, hidden: ._a.mp4, .DS_Store",
        )

    def test_folders_in_a_folder_are_left_out_with_a_word_about_recursive(self) -> None:
        make("tapes/a.mp4", "tapes/more/deep/b.mp4", "tapes/empty/", "tapes/.hidden/c.mp4")
        found = find("tapes")
        assert list(places(found)) == ["tapes/a.mp4"]
        assert found.warnings == ("1 folder in tapes left out (more): add --recursive",)

    def test_recursive_keeps_the_structure(self) -> None:
        make("tapes/a.mp4", "tapes/y/2.mp4", "tapes/y/z/1.mp4", "tapes/shots/1.png", "tapes/empty/x/", "tapes/y/t.txt")
        found = find("tapes", recursive=True)
        assert places(found) == {
            "tapes/a.mp4": "a.mp4",
            "tapes/shots": "shots",
            "tapes/y/2.mp4": "y/2.mp4",
            "tapes/y/z/1.mp4": "y/z/1.mp4",
        }
        assert found.notes == ("1 file left out, neither video nor picture: t.txt",)

    def test_several_folders_keep_their_names(self) -> None:
        make("x/a.mp4", "y/a.mp4", "z/1.png", "b.mp4")
        assert places(find("x", "y/", "z", "b.mp4")) == {
            "x/a.mp4": "x/a.mp4",
            "y/a.mp4": "y/a.mp4",
            "z": "z",
            "b.mp4": "b.mp4",
        }

    def test_the_output_is_no_input(self) -> None:
        make("tapes/a.mp4", "tapes/restored/a.mp4", "tapes/old/restored/b.mp4")
        found = find("tapes", output="tapes/restored", recursive=True)
        assert list(places(found)) == ["tapes/a.mp4", "tapes/old/restored/b.mp4"]
        assert find("tapes", output="tapes/restored").warnings == ("1 folder in tapes left out (old): add --recursive",)

    def test_pictures_beside_folders_with_more_would_mix_and_are_refused(self) -> None:
        make("all/1.png", "all/more/2.png")
        with pytest.raises(MisuseError, match="all holds pictures, and folders in it hold more to restore"):
            find("all", recursive=True)
        assert find("all").warnings == ("1 folder in all left out (more): add --recursive",)

    @pytest.mark.skipif(os.name != "posix", reason="links need a privilege on Windows")
    def test_links_in_a_circle_end(self) -> None:
        make("tapes/a.mp4", "tapes/sub/b.mp4", "other/c.mp4")
        Path("tapes/sub/up").symlink_to("../..", target_is_directory=True)
        found = find("tapes", recursive=True)
        assert sorted(path.name for each in found.found for path in [each.path]) == ["a.mp4", "b.mp4", "c.mp4"]

    def test_an_empty_folder_fails_alone(self) -> None:
        make("a.mp4", "empty/", "full/x/1.mp4")
        assert list(places(find("a.mp4", "empty"))) == ["a.mp4", "empty"]
        with pytest.raises(MediaError, match="empty and the folders in it hold no videos and no pictures"):
            find("a.mp4", "empty", recursive=True)
        assert find("full").warnings == ("1 folder in full left out (x): add --recursive",)

    def test_a_missing_input_is_named(self) -> None:
        make("a.mp4")
        with pytest.raises(MediaError, match=r"no\.mp4 does not exist"):
            find("a.mp4", "no.mp4")

    def test_who_names_a_pattern_is_told_of_the_folder(self) -> None:
        make("seq/f1.png")
        with pytest.raises(MediaError, match=r"f%d\.png does not exist, .*so name the folder, seq$"):
            find("seq/f%d.png")

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="may read everything")
    def test_a_folder_that_cannot_be_read_is_named(self) -> None:
        make("locked/a.mp4")
        Path("locked").chmod(0)
        with pytest.raises(MediaError, match="the folder locked cannot be read: Permission denied"):
            find("locked")
