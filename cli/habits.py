"""What people type who know FFmpeg or another restorer, and what it is called here.

An unknown option ends in one line with the whole command in our words, ready to paste, or with what to do instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import click

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


def _copied(kind: str) -> Habit:
    """Codecs of streams that are always copied."""
    return Habit(
        lambda value: (
            () if value == "copy" else f"{kind} is always copied: convert it afterwards, with ffmpeg -c:v copy"
        )
    )


def _video_filter(value: str) -> str | tuple[str, ...]:
    name, _, rest = value.partition("=")
    sides = rest.removeprefix("w=").replace(":h=", ":").split(":")[:2]
    if name == "scale" and "," not in value and len(sides) == 2 and all(side.isdecimal() for side in sides):
        return ("--resolution", "x".join(sides))
    if name == "scale" and "," not in value and sides[0].replace(" ", "") in ("iw*2", "2*iw"):
        return ("--upscale", "2")
    return "there are no filters: apply them before or after with ffmpeg; for another size, give --resolution WxH"


def _video_codec(value: str) -> str | tuple[str, ...]:
    return "restored video cannot be copied, it is encoded" if value == "copy" else ("--codec", value)


def _container(value: str) -> str:
    if value == "rawvideo":
        return "say what raw video consists of, e.g. --in-format yuv420p:720x576:25"
    return f"the name of OUTPUT decides the container, e.g. out.mkv; for a pipe, give --out-format {value}"


def _log_level(value: str) -> tuple[str, ...]:
    return ("-q",) if value in ("quiet", "panic", "fatal", "error", "warning") else ("-v",)


_END = _advice("give --duration, the length, instead, e.g. --start 10 --duration 5 for what lies between 10 s and 15 s")
_MAP = _advice("every stream is kept: remove the others afterwards with ffmpeg")
_BITRATE = _advice("quality is constant here, not the bit rate: give --crf N")

HABITS: Mapping[str, Habit] = {
    **dict.fromkeys(("-c:v", "-vcodec", "-codec:v"), Habit(_video_codec)),
    "-c": Habit(_video_codec),
    "-codec": Habit(_video_codec),
    **dict.fromkeys(("-c:a", "-acodec", "-codec:a"), _copied("sound")),
    **dict.fromkeys(("-c:s", "-scodec", "-codec:s"), _copied("a subtitle")),
    **dict.fromkeys(("-crf", "-cq", "-qp", "-q:v"), _named("--crf")),
    "-preset": _named("--preset"),
    "-pix_fmt": _named("--pix-fmt"),
    **dict.fromkeys(("-r", "-framerate", "--fps"), _named("--rate")),
    **dict.fromkeys(("-s", "--size", "--output-size"), _named("--resolution")),
    **dict.fromkeys(("-vf", "-filter:v"), Habit(_video_filter)),
    **dict.fromkeys(("-b", "-b:v"), _BITRATE),
    "-an": _flag("--no-audio"),
    **dict.fromkeys(("-hide_banner", "-nostdin", "-stats"), _flag()),
    "-threads": _named("--threads"),
    "-hwaccel": _named("--hwaccel"),
    **dict.fromkeys(("-loglevel", "-v:l"), Habit(_log_level)),
    **dict.fromkeys(("-ss", "--ss"), _named("--start")),
    **dict.fromkeys(("-t", "--length"), _named("--duration")),
    **dict.fromkeys(("-to", "--to", "--end", "-sseof"), _END),
    **dict.fromkeys(("-frames:v", "-frames", "-vframes"), _named("--frames")),
    "-f": Habit(_container),
    "-map": _MAP,
    **dict.fromkeys(("-movflags", "-tune", "-profile:v", "-level", "-g", "-bf"), _advice("it has no counterpart here")),
    **dict.fromkeys(("--model", "--weights", "--ckpt", "--model-path"), _named("--checkpoint")),
    **dict.fromkeys(("--scale", "--outscale"), _named("--upscale")),
    "--gpu": Habit(lambda value: ("--device", f"cuda:{value}" if value.isdecimal() else value)),
    "--encoder": _named("--codec"),
    "--pix_fmt": _named("--pix-fmt"),
    "--jobs": _advice("give --devices, one name per process, e.g. --devices cpu,cpu"),
}
"""Foreign options -> what they are here. `--input` and `--output` are read by `translate` itself."""

_INPUTS = ("-i", "--input", "--inputs")
_OUTPUTS = ("-o", "--output", "--out")


@dataclass
class _Line:
    """A command line in our words, as far as it has been read."""

    inputs: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    advice: dict[str, list[str]] = field(default_factory=dict)

    def read_foreign(self, name: str, value: str) -> None:
        translated = HABITS[name].translate(value)
        self.foreign.append(name)
        if isinstance(translated, str):
            self.advice.setdefault(translated, []).append(name)
        else:
            self.options += translated

    @property
    def words(self) -> list[str]:
        return [*self.inputs, *self.paths, *self.outputs, *self.options]


def translate(arguments: Sequence[str], with_value: frozenset[str]) -> str | None:
    """What a command line with foreign options would be here, in one line; None if it has none.

    with_value: our own options that take a value.
    """
    line = _read(arguments, with_value)
    if not line.foreign:
        return None
    names = _listed(list(dict.fromkeys(line.foreign)))
    advice = "; ".join(f"{_listed(names)}: {sentence}" for sentence, names in line.advice.items())
    if advice:
        return advice
    return f"{names} {'is' if len(set(line.foreign)) == 1 else 'are'} not known here; type: {_pasted(line.words)}"


def _read(arguments: Sequence[str], with_value: frozenset[str]) -> _Line:
    line, rest = _Line(), _with_length(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if word == "--":
            line.paths += rest
            break
        if name in HABITS and (equals == "" or name.startswith("--")):
            if HABITS[name].takes_value and not equals:
                value = rest.pop(0) if rest else ""
            line.read_foreign(name, value)
        elif name in (*_INPUTS, *_OUTPUTS):
            value = value if equals else rest.pop(0) if rest else ""
            (line.inputs if name in _INPUTS else line.outputs).append(value)
            line.foreign += [name] * (name != "-i")
        elif word.startswith("-") and word != "-":
            line.options.append(word)
            if word in with_value and rest:
                line.options.append(rest.pop(0))
        else:
            line.paths.append(word)
    return line


def _with_length(arguments: Sequence[str]) -> list[str]:
    """The arguments with `-t` instead of `-to`, where its value and that of `-ss` are times.

    `-to` names a moment of the input, but behind the input a moment of the output if `-ss` stands before it.
    """
    words = list(arguments)
    try:
        at, start_at = words.index("-to"), words.index("-ss") if "-ss" in words else None
        length = parse_seconds(words[at + 1])
        if start_at is not None and "-i" not in words[start_at:at]:
            length -= parse_seconds(words[start_at + 1])
    except (ValueError, IndexError):
        return words
    if length > 0:
        words[at : at + 2] = ["-t", f"{float(length):g}"]
    return words


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


def _pasted(words: Sequence[str]) -> str:
    """A command line to paste into this system's shell."""
    import shlex
    import subprocess

    line = ["swiftvr-run", *words]
    return shlex.join(line) if os.name == "posix" else subprocess.list2cmdline(line)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
