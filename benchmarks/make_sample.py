"""Cut the sample clip and make it look like a noisy capture: smaller, with noise in luma and colours. Sound is copied.

python -m benchmarks.make_sample bigbuckbunny_720p.mp4 export/sample.mp4 docs/demo/sample-clean.jpg

The second output is a frame at twice the size of the sample, as it was before: what restoring it should come close to.
"""

from __future__ import annotations

from pathlib import Path

import av
import click
import numpy as np

from swiftvr_trt.runtime.media.colour import converted

from .demo.degrade import Noise, add_noise
from .make_demo import FRAME
from .pictures import Picture, write_picture

WIDTH, HEIGHT = 320, 180
BEGIN, FRAMES = 20, 40
NOISE, CRF, SEED = Noise(luma=20, colour=20), "14", 11
"""Those of `noisy` in `quality.py`."""


@click.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.argument("clean", type=click.Path(path_type=Path))
def main(source: Path, output: Path, clean: Path) -> None:
    """Write the sample clip, and one clean frame."""
    random = np.random.default_rng(SEED)
    with av.open(source) as before, av.open(output, "w") as after:
        video, sound = before.streams.video[0], before.streams.audio[0]
        rate = video.average_rate
        if rate is None:
            raise click.ClickException(f"{source} does not say its frame rate")
        encoder = after.add_stream("libx264", rate=rate, options={"crf": CRF, "preset": "medium"})
        encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        copied = after.add_stream_from_template(sound)
        seconds = [BEGIN / rate, (BEGIN + FRAMES) / rate]
        first = None
        for packet in before.demux(video, sound):
            if packet.stream is sound:
                if packet.pts is not None and seconds[0] <= packet.pts * packet.time_base < seconds[1]:
                    first = packet.pts if first is None else first
                    packet.pts, packet.dts = packet.pts - first, packet.pts - first
                    packet.stream = copied
                    after.mux(packet)
                continue
            for frame in video.decode(packet):
                index = round((frame.time or 0.0) * float(rate)) - BEGIN
                if 0 <= index < FRAMES:
                    small = _shrunk(frame, WIDTH, HEIGHT)
                    noisy = add_noise(small[None].astype(np.float32), NOISE, random)[0]
                    new = av.VideoFrame.from_ndarray(np.ascontiguousarray(noisy), format="rgb24")
                    new = converted(new, format="yuv420p")
                    new.pts, new.time_base = index, 1 / rate
                    after.mux(encoder.encode(new))
                if index == FRAME:
                    write_picture(clean, _shrunk(frame, 2 * WIDTH, 2 * HEIGHT))
        after.mux(encoder.encode(None))


def _shrunk(frame: av.VideoFrame, width: int, height: int) -> Picture:
    rgb = converted(frame, width=width, height=height, format="rgb24", interpolation="AREA")
    return rgb.to_ndarray().astype(np.uint8, copy=False)


if __name__ == "__main__":
    main()
