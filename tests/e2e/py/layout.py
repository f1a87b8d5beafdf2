"""Renders a layout of a recording from what is kept of it and nothing else: `layout.py FOLDER OUT.webm`.

FOLDER has `timeline.json`, and of each participant `ID.webm`, the camera. Five times a second those who were there then
stand side by side, who leads the conversation first. Prints of each moment who stands where, and the number that its
picture shows.
"""

import json
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import synth

WIDTH, HEIGHT, FPS = 320, 180, 5


def pictures(path: Path) -> list[tuple[float, np.ndarray]]:
    """All pictures of a track with their times on the axis of the recording."""
    with av.open(str(path)) as file:
        frames = file.decode(video=0)
        return [(f.time * 1000, f.reformat(WIDTH, HEIGHT).to_ndarray(format="rgb24")) for f in frames]


def main() -> None:
    folder, out = Path(sys.argv[1]), sys.argv[2]
    timeline = json.loads((folder / "timeline.json").read_text())
    cameras = {t["participant"] for t in timeline["tracks"] if t["source"] == "camera"}
    tracks = {who: pictures(folder / f"{who}.webm") for who in cameras}
    end_ms = next(e["at_ms"] for e in timeline["events"] if e["event"] == "stopped")
    events = iter(timeline["events"])
    event = next(events)
    there: set[str] = set()
    dominant: list[str] = []
    laid = []
    with av.open(out, "w") as file:
        stream = file.add_stream("libvpx", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 2 * WIDTH, HEIGHT, "yuv420p"
        for n in range(end_ms * FPS // 1000):
            at_ms = n * 1000 / FPS
            while event and event["at_ms"] <= at_ms:
                if event["event"] == "participant_joined":
                    there.add(event["participant"])
                elif event["event"] == "participant_left":
                    there.discard(event["participant"])
                elif event["event"] == "dominant":
                    dominant = event["participants"]
                event = next(events, None)
            shown = sorted(there & cameras, key=lambda who: (who not in dominant, who))
            grid = np.zeros((HEIGHT, 2 * WIDTH, 3), np.uint8)
            cells = []
            for place, who in enumerate(shown[:2]):
                before = [picture for time_ms, picture in tracks[who] if time_ms <= at_ms]
                if before:
                    grid[:, place * WIDTH : (place + 1) * WIDTH] = before[-1]
                    cells.append({"participant": who, "number": synth.read_number(before[-1])})
            laid.append({"at_ms": at_ms, "cells": cells})
            frame = av.VideoFrame.from_ndarray(grid, format="rgb24")
            frame.pts, frame.time_base = n, Fraction(1, FPS)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    print(json.dumps(laid))


if __name__ == "__main__":
    main()
