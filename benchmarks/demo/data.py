"""Make clips with a known clean picture: half from photographs that are set in motion, half from real video.

A photograph is shrunk until it is sharp. A camera with a smooth random path (sub-pixel shifts, zoom, rotation, shake)
films it. In a third of these clips a second photograph moves in front, cut out with a soft edge, so that things get
uncovered. A clip of video is a part of it, shrunk up to fourfold. Real video is needed because photographs move as a
whole: a network that has seen nothing else mistakes the motion of real things for noise. `degrade.py` damages the
clips. They are written as

    DIR/00012.hr.npy   uint8 [24, H, W, 3]        clean
    DIR/00012.mr.npy   uint8 [24, H/2, W/2, 3]    blurred and halved
    DIR/00012.lr0.npy  uint8 [24, H/2, W/2, 3]    then made noisy and encoded; lr1 is another version

    python -m benchmarks.demo.data --photos PHOTOS --videos VIDEOS --out CLIPS

Clip number k depends only on the photographs, the videos and k, so several processes can share the work (--start,
--step). Even numbers are photographs.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from benchmarks.metrics import as_clip
from swiftvr_trt.runtime.media.colour import converted

from . import degrade

if TYPE_CHECKING:
    from PIL import Image

Frames = NDArray[np.uint8]

CLIP_FRAMES = 24
SIDE = 256
VERSIONS = 2
"""Damaged versions of each clip. Most parts that are trained on get new noise instead (`sample.py`)."""
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_MIN_BYTES = 100_000
_LONGEST = 3000
_MOST_FRAMES = 300
_VIDEOS = {
    "VID_20191220_170832.mp4",
    "balle-jbart.mp4",
    "birds.mp4",
    "cityCC0.mpg",
    "cockatoo.mp4",
    "movie-hello.avi",
    "movie-hello.mp4",
    "movie.mp4",
    "vtest.avi",
    "wannaworktogether.mp4",
}


def find_photos(root: Path) -> list[Path]:
    """The largest file of each directory of sizes, and every other picture, in a stable order."""
    found = sorted(p for p in root.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
    found = [p for p in found if not p.is_symlink() and p.stat().st_size >= _MIN_BYTES]
    sized: dict[Path, Path] = {}
    single: list[Path] = []
    for path in found:
        if path.parent.name.startswith("images"):
            best = sized.get(path.parent, path)
            sized[path.parent] = max(best, path, key=lambda p: p.stat().st_size)
        else:
            single.append(path)
    return sorted([*sized.values(), *single])


def load_photo(path: Path) -> Image.Image:
    """RGB, no side longer than `_LONGEST`."""
    from PIL import Image  # reading finished clips needs no Pillow

    Image.MAX_IMAGE_PIXELS = None
    file = Image.open(path)
    file.draft("RGB", (_LONGEST, _LONGEST))
    image = file.convert("RGB")
    image.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
    return image


class Photos:
    """The photographs of a directory, opened when first used. `texture` returns sharp, shrunk parts."""

    def __init__(self, root: Path) -> None:
        self.paths = find_photos(root)
        if not self.paths:
            raise SystemExit(f"{root}: no pictures found: unpack the packages that docs/demo-model.md names here")
        self._open: dict[int, Image.Image] = {}

    def texture(self, rng: np.random.Generator, height: int, width: int) -> torch.Tensor:
        """A part of a photograph, float32 [3, height, width] in 0 ... 255: mostly the most detailed of three tries."""
        tries = [self._part(rng, height, width) for _ in range(3)]
        best = max(tries, key=lambda part: float(np.abs(np.diff(part.astype(np.int16), axis=1)).mean()))
        pick = best if rng.random() < 0.8 else tries[0]
        if rng.random() < 0.5:
            pick = pick[:, ::-1]
        return torch.from_numpy(pick.astype(np.float32)).permute(2, 0, 1)

    def _part(self, rng: np.random.Generator, height: int, width: int) -> Frames:
        from PIL import Image

        index = int(rng.integers(len(self.paths)))
        if index not in self._open:
            self._open[index] = load_photo(self.paths[index])
        image = self._open[index]
        fit = min(image.width / width, image.height / height)
        factor = min(fit, float(np.exp(rng.uniform(np.log(1.3), np.log(6.0)))))
        side = (int(width * factor), int(height * factor))
        left = int(rng.integers(image.width - side[0] + 1))
        top = int(rng.integers(image.height - side[1] + 1))
        part = image.crop((left, top, left + side[0], top + side[1]))
        return np.asarray(part.resize((width, height), Image.Resampling.LANCZOS))


def camera_path(rng: np.random.Generator, frames: int) -> NDArray[np.float64]:
    """float64 [frames, 4]: shift x, shift y (pixels), log zoom, angle (radians), zero in the middle of the clip."""
    time = np.arange(frames) - frames / 2
    still = rng.random() < 0.15
    speed = 0.0 if still else float(rng.gamma(1.4, 1.3))
    heading = rng.uniform(0, 2 * np.pi)
    path = np.zeros((frames, 4))
    path[:, 0] = np.cos(heading) * speed * time
    path[:, 1] = np.sin(heading) * speed * time
    if still:
        return path
    path[:, 2] = time * rng.normal(0, 0.004) * (rng.random() < 0.5)
    path[:, 3] = time * rng.normal(0, 0.004) * (rng.random() < 0.5)
    shake = np.cumsum(rng.normal(0, 0.35, (frames, 2)), axis=0) * (rng.random() < 0.4)
    path[:, :2] += shake - shake[frames // 2] + 3 * np.sin(time / rng.uniform(3, 12))[:, None] * (rng.random() < 0.3)
    limit = 60.0
    path[:, :2] = np.clip(path[:, :2], -limit, limit)
    return path


def look(texture: torch.Tensor, path: NDArray[np.float64], height: int, width: int) -> torch.Tensor:
    """Film `texture` [C, h, w]: frames [T, C, height, width], about one texel per pixel."""
    h, w = texture.shape[1:]
    ys, xs = torch.meshgrid(
        torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij"
    )
    grids = []
    for dx, dy, zoom, angle in path:
        cos, sin = np.cos(angle) * np.exp(zoom), np.sin(angle) * np.exp(zoom)
        u, v = cos * xs - sin * ys + dx, sin * xs + cos * ys + dy
        grids.append(torch.stack([2 * u / w, 2 * v / h], dim=-1))
    grid = torch.stack(grids).float()
    source = texture[None].expand(len(path), -1, -1, -1)
    return F.grid_sample(source, grid, mode="bicubic", padding_mode="reflection", align_corners=False)


def blob(rng: np.random.Generator, height: int, width: int) -> torch.Tensor:
    """A soft-edged shape [1, height, width] in [0, 1]: low-frequency noise above a threshold, in a margin of zeros."""
    coarse = torch.from_numpy(rng.standard_normal((1, 1, 5, 5)).astype(np.float32))
    field = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)[0]
    edge = float(rng.uniform(0.02, 0.15))
    return torch.clamp((field - float(rng.uniform(0.0, 0.5))) / edge, 0, 1)


def render(photos: Photos, rng: np.random.Generator, height: int, width: int) -> Frames:
    """A clean clip, uint8 [CLIP_FRAMES, height, width, 3]."""
    margin = 48
    back = photos.texture(rng, height + margin, width + margin)
    clip = look(back, camera_path(rng, CLIP_FRAMES), height, width)
    if rng.random() < 0.35:
        front = photos.texture(rng, height + margin, width + margin)
        cut = torch.cat([front, blob(rng, height + margin, width + margin)])
        seen = look(cut, camera_path(rng, CLIP_FRAMES), height, width)
        alpha = seen[:, 3:].clamp(0, 1)
        clip = clip * (1 - alpha) + seen[:, :3] * alpha
    gain, lift = float(rng.uniform(0.7, 1.05)), float(rng.uniform(-15, 15))
    return as_clip(clip * gain + lift)


def is_video(number: int) -> bool:
    return number % 2 == 1


class Videos:
    """The videos of a directory, decoded when first used."""

    def __init__(self, root: Path) -> None:
        self.paths = sorted(p for p in root.rglob("*") if p.name in _VIDEOS)
        missing = _VIDEOS - {p.name for p in self.paths}
        if missing:
            raise SystemExit(f"{root}: no {sorted(missing)[0]}: unpack the packages that docs/demo-model.md names here")
        self._open: dict[Path, Frames] = {}

    def part(self, rng: np.random.Generator, height: int, width: int) -> Frames:
        """CLIP_FRAMES successive frames of a random part, shrunk up to fourfold, uint8 [T, height, width, 3]."""
        frames = self._frames(self.paths[int(rng.integers(len(self.paths)))])
        start = int(rng.integers(len(frames) - CLIP_FRAMES + 1))
        fit = min(frames.shape[1] / height, frames.shape[2] / width)
        factor = min(fit, float(np.exp(rng.uniform(0, np.log(4.0)))))
        side = (int(height * factor), int(width * factor))
        top, left = (int(rng.integers(frames.shape[1 + axis] - side[axis] + 1)) for axis in range(2))
        cut = frames[start : start + CLIP_FRAMES, top : top + side[0], left : left + side[1]]
        if side == (height, width):
            return np.ascontiguousarray(cut)
        x = torch.from_numpy(np.ascontiguousarray(cut)).permute(0, 3, 1, 2)
        return as_clip(F.interpolate(x.float(), (height, width), mode="bicubic", align_corners=False, antialias=True))

    def _frames(self, path: Path) -> Frames:
        if path not in self._open:
            with av.open(str(path)) as source:
                frames = itertools.islice(source.decode(video=0), _MOST_FRAMES)
                self._open[path] = np.stack([converted(frame, format="rgb24").to_ndarray() for frame in frames])
        return self._open[path]


def make_clip(photos: Photos, videos: Videos, number: int) -> tuple[Frames, Frames, list[Frames]]:
    """Clean and halved frames of clip `number`, and each version of the damaged ones."""
    rng = np.random.default_rng([21, number])
    clean = videos.part(rng, SIDE, SIDE) if is_video(number) else render(photos, rng, SIDE, SIDE)
    return clean, *damage(clean, number)


def damage(clean: Frames, number: int) -> tuple[Frames, list[Frames]]:
    """The halved frames of clip `number` and its damaged versions. The damage depends on the number only."""
    rng = np.random.default_rng([22, number])
    drawn = degrade.draw(rng)
    small = degrade.shrink(clean, drawn)
    halved: Frames = np.clip(np.rint(small), 0, 255).astype(np.uint8)
    versions = [degrade.spoil(small, drawn, rng)]
    for version in range(1, VERSIONS):
        rng = np.random.default_rng([22, number, version])
        versions.append(degrade.spoil(halved.astype(np.float32), degrade.draw(rng), rng))
    return halved, versions


def paths_of(root: Path, number: int, version: int = 0) -> tuple[Path, Path, Path]:
    """Files of the clean, the halved and the damaged frames."""
    high, middle, low = (root / f"{number:05d}.{kind}.npy" for kind in ("hr", "mr", f"lr{version}"))
    return high, middle, low


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="directory with unpacked packages of photographs")
    parser.add_argument("--videos", type=Path, required=True, help="directory with unpacked packages of videos")
    parser.add_argument("--out", type=Path, required=True, help="directory for the clips")
    parser.add_argument("--count", type=int, default=1000, help="clips in all (default %(default)s, about 8 GB)")
    parser.add_argument("--start", type=int, default=0, help="first clip number of this process")
    parser.add_argument("--step", type=int, default=1, help="distance to its next one")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    photos, videos = Photos(options.photos), Videos(options.videos)
    options.out.mkdir(parents=True, exist_ok=True)
    for number in range(options.start, options.count, options.step):
        high, middle, _ = paths_of(options.out, number)
        low = [paths_of(options.out, number, version)[2] for version in range(VERSIONS)]
        if low[-1].exists():  # it is written last
            continue
        clean, halved, damaged = make_clip(photos, videos, number)
        for path, clip in zip((high, middle, *low), (clean, halved, *damaged), strict=True):
            unfinished = path.with_suffix(".part")
            with unfinished.open("wb") as file:
                np.save(file, clip)
            unfinished.rename(path)


if __name__ == "__main__":
    main()
