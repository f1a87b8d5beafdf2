// Devices and habits, during a call.

import { MAX_DISPLAY_NAME, type Room } from "@antiphon/client";
import { useEffect, useRef, useState } from "preact/hooks";
import { DeviceSelect } from "./devices.js";
import { useMedia } from "./hooks.js";
import { Close } from "./icons.js";
import type { LocalMedia } from "./media.js";
import { Meter } from "./meter.js";
import { savePreferences } from "./preferences.js";
import type { Notify } from "./toasts.js";
import { sentenceFor } from "./words.js";

interface SettingsProps {
  room: Room;
  media: LocalMedia;
  shortcuts: boolean;
  onShortcuts: (on: boolean) => void;
  notify: Notify;
  onClose: () => void;
}

export function Settings({ room, media, shortcuts, onShortcuts, notify, onClose }: SettingsProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const { microphone } = useMedia(media);
  const [name, setName] = useState(room.participants.get(room.id)?.name ?? "");
  useEffect(() => dialog.current?.showModal(), []);
  const save = async () => {
    const wanted = name.trim();
    if (wanted && wanted !== room.participants.get(room.id)?.name) {
      try {
        await room.rename(wanted);
        savePreferences({ name: wanted });
      } catch (error) {
        notify(sentenceFor(error), "problem");
      }
    }
    dialog.current?.close();
  };
  return (
    <dialog ref={dialog} class="settings" aria-labelledby="settings-heading" onClose={onClose}>
      <form
        onSubmit={event => {
          event.preventDefault();
          save();
        }}
      >
        <header>
          <h2 id="settings-heading">Settings</h2>
          <button
            type="button"
            class="quiet-button"
            aria-label="Close settings"
            onClick={() => dialog.current?.close()}
          >
            <Close size={18} />
          </button>
        </header>
        <label class="field">
          <span>Your name</span>
          <input
            type="text"
            required
            maxLength={MAX_DISPLAY_NAME}
            value={name}
            onInput={event => setName(event.currentTarget.value)}
          />
        </label>
        <DeviceSelect media={media} device="microphone" />
        <Meter track={microphone.on ? microphone.track : null} />
        <DeviceSelect media={media} device="camera" />
        <label class="check">
          <input
            type="checkbox"
            checked={shortcuts}
            onChange={event => onShortcuts(event.currentTarget.checked)}
          />
          <span>
            Keyboard shortcuts
            <small>
              <kbd>M</kbd> microphone, <kbd>V</kbd> camera, <kbd>S</kbd> screen, <kbd>P</kbd> people
            </small>
          </span>
        </label>
        <button type="submit" class="primary-button">
          Done
        </button>
      </form>
    </dialog>
  );
}
