// One person, or one shared screen.

import type { Room } from "@antiphon/client";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Avatar } from "./avatar.js";
import { MicOff, Pin, Screen, Unpin } from "./icons.js";
import type { Rect } from "./layout.js";
import type { SlotVideos } from "./slot-videos.js";
import type { Tile } from "./tiles.js";

/** A slot that gets no new picture by then shows what it has. */
const NEW_PICTURE_WAIT_MS = 1_000;

interface TileViewProps {
  room: Room;
  tile: Tile;
  videos: SlotVideos;
  rect: Rect;
  large: boolean;
  onPin: (key: string | undefined) => void;
}

export function TileView({ room, tile, videos, rect, large, onPin }: TileViewProps) {
  const { participant, source, self } = tile;
  useEffect(() => {
    if (self) return;
    room.setTileHeight(participant, source, Math.round(rect.height * window.devicePixelRatio));
  }, [participant, source, self, Math.round(rect.height)]);
  useEffect(() => () => room.setTileHeight(participant, source, undefined), [participant, source]);

  const what = source === "screen" ? `${tile.name}'s screen` : self ? `${tile.name} (you)` : tile.name;
  const track = tile.stream?.getVideoTracks()[0];
  const label = source === "screen" ? what : `Camera of ${tile.name}`;
  return (
    <li
      class="tile"
      data-testid="tile"
      data-participant={participant}
      data-source={source}
      data-self={self}
      data-speaking={tile.speaking}
      data-dominant={tile.dominant}
      data-reconnecting={tile.reconnecting}
      data-large={large}
      data-bot={tile.bot}
      style={{
        transform: `translate(${rect.x}px, ${rect.y}px)`,
        width: `${rect.width}px`,
        height: `${rect.height}px`,
        "--avatar": `${Math.round(Math.min(rect.width, rect.height) * 0.34)}px`,
      }}
    >
      {tile.stream && self && <OwnPicture tile={tile} label={label} />}
      {track && !self && <Picture tile={tile} track={track} videos={videos} label={label} />}
      {!tile.stream && (
        <div class="tile-empty">
          <Avatar name={tile.name} id={participant} bot={tile.bot} />
        </div>
      )}
      <div class="tile-label">
        {source === "screen" ? (
          <Screen size={15} />
        ) : (
          tile.silent && (
            <span class="tile-muted" data-testid="muted">
              <MicOff size={15} />
              <span class="hidden">Microphone off:</span>
            </span>
          )
        )}
        <span class="tile-name">{what}</span>
        {tile.speaking && <span class="hidden">, speaking</span>}
        {tile.reconnecting && (
          <span class="tile-lost" title="Reconnecting">
            <span class="spinner" aria-hidden="true" />
            <span class="hidden">, reconnecting</span>
          </span>
        )}
      </div>
      <button
        type="button"
        class="pin-button"
        aria-pressed={tile.pinned}
        aria-label={`Pin ${what}`}
        title={tile.pinned ? "Back to the grid" : "Show large"}
        onClick={() => onPin(tile.pinned ? undefined : tile.key)}
      >
        {tile.pinned ? <Unpin size={17} /> : <Pin size={17} />}
      </button>
    </li>
  );
}

/** One's own camera. */
function OwnPicture({ tile, label }: { tile: Tile; label: string }) {
  const ref = useRef<HTMLVideoElement>(null);
  useLayoutEffect(() => {
    if (ref.current) ref.current.srcObject = tile.stream ?? null;
  }, [tile.stream]);
  return <video ref={ref} autoPlay playsInline muted aria-label={label} class="mirrored" />;
}

interface PictureProps {
  tile: Tile;
  track: MediaStreamTrack;
  videos: SlotVideos;
  label: string;
}

/** The slot's video; hidden until its first picture is this participant's and not that of who stood in it before. */
function Picture({ tile, track, videos, label }: PictureProps) {
  const ref = useRef<HTMLDivElement>(null);
  const video = useRef<HTMLVideoElement | undefined>(undefined);
  const [fresh, setFresh] = useState(false);
  useLayoutEffect(() => {
    const place = ref.current;
    if (!place) return;
    video.current = videos.take(track, place);
    return () => videos.park(track, place);
  }, [track]);
  useLayoutEffect(() => {
    setFresh(false);
    return video.current && whenFresh(video.current, videos.seen(track), tile.rtpTime, () => setFresh(true));
  }, [track, tile.rtpTime]);
  useLayoutEffect(() => {
    video.current?.setAttribute("aria-label", label);
    video.current?.setAttribute("data-fresh", String(fresh));
  });
  return (
    <>
      {!fresh && (
        <div class="tile-empty">
          <Avatar name={tile.name} id={tile.participant} bot={tile.bot} />
        </div>
      )}
      <div class="tile-picture" ref={ref} />
    </>
  );
}

/** Calls `done` at the first picture at or after `rtpTime`, `seen` being one that is there; returns what cancels it. */
function whenFresh(
  video: HTMLVideoElement,
  seen: number | undefined,
  rtpTime: number | undefined,
  done: () => void,
): () => void {
  let over = false;
  const finish = () => {
    if (!over) done();
    over = true;
  };
  // RTP time is 32 bit and wraps: later means less than half the circle ahead.
  const isNew = (at: number) => rtpTime === undefined || (at - rtpTime) >>> 0 < 0x8000_0000;
  const check = (_now: number, { rtpTimestamp }: VideoFrameCallbackMetadata) => {
    if (rtpTimestamp === undefined || isNew(rtpTimestamp)) finish();
    else if (!over) video.requestVideoFrameCallback(check);
  };
  if (seen !== undefined && isNew(seen)) finish();
  else if ("requestVideoFrameCallback" in video) video.requestVideoFrameCallback(check);
  else (video as HTMLVideoElement).addEventListener("loadeddata", finish, { once: true });
  const timer = setTimeout(() => {
    if (video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA) finish();
    else video.addEventListener("loadeddata", finish, { once: true });
  }, NEW_PICTURE_WAIT_MS);
  return () => {
    over = true;
    clearTimeout(timer);
  };
}
