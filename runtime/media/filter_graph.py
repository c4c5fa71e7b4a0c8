"""Reads the text of a filter graph, as FFmpeg's `-vf` takes it, and refuses filters that open other files. Pure.

FFmpeg parses such a text itself, but PyAV does not offer that, and the names have to be known before anything is
opened; only about a name that is refused, FFmpeg is asked whether it has it. The syntax is FFmpeg's:
`[label]name=arguments[label]`, joined by commas and semicolons; quotes and backslashes protect characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from ...errors import MisuseError
from ...text import counted

_NAMES = """
amplify atadenoise avgblur bilateral blend bm3d boxblur bwdif cas chromanr chromashift colorbalance colorchannelmixer
colorcontrast colorcorrect colorhold colorlevels colorspace colortemperature convolution copy crop dblur dctdnoiz deband
deblock decimate dedot deflate deflicker dejudder despill detelecine dilation doubleweave drawbox drawgrid edgedetect
epx eq erosion estdif exposure fade fftdnoiz fftfilt field fieldmatch fieldorder fillborders format fps framerate
framestep fspp gblur geq gradfun grayworld greyedge guided hflip hqdn3d hqx hstack hue huesaturation il inflate
interleave kerndeint lagfun lenscorrection limiter lut lut2 lutrgb lutyuv maskedclamp maskedmax maskedmerge maskedmin
maskedthreshold mcdeint median mergeplanes midequalizer minterpolate mix monochrome mpdecimate negate nlmeans noformat
noise normalize null overlay owdenoise pad phase pixelize pp7 pullup removegrain repeatfields rgbashift rotate scale
select separatefields setdar setfield setparams setpts setrange setsar settb shear shuffleframes shuffleplanes smartblur
split spp stereo3d swaprect swapuv tblend telecine tile tmedian tmix tonemap transpose trim unsharp untile uspp
vaguedenoiser varblur vflip vibrance vignette vstack w3fdif weave xbr xfade xmedian xstack yadif yaepblur zscale
"""
SAFE = frozenset(_NAMES.split())
"""Filters of pictures that open no file, load no code, keep a bounded number of frames, and end with their input."""

_ENDLESS = frozenset(("loop", "random", "realtime", "reverse", "thumbnail", "tpad"))
"""Filters of pictures that keep more frames than any memory holds, or do not end with their input."""

_SOUND_NAMES = """
afftdn alimiter amerge amix anlmdn aresample asetrate asplit atempo bass compand dynaudnorm equalizer highpass loudnorm
lowpass pan silenceremove stereotools treble volume
"""
_OF_SOUND = frozenset(_SOUND_NAMES.split())
"""Those that people know best; others are called like one of pictures, with an `a` before it."""

_DEINTERLACERS = frozenset((
    "bwdif", "detelecine", "estdif", "field", "fieldmatch", "kerndeint", "mcdeint", "pullup", "repeatfields",
    "separatefields", "w3fdif", "yadif",
))  # fmt: skip
"""Filters that make progressive frames of interlaced ones, or tell fields apart themselves."""

_SPACE = " \n\t\r"


@dataclass(frozen=True)
class FilterStep:
    """One filter of a graph. follows: its other inputs are the other outputs of the step before it."""

    name: str
    arguments: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    follows: bool


def parse_graph(text: str) -> tuple[FilterStep, ...]:
    """The steps of a graph. Raises `MisuseError` for a text that is none, or names a filter that is not `SAFE`."""
    reader = _Reader(text)
    steps = tuple(_steps(reader))
    for step in steps:
        if step.name not in SAFE:
            raise _refused(step.name)
    return steps


def deinterlacer_of(text: str) -> str | None:
    """The first filter of a graph that deinterlaces, by its name; None if there is none."""
    return next((step.name for step in parse_graph(text) if step.name in _DEINTERLACERS), None)


def check_built_in(steps: Iterable[FilterStep]) -> None:
    """Raise `MisuseError` if this FFmpeg was built without one of the filters."""
    for step in steps:
        if not _is_built_in(step.name):
            raise _refused(step.name)


def _is_built_in(name: str) -> bool:
    from av.filter import filters_available

    return name in filters_available


def _refused(name: str) -> MisuseError:
    if not _is_built_in(name):
        likely = ", ".join(other for other in get_close_matches(name, SAFE, 3) if _is_built_in(other))
        why = "which this FFmpeg does not have" + (f" (it has {likely})" if likely else "")
    elif name in _OF_SOUND or (name.startswith("a") and name[1:] in SAFE | _ENDLESS):
        return MisuseError(
            f"--vf has the filter {name!r}, which is for sound: apply it to OUTPUT, with ffmpeg -c:v copy -af ..."
        )
    elif name in _ENDLESS:
        why = "which keeps the whole video in memory, or does not end with it"
    else:
        why = "which may read other files, or is none of pictures"
    return MisuseError(
        f"--vf has the filter {name!r}, {why}: apply it before, e.g. ffmpeg -i old.mkv -vf ... -f nut -c:v ffv1 "
        "-c:a copy - | swiftvr-run - new.mkv"
    )


def _steps(reader: _Reader) -> Iterator[FilterStep]:
    follows = False
    while True:
        inputs = tuple(reader.labels())
        name = reader.token("=,;[]")
        if not name:
            raise reader.error()
        arguments = reader.token("[],;") if reader.skip("=") else ""
        yield FilterStep(name.split("@")[0], arguments, inputs, tuple(reader.labels()), follows)
        if reader.at_end:
            return
        follows = reader.skip(",")
        if not (follows or reader.skip(";")):
            raise reader.error()


class _Reader:
    """Takes a text apart from its beginning."""

    def __init__(self, text: str) -> None:
        self._text, self._place = text, 0
        self._skip_space()

    @property
    def at_end(self) -> bool:
        return self._place == len(self._text)

    def _skip_space(self) -> None:
        while not self.at_end and self._text[self._place] in _SPACE:
            self._place += 1

    def skip(self, mark: str) -> bool:
        """Go beyond a mark, if it is the next character."""
        found = self._text.startswith(mark, self._place)
        if found:
            self._place += len(mark)
            self._skip_space()
        return found

    def labels(self) -> Iterator[str]:
        while self.skip("["):
            label = self.token("]")
            if not label or not self.skip("]"):
                raise self.error()
            yield label

    def token(self, ends: str) -> str:
        """The text up to one of these characters, without quotes, backslashes and space around it."""
        letters: list[str] = []
        kept = 0  # letters up to here are protected: space at their end stays
        while not self.at_end and self._text[self._place] not in ends:
            letter = self._text[self._place]
            self._place += 1
            if letter == "\\" and not self.at_end:
                letters.append(self._text[self._place])
                self._place += 1
                kept = len(letters)
            elif letter == "'":
                end = self._text.find("'", self._place)
                end = len(self._text) if end < 0 else end
                letters += self._text[self._place : end]
                self._place = min(end + 1, len(self._text))
                kept = len(letters)
            else:
                letters.append(letter)
        while len(letters) > kept and letters[-1] in _SPACE:
            letters.pop()
        return "".join(letters)

    def error(self) -> MisuseError:
        shown = repr(self._text[self._place : self._place + 20]) if not self.at_end else "its end"
        why = f", which is no filter graph at {shown}" if self._text.strip() else ""
        return MisuseError(
            f"--vf is {self._text!r}{why}, expected filters as in ffmpeg's -vf, e.g. nlmeans,crop=iw-16:ih"
        )


@dataclass(frozen=True)
class Link:
    """An output of a step and the input that it leads to; both by their numbers. None: of the whole graph."""

    source: tuple[int, int] | None
    target: tuple[int, int] | None


def links(steps: Iterable[FilterStep], pads: Iterable[tuple[int, int]]) -> list[Link]:
    """How the steps of a graph are joined. pads: the number of inputs and outputs of each step.

    Raises `MisuseError` if the graph does not have one input and one output.
    """
    found: list[Link] = []
    sinks: dict[str, tuple[int, int]] = {}  # labels that lead into a filter before they come out of one
    sources: dict[str, tuple[int, int]] = {}
    entries: list[tuple[int, int]] = []
    loose: list[tuple[int, int]] = []
    exits: list[tuple[int, int]] = []
    for number, (step, (takes, gives)) in enumerate(zip(steps, pads, strict=True)):
        if not step.follows:
            exits, loose = exits + loose, []
        for pad in range(takes):
            here = (number, pad)
            if pad < len(step.inputs):
                label = step.inputs[pad]
                if label in sources:
                    found.append(Link(sources.pop(label), here))
                else:
                    sinks[label] = here
            elif loose:
                found.append(Link(loose.pop(0), here))
            else:
                entries.append(here)
        for pad in range(gives):
            label = step.outputs[pad] if pad < len(step.outputs) else ""
            if label in sinks:
                found.append(Link((number, pad), sinks.pop(label)))
            elif label:
                sources[label] = (number, pad)
            else:
                loose.append((number, pad))
    entries += sinks.values()
    exits += [*loose, *sources.values()]
    if len(entries) != 1 or len(exits) != 1:
        raise MisuseError(
            f"--vf has {counted(len(entries), 'open input')} and {counted(len(exits), 'open output')}, expected one of "
            "each: one video goes through it"
        )
    return [Link(None, entries[0]), *found, Link(exits[0], None)]
