"""Finds what there is to restore: what the named files and folders hold, and where each output will be.

A folder that holds videos stands for these videos. Otherwise, a folder that holds pictures is one input, a sequence of
frames. Everything else is left out and counted.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from ...errors import MediaError, MisuseError
from ...text import counted
from ..media.image_names import about_pattern, but_unread, conversion, is_image, is_other_image
from ..media.images_in import natural_key
from ..media.pipes import input_name, is_standard_input

VIDEO_SUFFIXES = (
    ".3g2", ".3gp", ".amv", ".apng", ".apv", ".asf", ".av1", ".avc", ".avi", ".avs2", ".avs3", ".bik", ".bmv",
    ".cavs", ".cdxl", ".cpk", ".dav", ".dif", ".divx", ".dnxhd", ".dnxhr", ".drc", ".dv", ".dvr-ms", ".evc", ".f4v",
    ".flc", ".fli", ".flm", ".flv", ".gif", ".gxf", ".h261", ".h263", ".h264", ".h265", ".h266", ".h26l", ".hevc",
    ".ifv", ".ipu", ".ism", ".ismv", ".ivf", ".ivr", ".kux", ".lvf", ".m1v", ".m2p", ".m2t", ".m2ts", ".m2v",
    ".m4v", ".mj2", ".mjpeg", ".mjpg", ".mk3d", ".mkv", ".mlv", ".mod", ".moflex", ".mov", ".mp4", ".mpe", ".mpeg",
    ".mpg", ".mpv", ".mts", ".mvi", ".mxf", ".mxg", ".nsv", ".nut", ".nuv", ".obu", ".ogm", ".ogv", ".pdv", ".psp",
    ".pva", ".qt", ".r3d", ".rcv", ".rm", ".rmvb", ".roq", ".ser", ".sga", ".smk", ".swf", ".tod", ".tp", ".trp",
    ".ts", ".usm", ".v210", ".vc1", ".vc2", ".viv", ".vob", ".vro", ".vvc", ".webm", ".wmv", ".wtv", ".xmv",
    ".xvid", ".y4m", ".yop", ".264", ".265", ".266",
)  # fmt: skip
"""What counts as a video in a folder. A file that is named itself may have any suffix."""

_NAMED = 3
"""Files that a message names; it only counts the others."""


@dataclass(frozen=True)
class Input:
    """A video, a picture, or a folder of pictures. place: of its output in the output folder, with the same suffix."""

    path: Path
    place: PurePath

    @classmethod
    def named(cls, path: Path) -> Input:
        """An input whose output keeps its name."""
        return cls(path, PurePath(_name(path)))


@dataclass(frozen=True)
class Inputs:
    """What was found.

    found       in natural order
    is_batch    the output is a folder with an output for each
    notes       files that are neither videos nor pictures
    warnings    videos, pictures and folders that are left out
    """

    found: tuple[Input, ...]
    is_batch: bool
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def find_inputs(sources: Sequence[Path], output: str, *, recursive: bool = False, batch: bool = False) -> Inputs:
    """Look into the folders among `sources`.

    output: as typed. Its name decides about a folder that holds both: pictures become a video, or the videos are
    restored. An output folder among the inputs is left out. recursive: also look into the folders in folders, and keep
    their structure. batch: the output is a folder with an output for each, even if there is only one.
    Raises `MediaError` if a source is missing or a folder holds nothing, `MisuseError` if outputs would mix.
    """
    for source in sources:
        if not (is_standard_input(source) or source.exists()):
            raise MediaError(
                f"the input {source} does not exist, expected a video or a folder of videos or images"
                f"{about_pattern(source)}"
            )
    search = _Search(recursive, Path(os.path.realpath(output)), prefers_pictures=_names_a_file(output))
    alone = len(sources) == 1
    found: list[Input] = []
    for source in sources:
        held = search.inputs(source, PurePath() if alone and source.is_dir() else PurePath(_name(source)))
        if not held:
            remedy = conversion(search.unread) if search.unread else "name another folder"
            but = but_unread(search.unread)
            raise MediaError(f"{source} and the folders in it hold no videos and no pictures{but}: {remedy}")
        found += held
    if alone and found[0].path == sources[0]:
        return search.result([Input.named(sources[0])], is_batch=batch)
    return search.result(found, is_batch=True)


class _Search:
    """Looks into folders, and remembers what it leaves out."""

    def __init__(self, recursive: bool, output: Path, *, prefers_pictures: bool) -> None:
        self._recursive, self._output, self._prefers_pictures = recursive, output, prefers_pictures
        self._seen: set[Path] = set()
        self.unread: list[Path] = []  # pictures
        self._others: list[str] = []
        self._warnings: list[str] = []

    def result(self, found: Sequence[Input], *, is_batch: bool) -> Inputs:
        """What was found, with what was left out."""
        names = self._others
        kinds = {"neither video nor picture": False, "hidden": True}
        notes = tuple(
            f"{counted(len(others), 'file')} left out, {why}: {_listed(others)}"
            for why, hidden in kinds.items()
            if (others := [name for name in names if name.startswith(".") is hidden])
        )
        return Inputs(tuple(found), is_batch, notes, tuple(self._warnings))

    def inputs(self, path: Path, place: PurePath) -> list[Input]:
        """What there is to restore at `path`. place: of its output; of a folder, that of the outputs within."""
        if not path.is_dir():
            return [Input(path, place)]
        self._seen.add(path.resolve())
        held = _Content.of(path)
        self._others += [file.name for file in held.others]
        self.unread += held.unread
        if held.unread and (held.pictures or held.videos or self._recursive):  # else they are why the folder fails
            self._leave_out(path, held.unread, "picture", f"their format is not read; {conversion(held.unread)}")
        within = self._within(path, place, held.folders)
        if held.pictures and (not held.videos or self._prefers_pictures):
            if within:
                raise MisuseError(
                    f"{path} holds pictures, and folders in it hold more to restore, expected one or the other: "
                    "restore it without --recursive, and its folders by themselves"
                )
            self._leave_out(path, held.videos, "video", "to restore videos, name a folder as OUTPUT")
            return [Input(path, place)]
        self._leave_out(path, held.pictures, "picture", "to restore pictures, put them into a folder of their own")
        found = [Input(file, place / file.name) for file in held.videos] + within
        # Without --recursive, an empty folder was named by the user. It will fail, but other inputs need not.
        return found if found or self._recursive else [Input(path, place)]

    def _within(self, path: Path, place: PurePath, folders: Sequence[Path]) -> list[Input]:
        """What there is to restore in the folders of a folder. Without `recursive`, nothing, but a warning."""
        folders = [folder for folder in folders if self._is_input(folder)]
        if self._recursive:
            return [each for folder in folders for each in self.inputs(folder, place / folder.name)]
        self._leave_out(path, [folder for folder in folders if _holds_media(folder)], "folder", "add --recursive")
        return []

    def _is_input(self, folder: Path) -> bool:
        """False for the output folder, and for a folder that was visited already, which links can bring about."""
        place = folder.resolve()
        return place not in self._seen and place != self._output

    def _leave_out(self, folder: Path, paths: Sequence[Path], kind: str, remedy: str) -> None:
        if paths:
            names = _listed([path.name for path in paths])
            self._warnings.append(f"{counted(len(paths), kind)} in {folder} left out ({names}): {remedy}")


@dataclass(frozen=True)
class _Content:
    """What a folder holds, each kind in natural order. unread: pictures in other formats. Hidden files are `others`."""

    folders: tuple[Path, ...]
    videos: tuple[Path, ...]
    pictures: tuple[Path, ...]
    unread: tuple[Path, ...]
    others: tuple[Path, ...]

    @classmethod
    def of(cls, folder: Path) -> _Content:
        """Look into a folder. Raises `MediaError` if it cannot be read."""
        kinds: dict[str, list[Path]] = {"folder": [], "video": [], "picture": [], "unread": [], "other": []}
        try:
            for path in sorted(folder.iterdir(), key=lambda path: natural_key(path.name)):
                kinds[_kind(path)].append(path)
        except OSError as error:
            raise MediaError(f"the folder {folder} cannot be read: {error.strerror or error}") from error
        return cls(*(tuple(paths) for paths in kinds.values()))


def _kind(path: Path) -> str:
    hidden = path.name.startswith(".")
    if path.is_dir():
        return "other" if hidden else "folder"
    if hidden or not path.is_file():
        return "other"
    if is_image(path):
        return "picture"
    if is_other_image(path):
        return "unread"
    return "video" if path.suffix.lower() in VIDEO_SUFFIXES else "other"


def _holds_media(folder: Path) -> bool:
    """Whether there is a video or a picture in a folder, or in the folders in it."""
    kinds = (_kind(Path(place, name)) for place, _, names in os.walk(folder) for name in names)
    return any(kind in ("video", "picture", "unread") for kind in kinds)


def _names_a_file(output: str) -> bool:
    """Whether an output, as typed, is a file."""
    return not output.endswith(("/", "\\")) and bool(Path(output).suffix) and not Path(output).is_dir()


def _name(path: Path) -> str:
    return Path(input_name(path)).name or path.resolve().name


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
