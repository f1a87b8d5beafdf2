// Being recorded: the sign that everyone sees, the question where the room asks for consent, and the button of those who may record.

import type { Recording, Room } from "@antiphon/client";
import { useEffect, useRef, useState } from "preact/hooks";
import { claimsOf, type Place } from "./place.js";
import type { Notify } from "./toasts.js";
import { sentenceFor } from "./words.js";

const SIGN_WORDS: Record<Recording["state"], string> = {
  announcing: "About to be recorded",
  recording: "Recording",
  paused: "Recording paused",
};

/** In the header for as long as something is, or may be, kept. */
export function RecordingSign({ recording }: { recording: Recording | undefined }) {
  if (!recording) return null;
  const left = recording.consent && recording.agreed !== true && recording.state !== "announcing";
  return (
    <span class="recording-sign" role="status" data-testid="recording-sign" data-state={recording.state}>
      <span class="recording-dot" aria-hidden="true" />
      {SIGN_WORDS[recording.state]}
      {left && <span class="recording-without"> · without you</span>}
    </span>
  );
}

/** Asks for consent. Until it is answered nothing of us is kept; closing it is no answer. */
export function RecordingAsk({ room, notify }: { room: Room; notify: Notify }) {
  const { recording } = room;
  const asks = recording?.consent === true && recording.agreed === undefined;
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (asks && !dialog.current?.open) dialog.current?.showModal();
  }, [asks]);
  if (!asks) return null;
  const answer = (agreed: boolean) =>
    room.consentToRecording(agreed).catch((error: unknown) => notify(sentenceFor(error), "problem"));
  return (
    <dialog
      class="recording-ask"
      ref={dialog}
      data-testid="recording-ask"
      aria-labelledby="recording-ask-title"
      onCancel={event => event.preventDefault()}
    >
      <h2 id="recording-ask-title">May this call be recorded?</h2>
      <p>
        Your voice, your picture and what you share will be kept, with your name. Nothing is kept of anyone
        who does not agree. You can leave the call at any time.
      </p>
      <div class="recording-answers">
        <button
          type="button"
          class="secondary-button"
          data-testid="recording-refuse"
          onClick={() => answer(false)}
        >
          Do not record me
        </button>
        <button
          type="button"
          class="primary-button"
          data-testid="recording-agree"
          onClick={() => answer(true)}
        >
          I agree
        </button>
      </div>
    </dialog>
  );
}

/** Starts and stops, where the token lets its bearer. */
export function RecordingControl({ room, place, notify }: { room: Room; place: Place; notify: Notify }) {
  const [busy, setBusy] = useState(false);
  const { token } = place;
  if (!token || !claimsOf(token).grants?.includes("record")) return null;
  const { recording } = room;
  const ask = async (path: string) => {
    setBusy(true);
    try {
      const url = `${room.url}/v1/rooms/${encodeURIComponent(place.room)}/recordings${path}`;
      const response = await fetch(url, { method: "POST", headers: { authorization: `Bearer ${token}` } });
      if (response.ok) return;
      const body = (await response.json().catch(() => undefined)) as
        | { error?: { message?: string } }
        | undefined;
      notify(body?.error?.message ?? "The server did not do it.", "problem");
    } catch {
      notify("The server cannot be reached.", "problem");
    } finally {
      setBusy(false);
    }
  };
  return (
    <button
      type="button"
      class="header-button"
      data-testid="recording-toggle"
      disabled={busy}
      onClick={() => ask(recording ? `/${recording.id}:stop` : "")}
    >
      <span class="recording-dot" aria-hidden="true" />
      <span>{recording ? "Stop recording" : "Record"}</span>
    </button>
  );
}
