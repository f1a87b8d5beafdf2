// The pre-join page: who one is, how one looks and sounds, and in.

import { MAX_DISPLAY_NAME } from "@antiphon/client";
import { useEffect, useRef, useState } from "preact/hooks";
import { Avatar } from "./avatar.js";
import { DeviceSelect } from "./devices.js";
import { useMedia, useShortcuts } from "./hooks.js";
import { Alert, Camera, CameraOff, Logo, Mic, MicOff } from "./icons.js";
import type { DeviceState, LocalMedia } from "./media.js";
import { Meter } from "./meter.js";
import { loadPreferences } from "./preferences.js";
import type { Words } from "./words.js";

interface LobbyProps {
  room: string;
  media: LocalMedia;
  initialName: string;
  joining: boolean;
  problem: Words | undefined;
  onJoin: (name: string) => void;
}

export function Lobby({ room, media, initialName, joining, problem, onJoin }: LobbyProps) {
  const [name, setName] = useState(initialName);
  const { microphone, camera } = useMedia(media);
  const { shortcuts } = loadPreferences();
  useShortcuts(shortcuts, key => {
    if (key === "m") media.turn("microphone", !media.microphone.on);
    else if (key === "v") media.turn("camera", !media.camera.on);
    else return false;
    return true;
  });
  const problems = problemWords(media);
  return (
    <main class="lobby">
      <header class="lobby-brand">
        <Logo size={30} />
        <span class="brand-name">Antiphon</span>
      </header>
      <div class="lobby-columns">
        <section class="preview" aria-label="Preview of your camera">
          <Preview track={camera.track} name={name} opening={camera.opening} />
          <div class="preview-controls">
            <button
              type="button"
              class="round-button"
              data-testid="mic-toggle"
              data-off={isOff(microphone)}
              aria-pressed={microphone.on}
              aria-label="Microphone"
              aria-keyshortcuts={shortcuts ? "m" : undefined}
              title={microphone.on ? "Turn the microphone off" : "Turn the microphone on"}
              onClick={() => media.turn("microphone", !microphone.on)}
            >
              {isOff(microphone) ? <MicOff /> : <Mic />}
            </button>
            <button
              type="button"
              class="round-button"
              data-testid="camera-toggle"
              data-off={isOff(camera)}
              aria-pressed={camera.on}
              aria-label="Camera"
              aria-keyshortcuts={shortcuts ? "v" : undefined}
              title={camera.on ? "Turn the camera off" : "Turn the camera on"}
              onClick={() => media.turn("camera", !camera.on)}
            >
              {isOff(camera) ? <CameraOff /> : <Camera />}
            </button>
          </div>
        </section>
        <form
          class="lobby-form"
          onSubmit={event => {
            event.preventDefault();
            if (name.trim()) onJoin(name.trim());
          }}
        >
          <p class="eyebrow">You are about to join</p>
          <h1>{room}</h1>
          {problems.length > 0 && (
            <div class="notice" role="status" data-testid="device-problem">
              <Alert size={20} />
              <div>
                {problems.map(words => (
                  <p key={words}>{words}</p>
                ))}
                <p>You can join all the same: you will hear and see the others.</p>
                <button type="button" class="text-button" onClick={() => media.open()}>
                  Try again
                </button>
              </div>
            </div>
          )}
          {problem && (
            <div
              class="notice notice-problem"
              role="alert"
              ref={element => element?.scrollIntoView({ block: "nearest" })}
            >
              <Alert size={20} />
              <div>
                <p>
                  <strong>{problem.title}.</strong> {problem.text}
                </p>
              </div>
            </div>
          )}
          <label class="field">
            <span>Your name</span>
            <input
              data-testid="name-input"
              type="text"
              required
              maxLength={MAX_DISPLAY_NAME}
              autocomplete="nickname"
              placeholder="As others will see it"
              value={name}
              onInput={event => setName(event.currentTarget.value)}
            />
          </label>
          <DeviceSelect media={media} device="microphone" />
          <Meter track={microphone.on ? microphone.track : null} />
          <DeviceSelect media={media} device="camera" />
          <button type="submit" class="primary-button" data-testid="join-button" disabled={joining}>
            {joining ? "Joining…" : "Join the room"}
          </button>
        </form>
      </div>
    </main>
  );
}

/** Turned off, or not to be had. */
function isOff(device: DeviceState): boolean {
  return !device.on || (device.track === null && !device.opening);
}

/** What is wrong with the devices that are wanted; in one sentence where both were refused. */
function problemWords({ microphone, camera }: LocalMedia): string[] {
  const problems = [microphone, camera].flatMap(d => (d.on && d.problem ? [d.problem] : []));
  if (problems.length === 2 && problems.every(p => p.kind === "denied")) {
    return [
      "The browser does not let this page use your microphone and camera. Allow them beside the address, then try again.",
    ];
  }
  return problems.map(p => p.message);
}

function Preview({
  track,
  name,
  opening,
}: {
  track: MediaStreamTrack | null;
  name: string;
  opening: boolean;
}) {
  const ref = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    if (ref.current) ref.current.srcObject = track ? new MediaStream([track]) : null;
  }, [track]);
  return (
    <div class="preview-picture">
      {track ? (
        <video ref={ref} autoPlay playsInline muted class="mirrored" aria-label="Your camera" />
      ) : (
        <div class="preview-empty">
          {name.trim() ? <Avatar name={name} id={name} /> : !opening && <CameraOff size={56} />}
          <p>{opening ? "Opening the camera…" : "Your camera is off"}</p>
        </div>
      )}
    </div>
  );
}
