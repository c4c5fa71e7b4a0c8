"""Options of FFmpeg and of other restorers: the answer is a command to paste, or what to do instead."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import click
import pytest

from swiftvr_trt.cli import console
from swiftvr_trt.cli import run as cli
from swiftvr_trt.cli.habits import HABITS, translate
from swiftvr_trt.runtime.media import open_source
from swiftvr_trt.runtime.restore.run import RunOptions, announced_inputs, batch_jobs, only_job
from tests.runtime.media.images import folder
from tests.runtime.media.videos import make_noise
from tests.runtime.restore.fleet_lab import RecordingDisplay

WITH_VALUE = frozenset({"--bundle", "--crf", "--codec", "--start", "--duration", "--frames", "--vf"})

TRANSLATIONS = {
    "-i in.mp4 -c:v libx265 -crf 20 -preset slow -c:a copy out.mp4": (
        "in.mp4 out.mp4 --codec libx265 --crf 20 --preset slow"
    ),
    "-y -hide_banner -i in.mp4 -pix_fmt yuv444p -an out.mkv": "in.mp4 out.mkv -y --pix-fmt yuv444p --no-audio",
    "-i in.mp4 -vf scale=1920:1080 out.mp4": "in.mp4 out.mp4 --resolution 1920x1080",
    "-i in.mp4 -vf scale=w=1920:h=1080:flags=lanczos out.mp4": "in.mp4 out.mp4 --resolution 1920x1080",
    "-i in.mp4 -vf scale=iw*2:-1 out.mp4": "in.mp4 out.mp4 --upscale 2",
    "-i in.mp4 -s 640x480 out.mp4": "in.mp4 out.mp4 --resolution 640x480",
    "-r 24000/1001 -i shots out.mp4": "shots out.mp4 --rate 24000/1001",
    "-framerate 12 -i one.png out.mp4": "one.png out.mp4 --rate 12",
    "-framerate 1/5 -i shots -r 30 out.mp4": "shots out.mp4 --rate 1/5",
    "-i shots -r 24 -r 30 out.mp4": "shots out.mp4 --rate 30",
    "-r 24 -i in.mp4 -r 30 out.mp4": "in.mp4 out.mp4 --vf fps=30",
    "-i - -r 30 out.mp4": "- out.mp4 --vf fps=30",
    "-r 30 -i rtsp://camera/1 rtmp://s/k --live": "rtsp://camera/1 rtmp://s/k --live --vf fps=30",
    "-r 30 -i camera hls/ --live": "camera hls/ --live --vf fps=30",
    "-i in.mp4 -r 30 out.mp4": "in.mp4 out.mp4 --vf fps=30",
    "-i in.mp4 -vf yadif,scale=640:480 -r 30 out.mp4": "in.mp4 out.mp4 --vf yadif,scale=640:480,fps=30",
    "-i in.mp4 -filter:v fps=10 -crf 20 out.mp4": "in.mp4 out.mp4 --crf 20 --vf fps=10",
    "-r 30 in.mp4 --vf hflip out.mp4": "in.mp4 out.mp4 --vf hflip,fps=30",
    "-r 30 in.mp4 --vf=hflip out.mp4": "in.mp4 out.mp4 --vf hflip,fps=30",
    "-v error -i in.mp4 -threads 0 out.mp4": "in.mp4 out.mp4 -q",
    "-i in.mp4 -loglevel info -hwaccel nvdec out.mp4": "in.mp4 out.mp4 --hwaccel cuda",
    "in.mp4 out.mp4 --gpu 0,1": "in.mp4 out.mp4 --devices 0,1",
    "--input a.mp4 --output b.mp4 --model SwiftVR --scale 2": "a.mp4 b.mp4 --checkpoint SwiftVR --upscale 2",
    "--input=a.mp4 --output=b.mp4 --scale=2": "a.mp4 b.mp4 --upscale 2",
    "-i a.mp4 -i b.mp4 -o out/ --bundle b1080": "a.mp4 b.mp4 out/ --bundle b1080",
    "a.mp4 b.mp4 --bundle -crf --gpu 1": "a.mp4 b.mp4 --bundle -crf --device cuda:1",
    "--bundle b1080 a.mp4 -loglevel error b.mp4": "a.mp4 b.mp4 --bundle b1080 -q",
    "-loglevel debug a.mp4 b.mp4": "a.mp4 b.mp4 -v",
    "-ss 1:30 -t 500ms -i a.mp4 b.mp4": "a.mp4 b.mp4 --start 1:30 --duration 500ms",
    "-i a.mp4 -frames:v 10 b.mp4": "a.mp4 b.mp4 --frames 10",
    "-ss 10 -to 0:15.5 -i a.mp4 b.mp4": "a.mp4 b.mp4 --start 10 --duration 5.5",
    "-i a.mp4 -ss 10 -to 15 b.mp4": "a.mp4 b.mp4 --start 10 --duration 5",
    "-ss 10 -i a.mp4 -to 15 b.mp4": "a.mp4 b.mp4 --start 10 --duration 15",
    "-to 15 -i a.mp4 b.mp4": "a.mp4 b.mp4 --duration 15",
    "-i a.mp4 -to 1.5 b.mp4": "a.mp4 b.mp4 --duration 1.5",
    "-crf 20 -- -a.mp4 b.mp4": "--crf 20 -- -a.mp4 b.mp4",
    "-i a.mp4 -an 'b c.mp4'": "a.mp4 'b c.mp4' --no-audio",
}

ADVICE = {
    "-ss 10 -to 5 -i a.mp4 b.mp4": "-to: give --duration, the length, instead",
    "a.mp4 b.mp4 --start 10 --end 15": "--end: give --duration, the length, instead",
    "-ss 10 -to": "-to: give --duration",
    "-ss ten -to 5 -i a.mp4 b.mp4": "-to: give --duration",
    "-sseof -10 -i a.mp4 b.mp4": "-sseof: give --duration",
    "-i a.mp4 -f matroska b.mp4": "-f: the name of OUTPUT decides the container, e.g. out.mkv",
    "-i a.mp4 -c copy b.mp4": "-c: restored video cannot be copied",
    "-i a.mp4 -c:a aac b.mp4": "-c:a: sound is copied where OUTPUT holds it; --audio-fallback aac says",
    "-i a.mp4 -r ntsc b.mp4": "-r: give frames per second: --rate 25 for images, --vf fps=25 for a video",
    "-i a.mp4 -s hd720 b.mp4": "-s: give the size of OUTPUT in pixels, e.g. --resolution 1920x1080",
    "-hwaccel vaapi -i a.mp4 b.mp4": "-hwaccel: only NVIDIA GPUs decode and encode here",
    "-i a.mp4 -sn b.mp4": "-sn: every stream is kept",
    "-i a.mp4 -profile:v high -tune film b.mp4": "-profile:v and -tune: no counterpart here; leave out",
    "-i a.mp4 -b:v 5M b.mp4": "-b:v: quality is constant here, not the bit rate: give --crf N",
    "-i a.mp4 -crf 20 -map 0 b.mp4": "-map: every stream is kept",
    "-vf hflip -r 25 -i shots out.mp4": "-vf: only a video is filtered",
    "-filter:v hflip -i a.mp4 -i shots out/": "-filter:v: only a video is filtered",
    "-i shots -crf 20 --vf hflip out.mp4": "--vf: only a video is filtered",
    "-i a.mp4 -movflags +faststart b.mp4": "-movflags: no counterpart here; leave out",
}

OURS = [
    "a.mp4 b.mp4 --crf 20 --codec libx265 -y",
    "-i a.mp4 b.mp4 -n",
    "a.mp4 b.mp4 --start 10 --duration 5 --frames 3",
    "-q a.mp4 b.mp4",
    "--crf -crf a b",
    "a.mp4 b.mp4 -- -crf",
    "",
    "- -",
    "-vn a.mp4 b.mp4",
]

PLACES = {
    "-r 25 -i videos/ out/": "--vf fps=25",
    "-r 25 -i videos/ out.mp4": "--rate 25",
    "-r 25 -i moves.png out.mp4": "--vf fps=25",
    "-r 25 -i shots/1.png out.mp4": "--rate 25",
    "-r 25 -i shots/ out.mp4": "--rate 25",
    "-r 25 -i shots.d out/": "--rate 25",
    "-r 25 -i shots -i videos out/": "--rate 25",
    "-r 25 -i tree out/ --recursive": "--rate 25",
}
"""What is given for a rate, and for these inputs."""


@pytest.mark.parametrize("line", TRANSLATIONS)
def test_a_foreign_command_is_answered_with_ours(line: str) -> None:
    answer = translate(shlex.split(line), WITH_VALUE)
    assert answer is not None
    assert answer.endswith(f" not known here; type: swiftvr-run {TRANSLATIONS[line]}")
    named = answer.split(" not known")[0].rsplit(" ", 1)[0].replace(" and ", ", ").split(", ")
    assert all(name in line for name in named)  # as they were typed
    assert translate(shlex.split(TRANSLATIONS[line]), WITH_VALUE) is None  # what is pasted is ours


@pytest.mark.parametrize("line", ADVICE)
def test_what_we_lack_is_answered_with_what_to_do(line: str) -> None:
    assert (translate(shlex.split(line), WITH_VALUE) or "").startswith(ADVICE[line])


@pytest.mark.parametrize("line", OURS)
def test_our_own_options_are_left_alone(line: str) -> None:
    assert translate(shlex.split(line), WITH_VALUE) is None


def _parse(*arguments: str) -> dict[str, Any]:
    return cli.command.make_context("swiftvr-run", list(arguments)).params


@pytest.mark.parametrize("line", TRANSLATIONS.values())
def test_what_is_pasted_is_accepted(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every option of every translation exists, takes the value, and goes with the others."""
    taken: list[object] = []
    monkeypatch.setattr(console, "show_log", lambda *_, **__: None)
    monkeypatch.setattr("swiftvr_trt.runtime.restore.run.restore_files", lambda options, _: taken.append(options))
    monkeypatch.setattr("swiftvr_trt.runtime.restore.live.live_run.restore_live", lambda *all_: taken.append(all_))
    cli.command.main(shlex.split(line), "swiftvr-run", standalone_mode=False)
    assert len(taken) == 1


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of videos with a cover, folders of images, and a video with the name of an image."""
    place = tmp_path_factory.mktemp("places")
    for name in ("videos", "shots", "shots.d", "tree/shots"):
        (place / name).parent.mkdir(exist_ok=True)
        folder(place / name, ["1.png"])
    make_noise(place / "videos" / "a.mp4", 3)
    make_noise(place / "a.mp4", 3).rename(place / "moves.png")
    return place


@pytest.mark.parametrize("line", PLACES)
def test_what_is_pasted_for_real_inputs_opens_them(line: str, places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[RunOptions] = []
    monkeypatch.chdir(places)
    monkeypatch.setattr("swiftvr_trt.runtime.restore.run.restore_files", lambda options, _: taken.append(options))
    pasted = shlex.split((translate(shlex.split(line), WITH_VALUE) or "").partition("swiftvr-run ")[2])
    assert " ".join(pasted[-2:]) == PLACES[line]
    cli.command.main(pasted, "swiftvr-run", standalone_mode=False)
    options, display = taken[0], RecordingDisplay()
    inputs = announced_inputs(options, display)
    jobs = batch_jobs(options, inputs.found, display)[0] if inputs.is_batch else [only_job(options)]
    for job in jobs:
        with open_source(job.source, rate=job.rate, options=job.reading) as source:
            assert source.info.frames


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
def test_a_named_pipe_is_a_video(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    answer = translate(["-i", f"{tmp_path}/pipe", "-r", "30", "out.mp4"], WITH_VALUE)
    assert (answer or "").endswith("out.mp4 --vf fps=30")


def test_a_level_of_the_log_that_is_the_name_of_an_input_is_an_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ["-v", "debug", "out/", "--bundle", "b"]
    monkeypatch.chdir(tmp_path)
    assert (translate(line, WITH_VALUE) or "").startswith("-v debug is not known here")
    (tmp_path / "debug").mkdir()
    assert translate(line, WITH_VALUE) is None


def test_no_habit_is_an_option_of_ours() -> None:
    ours = {name for option in cli.command.params for name in option.opts}
    assert ours.isdisjoint(HABITS)
    letters = {name for name in (*ours, "-h") if len(name) == 2}
    rows = [name for name in HABITS if name[1] != "-" and letters.issuperset(f"-{letter}" for letter in name[1:])]
    assert rows == []


def test_the_command_refuses_them_as_wrong_usage() -> None:
    with pytest.raises(click.UsageError, match=r"type: swiftvr-run a\.mp4 b\.mp4 --crf 20$"):
        _parse("-i", "a.mp4", "-crf", "20", "b.mp4")
    assert _parse("-i", "a.mp4", "b.mp4")["inputs"] == ("a.mp4",)


@pytest.mark.parametrize("word", ["-metadata", "-qq-", "-vsync", "-shortest"])
def test_an_unknown_word_with_one_dash_is_named_whole(word: str) -> None:
    with pytest.raises(click.NoSuchOption, match=f"{word}"):
        _parse("a.mp4", word, "x", "b.mp4")


@pytest.mark.parametrize("word", ["-qv", "-vv", "-ia.mp4", "-yi"])
def test_letters_in_a_row_stay_options(word: str) -> None:
    _parse(word, "a.mp4", "b.mp4")
