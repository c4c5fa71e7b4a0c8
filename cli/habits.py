"""What people type who know FFmpeg or another restorer, and what it is called here.

An unknown option ends in one line with the whole command in our words, ready to paste, or with what to do instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import click

from ..errors import SwiftVRError
from ..runtime.restore.hwaccel import MODES
from ..text import parse_seconds

Translate = Callable[[str], "str | tuple[str, ...]"]
"""The value of a foreign option -> our options, or a sentence if we have none."""


@dataclass(frozen=True)
class Habit:
    """A foreign option. translate: see `Translate`. takes_value: False for a flag, whose value is empty."""

    translate: Translate
    takes_value: bool = True


def _named(name: str) -> Habit:
    return Habit(lambda value: (name, value))


def _flag(*options: str) -> Habit:
    return Habit(lambda _value: options, takes_value=False)


def _advice(sentence: str, *, takes_value: bool = True) -> Habit:
    return Habit(lambda _value: sentence, takes_value=takes_value)


def _copied(otherwise: str) -> Habit:
    """Codecs of streams that are copied. otherwise: what to do about another codec, which stands for {value}."""
    return Habit(lambda value: () if value == "copy" else otherwise.format(value=value))


def _video_filter(value: str) -> tuple[str, ...]:
    name, _, rest = value.partition("=")
    sides = rest.removeprefix("w=").replace(":h=", ":").split(":")[:2]
    if name == "scale" and "," not in value and len(sides) == 2 and all(side.isdecimal() for side in sides):
        return ("--resolution", "x".join(sides))
    if name == "scale" and "," not in value and sides[0].replace(" ", "") in ("iw*2", "2*iw"):
        return ("--upscale", "2")
    return ("--vf", value)


def _frame_rate(value: str) -> str | tuple[str, ...]:
    try:
        return (_RATE, str(value)) if 0 < Fraction(value) <= _FASTEST else _NO_RATE
    except (ValueError, ZeroDivisionError):
        return _NO_RATE


def _size(value: str) -> str | tuple[str, ...]:
    sides = value.split("x")
    if len(sides) == 2 and all(side.isdecimal() for side in sides):
        return ("--resolution", value)
    return "give the size of OUTPUT in pixels, e.g. --resolution 1920x1080"


def _threads(value: str) -> tuple[str, ...]:
    return () if value in ("0", "auto") else ("--threads", value)


def _hwaccel(value: str) -> str | tuple[str, ...]:
    name = {"nvdec": "cuda", "cuvid": "cuda"}.get(value, value)
    return ("--hwaccel", name) if name in MODES else "only NVIDIA GPUs decode and encode here: give --hwaccel auto"


def _gpu(value: str) -> tuple[str, ...]:
    if "," in value:
        return ("--devices", value)
    return ("--device", f"cuda:{value}" if value.isdecimal() else value)


def _video_codec(value: str) -> str | tuple[str, ...]:
    return "restored video cannot be copied, it is encoded" if value == "copy" else ("--codec", value)


def _container(value: str) -> str:
    if value == "rawvideo":
        return "say what raw video consists of, e.g. --in-format yuv420p:720x576:25"
    return f"the name of OUTPUT decides the container, e.g. out.mkv; for a pipe, give --out-format {value}"


_QUIET, _LOUD = ("quiet", "panic", "fatal", "error", "warning"), ("verbose", "debug", "trace")


def _log_level(value: str) -> tuple[str, ...]:
    return ("-q",) if value in _QUIET else ("-v",) if value in _LOUD else ()


_END = _advice("give --duration, the length, instead, e.g. --start 10 --duration 5 for what lies between 10 s and 15 s")
_SOUND = _copied(
    "sound is copied where OUTPUT holds it; --audio-fallback {value} says what it becomes elsewhere; to convert it "
    "always, use ffmpeg -c:v copy afterwards"
)
_SUBTITLES = _copied("a subtitle is copied, or becomes text that OUTPUT holds: convert it afterwards, with ffmpeg")
_MAP_ADVICE = "every stream is kept: remove the others afterwards with ffmpeg"
_NO_RATE = "give frames per second: --rate 25 for images, --vf fps=25 for a video"
_RATE = "-r"
"""Stands for `--rate`, or a filter, until all inputs are read: only a folder of images has no rate of its own."""
_FASTEST = 1000
_FILTERS = ("-vf", "-filter:v")
_NO_FILTER = "only a video is filtered: make one of the images first, with ffmpeg"
_BITRATE = _advice("quality is constant here, not the bit rate: give --crf N")

HABITS: Mapping[str, Habit] = {
    **dict.fromkeys(("-c:v", "-vcodec", "-codec:v"), Habit(_video_codec)),
    "-c": Habit(_video_codec),
    "-codec": Habit(_video_codec),
    **dict.fromkeys(("-c:a", "-acodec", "-codec:a"), _SOUND),
    **dict.fromkeys(("-c:s", "-scodec", "-codec:s"), _SUBTITLES),
    **dict.fromkeys(("-crf", "-cq", "-qp", "-q:v"), _named("--crf")),
    "-preset": _named("--preset"),
    "-pix_fmt": _named("--pix-fmt"),
    **dict.fromkeys(("-r", "-framerate", "--fps"), Habit(_frame_rate)),
    **dict.fromkeys(("-s", "--size", "--output-size"), Habit(_size)),
    **dict.fromkeys(_FILTERS, Habit(_video_filter)),
    **dict.fromkeys(("-b", "-b:v"), _BITRATE),
    "-an": _flag("--no-audio"),
    **dict.fromkeys(("-hide_banner", "-nostdin", "-stats"), _flag()),
    "-threads": Habit(_threads),
    "-hwaccel": Habit(_hwaccel),
    **dict.fromkeys(("-loglevel", "-v:l"), Habit(_log_level)),
    **dict.fromkeys(("-ss", "--ss"), _named("--start")),
    **dict.fromkeys(("-t", "--length"), _named("--duration")),
    **dict.fromkeys(("-to", "--to", "--end", "-sseof"), _END),
    **dict.fromkeys(("-frames:v", "-frames", "-vframes"), _named("--frames")),
    "-f": Habit(_container),
    "-map": _advice(_MAP_ADVICE),
    **dict.fromkeys(("-sn", "-dn"), _advice(_MAP_ADVICE, takes_value=False)),
    **dict.fromkeys(
        ("-movflags", "-tune", "-profile", "-profile:v", "-level", "-g", "-bf", "-x264-params", "-x265-params"),
        _advice("no counterpart here; leave out"),
    ),
    **dict.fromkeys(("--model", "--weights", "--ckpt", "--model-path"), _named("--checkpoint")),
    **dict.fromkeys(("--scale", "--outscale"), _named("--upscale")),
    "--gpu": Habit(_gpu),
    "--encoder": _named("--codec"),
    "--pix_fmt": _named("--pix-fmt"),
    "--jobs": _advice("give --devices, one name per process, e.g. --devices cpu,cpu"),
}
"""Foreign options -> what they are here. `--input` and `--output` are read by `translate` itself."""

_INPUTS = ("-i", "--input", "--inputs")
_OUTPUTS = ("-o", "--output", "--out")


@dataclass
class _Line:
    """A command line in our words, as far as it has been read. input_rates: those before the first input."""

    inputs: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    filters: list[str] = field(default_factory=list)
    input_rates: list[str] = field(default_factory=list)
    rates: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    advice: dict[str, list[str]] = field(default_factory=dict)

    def read_foreign(self, name: str, value: str, typed: str = "") -> None:
        """typed: what the user has typed, if not the name."""
        translated = HABITS[name].translate(value)
        self.foreign.append(typed or name)
        if isinstance(translated, str):
            self.advice.setdefault(translated, []).append(name)
        else:
            self.read_own(*translated)

    def read_own(self, *words: str) -> None:
        """An option of ours, with its value if it takes one. A graph joins those before it."""
        name, _, value = words[0].partition("=") if words else ("", "", "")
        if name == "--vf" and (value or len(words) == 2):
            self.filters.append(value or words[1])
        elif name == _RATE:
            (self.rates if self.inputs or self.paths else self.input_rates).extend(words[1:])
        else:
            self.options += words

    @property
    def words(self) -> list[str]:
        """The line. A rate is that of images, or a filter behind the others, as FFmpeg applies that of an output.

        Images keep the rate before them: FFmpeg would show each several times to reach that of the output.
        """
        rates, filters = (self.input_rates + self.rates)[-1:], list(self.filters)
        if rates and self._has_images:
            rates = (self.input_rates or self.rates)[-1:]
        elif rates:
            filters, rates = [*filters, f"fps={rates[0]}"], []
        added = ["--vf", ",".join(filters)] * bool(filters) + ["--rate", *rates] * bool(rates)
        if any(path.startswith("-") and path != "-" for path in self._paths):
            return [*self.options, *added, "--", *self._paths]
        return [*self._paths, *self.options, *added]

    def check_filters(self) -> None:
        """Add advice if images would be filtered."""
        if self.filters and self._has_images:
            names = [name for name in dict.fromkeys(self.foreign) if name in _FILTERS]
            self.advice.setdefault(_NO_FILTER, []).extend(names or ["--vf"])

    @property
    def _paths(self) -> list[str]:
        return [*self.inputs, *self.paths, *self.outputs]

    @cached_property
    def _has_images(self) -> bool:
        """True if an input is read as images. A live run reads none."""
        *sources, output = self._paths or [""]
        recursive = "--recursive" in self.options
        return "--live" not in self.options and any(_has_images(source, output, recursive) for source in sources)


def _has_images(source: str, output: str, recursive: bool) -> bool:
    """Whether a run reads images there, or would: a name without a suffix is that of a folder that will be."""
    from ..runtime.media.image_names import is_image
    from ..runtime.media.opening import is_read_as_images
    from ..runtime.media.pipes import is_input_pipe
    from ..runtime.restore.inputs import find_inputs
    from ..runtime.restore.live.addresses import is_live_address

    path = Path(source)
    try:
        if not path.exists() and not is_input_pipe(path):
            return (not path.suffix or is_image(path)) and not is_live_address(source)
        return any(is_read_as_images(each.path) for each in find_inputs([path], output, recursive=recursive).found)
    except (OSError, SwiftVRError):  # the run will say it
        return False


def translate(arguments: Sequence[str], with_value: frozenset[str]) -> str | None:
    """What a command line with foreign options would be here, in one line; None if it has none.

    with_value: our own options that take a value.
    """
    line = _read(arguments, with_value)
    if not line.foreign:
        return None
    line.check_filters()
    names = _listed(list(dict.fromkeys(line.foreign)))
    advice = "; ".join(f"{_listed(names)}: {sentence}" for sentence, names in line.advice.items())
    if advice:
        return advice
    return f"{names} {'is' if len(set(line.foreign)) == 1 else 'are'} not known here; type: {_pasted(line.words)}"


def _read(arguments: Sequence[str], with_value: frozenset[str]) -> _Line:
    line, rest, length = _Line(), list(arguments), _length(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if word == "--":
            line.paths += rest
            break
        if name == "-to" and length is not None:
            line.foreign.append(name)
            line.read_own("--duration", length)
            del rest[:1]
        elif name in HABITS and (equals == "" or name.startswith("--")):
            if HABITS[name].takes_value and not equals:
                value = rest.pop(0) if rest else ""
            line.read_foreign(name, value)
        elif word == "-v" and rest and rest[0] in (*_QUIET, "info", *_LOUD) and not os.path.lexists(rest[0]):
            level = rest.pop(0)
            line.read_foreign("-loglevel", level, typed=f"-v {level}")
        elif name in (*_INPUTS, *_OUTPUTS):
            value = value if equals else rest.pop(0) if rest else ""
            (line.inputs if name in _INPUTS else line.outputs).append(value)
            line.foreign += [name] * (name != "-i")
        elif word.startswith("-") and word != "-":
            line.read_own(word, *([rest.pop(0)] if word in with_value and rest else []))
        else:
            line.paths.append(word)
    return line


def _length(arguments: Sequence[str]) -> str | None:
    """The length that `-to` means, in seconds; None without one, and unless its value and that of `-ss` are times.

    `-to` names a moment of the input, but behind the input a moment of the output if `-ss` stands before it.
    """
    words = list(arguments)
    try:
        at, start_at = words.index("-to"), words.index("-ss") if "-ss" in words else None
        length = parse_seconds(words[at + 1])
        if start_at is not None and "-i" not in words[start_at:at]:
            length -= parse_seconds(words[start_at + 1])
    except (ValueError, IndexError):
        return None
    return f"{float(length):g}" if length > 0 else None


def refuse_foreign_options(command: click.Command, arguments: Sequence[str]) -> None:
    """Raise `click.UsageError` if there are options of other programs, with what they are here."""
    with_value = frozenset(
        name
        for option in command.params
        if isinstance(option, click.Option) and not option.is_flag and not option.count
        for name in option.opts
    )
    answer = translate(arguments, with_value)
    if answer is not None:
        raise click.UsageError(answer)
    ours = frozenset(name for option in command.params if isinstance(option, click.Option) for name in option.opts)
    unknown = _unknown(arguments, ours | {"-h"}, with_value)
    if unknown is not None:
        raise click.NoSuchOption(unknown)


def _unknown(arguments: Sequence[str], ours: frozenset[str], with_value: frozenset[str]) -> str | None:
    """The first word such as `-sn` that is no row of our letters, whole: click would name one letter of it."""
    words = iter(arguments)
    for word in words:
        if word == "--":
            break
        if word in with_value:
            next(words, None)
        elif len(word) > 2 and word[0] == "-" and word[1] != "-":
            letters = [f"-{letter}" for letter in word[1:]]
            end = next((at for at, name in enumerate(letters) if name in with_value), len(letters))
            if not ours.issuperset(letters[:end]):
                return word
    return None


def _pasted(words: Sequence[str]) -> str:
    """A command line to paste into this system's shell."""
    import shlex
    import subprocess

    line = ["swiftvr-run", *words]
    return shlex.join(line) if os.name == "posix" else subprocess.list2cmdline(line)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
