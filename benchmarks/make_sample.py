"""Cut the sample clip and make it look like an old video: smaller, noisy and compressed. The sound is copied.

python -m benchmarks.make_sample bigbuckbunny_720p.mp4 export/sample.mp4
"""

from __future__ import annotations

from pathlib import Path

import av
import click
import numpy as np

WIDTH, HEIGHT = 320, 180
BEGIN, FRAMES = 20, 50
NOISE, CRF, SEED = 4.0, "30", 11


@click.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
def main(source: Path, output: Path) -> None:
    """Write the sample clip."""
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
                index = round((frame.time or 0.0) * float(rate))
                if BEGIN <= index < BEGIN + FRAMES:
                    small = frame.reformat(WIDTH, HEIGHT, "rgb24", interpolation="AREA").to_ndarray()
                    noisy = small + random.normal(0, NOISE, small.shape)
                    pixels = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
                    new = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                    new.pts, new.time_base = index - BEGIN, 1 / rate
                    after.mux(encoder.encode(new))
        after.mux(encoder.encode(None))


if __name__ == "__main__":
    main()
