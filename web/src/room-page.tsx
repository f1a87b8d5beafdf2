// In the room: header, stage, people, controls.

import type { ConnectionState, Room } from "@antiphon/client";
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { AudioOutput } from "./audio.js";
import { CopyLink } from "./copy-link.js";
import { useMedia, useRoom, useShortcuts, useSize } from "./hooks.js";
import { Alert, Logo, Screen, Settings as SettingsIcon } from "./icons.js";
import { grid, type Rect, stage } from "./layout.js";
import type { LocalMedia } from "./media.js";
import { People } from "./people.js";
import type { Place } from "./place.js";
import { loadPreferences, savePreferences } from "./preferences.js";
import { RecordingAsk, RecordingControl, RecordingSign } from "./recording.js";
import { useOwnTracks, useRoomNotices, useScreenShare } from "./room-effects.js";
import { Settings } from "./settings.js";
import type { SlotVideos } from "./slot-videos.js";
import { TileView } from "./tile.js";
import { stageKey, type Tile, tilesOf } from "./tiles.js";
import { type Notify, Toasts, useToasts } from "./toasts.js";
import { Toolbar } from "./toolbar.js";
import { sentenceForLimits } from "./words.js";

/** From this width on the list of people is open from the start. */
const WIDE = 1100;

const STATE_WORDS: Record<ConnectionState, string> = {
  joining: "Joining…",
  connected: "Connected",
  reconnecting: "Reconnecting…",
  closed: "Closed",
};

interface RoomPageProps {
  room: Room;
  media: LocalMedia;
  videos: SlotVideos;
  place: Place;
}

export function RoomPage({ room, media, videos, place }: RoomPageProps) {
  useRoom(room);
  const { microphone, camera } = useMedia(media);
  const { toasts, notify, dismiss } = useToasts();
  const [pinned, setPinned] = useState<string | undefined>(undefined);
  const [people, setPeople] = useState(() => ({
    open: loadPreferences().people ?? window.innerWidth >= WIDE,
    byUser: false,
  }));
  const [settingsOpen, setSettingsOpen] = useState(false);
  const [shortcuts, setShortcuts] = useState(loadPreferences().shortcuts);
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus(), []);
  const { sharing, toggleScreen, canShare } = useScreenShare(room, notify);
  useOwnTracks(room, media, notify);
  useRoomNotices(room, media, notify);

  const togglePeople = () => {
    const open = !people.open;
    setPeople({ open, byUser: true });
    if (window.innerWidth >= WIDE) savePreferences({ people: open });
    if (!open) document.querySelector<HTMLElement>("[data-testid=people-toggle]")?.focus();
  };
  const pin = useCallback((key: string | undefined) => {
    setPinned(key);
    const [participant, source] = key?.split("/") ?? [];
    room.updatePolicy({
      pins: participant ? [{ participant, source: source === "screen" ? "screen" : "camera" }] : undefined,
    });
  }, []);
  useShortcuts(shortcuts, key => {
    if (key === "m") media.turn("microphone", !media.microphone.on || !media.microphone.track);
    else if (key === "v") media.turn("camera", !media.camera.on || !media.camera.track);
    else if (key === "s" && canShare) toggleScreen();
    else if (key === "p") togglePeople();
    else return false;
    return true;
  });

  return (
    <div class="room" data-people={people.open}>
      <header class="room-header">
        <Logo />
        <h1 ref={heading} tabIndex={-1} title={place.room}>
          {place.room}
        </h1>
        <ConnectionMark state={room.state} />
        <RecordingSign recording={room.recording} />
        <span class="spacer" />
        <RecordingControl room={room} place={place} notify={notify} />
        <CopyLink place={place} notify={notify} testId="copy-link" class="header-button" />
        <button
          type="button"
          class="header-button icon-only"
          data-testid="settings-button"
          aria-label="Settings"
          title="Settings"
          onClick={() => setSettingsOpen(true)}
        >
          <SettingsIcon size={20} />
        </button>
      </header>
      <main class="room-main">
        <h2 class="hidden">Participants</h2>
        {room.state === "reconnecting" && (
          <div class="banner banner-warning" role="status">
            <span class="spinner" aria-hidden="true" />
            The connection was lost. Bringing you back…
          </div>
        )}
        {room.limits && room.state === "connected" && (
          <div class="banner banner-warning" role="status" data-testid="limits">
            <Alert size={18} />
            <span>{sentenceForLimits(room.limits)}</span>
          </div>
        )}
        {sharing && (
          <div class="banner">
            <Screen size={18} />
            <span>Everyone sees your screen.</span>
            <button type="button" class="banner-button" onClick={toggleScreen}>
              Stop sharing
            </button>
          </div>
        )}
        <AudioOutput room={room} />
        <Stage
          room={room}
          media={media}
          videos={videos}
          place={place}
          pinned={pinned}
          onPin={pin}
          notify={notify}
        />
      </main>
      {people.open && (
        <People room={room} pinned={pinned} focus={people.byUser} onPin={pin} onClose={togglePeople} />
      )}
      <Toolbar
        microphone={microphone}
        camera={camera}
        sharing={sharing}
        canShare={canShare}
        peopleOpen={people.open}
        peopleCount={room.participants.size}
        shortcuts={shortcuts}
        onMicrophone={() => media.turn("microphone", !microphone.on || !microphone.track)}
        onCamera={() => media.turn("camera", !camera.on || !camera.track)}
        onScreen={toggleScreen}
        onPeople={togglePeople}
        onLeave={() => room.leave()}
      />
      <Toasts toasts={toasts} dismiss={dismiss} />
      <RecordingAsk room={room} notify={notify} />
      {settingsOpen && (
        <Settings
          room={room}
          media={media}
          shortcuts={shortcuts}
          onShortcuts={on => {
            setShortcuts(on);
            savePreferences({ shortcuts: on });
          }}
          notify={notify}
          onClose={() => setSettingsOpen(false)}
        />
      )}
    </div>
  );
}

function ConnectionMark({ state }: { state: ConnectionState }) {
  return (
    <span class="connection" data-testid="connection-state" data-state={state}>
      <span class="connection-dot" aria-hidden="true" />
      <span class="connection-word">{STATE_WORDS[state]}</span>
    </span>
  );
}

interface StageProps extends RoomPageProps {
  pinned: string | undefined;
  onPin: (key: string | undefined) => void;
  notify: Notify;
}

function Stage({ room, media, videos, place, pinned, onPin, notify }: StageProps) {
  const [ref, size] = useSize<HTMLDivElement>();
  const ownTrack = media.camera.track;
  const ownCamera = useMemo(() => (ownTrack ? new MediaStream([ownTrack]) : undefined), [ownTrack]);
  const tiles = tilesOf(room, pinned, ownCamera);
  useLayoutEffect(() => videos.keep([...room.slots.values()].map(slot => slot.track)), [room.slots]);
  const onStage = stageKey(tiles);
  const alone = tiles.length <= 1 && room.state !== "reconnecting";
  const count = tiles.length + (alone ? 1 : 0);
  const { rects, hidden } = onStage
    ? stage(tiles.length, size.width, size.height)
    : grid(count, size.width, size.height);
  return (
    <div class="stage" ref={ref}>
      <ul class="tiles">
        {size.width > 0 &&
          visible(tiles, rects).map(([tile, rect], i) => (
            <TileView
              key={tile.key}
              room={room}
              tile={tile}
              videos={videos}
              rect={rect}
              large={onStage !== undefined && i === 0}
              onPin={onPin}
            />
          ))}
      </ul>
      {alone && !onStage && rects[1] && <Invite rect={rects[1]} place={place} notify={notify} />}
      {hidden > 0 && <More hidden={hidden} main={onStage ? rects[0] : undefined} />}
    </div>
  );
}

/** Tiles with their places; where there are fewer places than tiles, one's own gives way last. */
function visible(tiles: Tile[], rects: Rect[]): [Tile, Rect][] {
  const self = tiles[tiles.length - 1];
  const shown = tiles.length > rects.length && self ? [...tiles.slice(0, rects.length - 1), self] : tiles;
  return shown.flatMap((tile, i): [Tile, Rect][] => {
    const rect = rects[i];
    return rect ? [[tile, rect]] : [];
  });
}

/** How many have no tile: in the corner of the stage, or of the whole. */
function More({ hidden, main }: { hidden: number; main: Rect | undefined }) {
  const place = main && { left: `${main.x + main.width - 8}px`, top: `${main.y + main.height - 8}px` };
  return (
    <p class="more" data-placed={main !== undefined} style={place ?? {}}>
      and {hidden} more
    </p>
  );
}

function Invite({ rect, place, notify }: { rect: Rect; place: Place; notify: Notify }) {
  return (
    <section
      class="invite"
      aria-label="Invite others"
      style={{
        transform: `translate(${rect.x}px, ${rect.y}px)`,
        width: `${rect.width}px`,
        height: `${rect.height}px`,
      }}
    >
      <div>
        <p class="invite-title">You’re the first here</p>
        <p>Send the link to those you want to meet. They need nothing but a browser.</p>
        <CopyLink place={place} notify={notify} class="primary-button" />
      </div>
    </section>
  );
}
