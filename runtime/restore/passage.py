"""Decides whether frames stay in the memory of the GPU, from the decoder to the stream that restores them.

What comes out of the stream stays there if the encoder takes it, whichever way it went in.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...text import LineCallback
from ..media import Source
from ..media.surfaces import Residence
from ..media.trimmed import TrimmedVideo
from ..media.video_in import VideoSource
from ..stream.shrink import is_much_larger
from .restorer import Restorer


@dataclass(frozen=True)
class Passage:
    """What decides whether frames of a video stay on the GPU until they are restored.

    residence: of the video; None for images. tiled, divided_by_scenes: what the run does with frames. on_cpu: the CPU
    restores. shrunk: frames are so large that they are shrunk before they are buffered.
    """

    residence: Residence | None
    tiled: bool = False
    divided_by_scenes: bool = False
    on_cpu: bool = False
    shrunk: bool = False

    @property
    def hindrance(self) -> str | None:
        """Why they come to the host; None if they stay."""
        if self.residence is None:
            return "images are decoded in software"
        if self.on_cpu:
            return "the CPU restores them"
        if self.tiled:
            return "they are restored in tiles"
        if self.divided_by_scenes:
            return "--scene-cut reset looks at them"
        if self.shrunk:
            return "they are much larger than the output, and are shrunk first"
        return self.residence.hindrance


def keep_on_gpu(source: Source, restorer: Restorer, say: LineCallback, *, tiled: bool, divided_by_scenes: bool) -> None:
    """Let the frames of a video stay on the GPU that decodes it; `say` gets a line if they cannot.

    source: open and not read yet, opened with `surfaces`.
    """
    video = source if isinstance(source, VideoSource | TrimmedVideo) else None
    recipe, info = restorer.manifest.recipe, source.info
    passage = Passage(
        None if video is None else video.residence,
        tiled,
        divided_by_scenes,
        not restorer.surfaces,
        not recipe.parity and is_much_larger((info.height, info.width), (recipe.height, recipe.width)),
    )
    if passage.hindrance is not None:
        say(f"frames go through the host: {passage.hindrance}")
    elif video is not None:
        video.keep_on_gpu()
