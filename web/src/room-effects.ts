// What happens in a room without being drawn: own tracks into it, notices out of it, the screen share.

import type { LeaveReason, RecordingState, Room } from "@antiphon/client";
import { useCallback, useEffect, useState } from "preact/hooks";
import type { LocalMedia } from "./media.js";
import type { Notify } from "./toasts.js";
import { sentenceFor } from "./words.js";

/** Keeps what the room sends the same as what the devices give. */
export function useOwnTracks(room: Room, media: LocalMedia, notify: Notify): void {
  useEffect(() => {
    const failed = (error: unknown) => notify(sentenceFor(error), "problem");
    const bring = () => {
      const { microphone, camera } = media;
      if (room.local("microphone").muted === microphone.on) {
        room.setMuted("microphone", !microphone.on).catch(failed);
      }
      if (room.local("microphone").track !== microphone.track) {
        room.setMicrophone(microphone.track).catch(failed);
      }
      if (room.local("camera").track !== camera.track) room.setCamera(camera.track).catch(failed);
      for (const device of [microphone, camera]) {
        if (device.problem && device.on && !device.opening) notify(device.problem.message, "problem");
      }
    };
    bring();
    media.addEventListener("change", bring);
    return () => media.removeEventListener("change", bring);
  }, [room, media]);
}

const RECORDING_WORDS = {
  announcing: "This call is about to be recorded",
  recording: "This call is being recorded",
  paused: "The recording is paused",
};

const LEFT_WORDS: Partial<Record<LeaveReason, string>> = {
  connection_lost: "lost the connection",
  removed: "was removed",
};

/** Says who came, who went, who shares, and what befell us. */
export function useRoomNotices(room: Room, media: LocalMedia, notify: Notify): void {
  useEffect(() => {
    const nameOf = (id: string) => room.participants.get(id)?.name || "Someone";
    let lost = false;
    let recorded: RecordingState | undefined;
    const offs = [
      room.on("participantJoined", p => p.id !== room.id && notify(`${p.name || "Someone"} joined`)),
      room.on("participantLeft", ({ participant, reason }) =>
        notify(`${participant.name || "Someone"} ${LEFT_WORDS[reason] ?? "left"}`),
      ),
      room.on("screenStarted", ({ participant }) => {
        if (participant !== room.id) notify(`${nameOf(participant)} shares a screen`);
      }),
      room.on("screenStopped", ({ participant }) => {
        if (participant !== room.id) notify(`${nameOf(participant)} stopped sharing`);
      }),
      room.on("muted", ({ source, by }) => {
        if (source === "microphone") media.turn("microphone", false);
        notify(`${nameOf(by)} muted your ${source.replace("_", " ")}`, "problem");
      }),
      room.on("trackUnavailable", ({ participant, error }) =>
        notify(`${nameOf(participant)} cannot be shown: ${error.message}`, "problem"),
      ),
      room.on("refused", ({ source, error }) => {
        const listenOnly = "Your invitation lets you hear and see only: nobody hears or sees you.";
        if (error.code === "forbidden") notify(listenOnly, "problem");
        else if (error.code !== "closed")
          notify(`Your ${source.replace("_", " ")}: ${error.message}`, "problem");
      }),
      room.on("recording", recording => {
        const before = recorded;
        recorded = recording?.state;
        if (recorded === before) return;
        const words = recording ? RECORDING_WORDS[recording.state] : "Nothing is recorded any more";
        notify(words, recorded === "recording" ? "problem" : "info");
      }),
      room.on("draining", () => notify("The server restarts. You will be brought back.", "problem")),
      room.on("state", state => {
        if (state === "reconnecting") {
          lost = true;
        } else if (state === "connected" && lost) {
          lost = false;
          notify("You are back");
        }
      }),
    ];
    return () => {
      for (const off of offs) off();
    };
  }, [room, media]);
}

/** Sharing one's screen, sound included where the browser gives it. */
export function useScreenShare(room: Room, notify: Notify) {
  const [stream, setStream] = useState<MediaStream | null>(null);
  const canShare = typeof navigator.mediaDevices?.getDisplayMedia === "function";
  const stop = useCallback((shared: MediaStream) => {
    for (const track of shared.getTracks()) track.stop();
    setStream(null);
    room.setScreen(null).catch((error: unknown) => notify(sentenceFor(error), "problem"));
  }, []);
  const start = useCallback(async () => {
    let shared: MediaStream;
    try {
      shared = await navigator.mediaDevices.getDisplayMedia({
        video: { frameRate: { max: 30 } },
        audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
      });
    } catch (error) {
      // Closing the browser's dialog is no error.
      if (error instanceof DOMException && error.name === "NotAllowedError") return;
      notify("Your screen could not be shared.", "problem");
      return;
    }
    shared.getVideoTracks()[0]?.addEventListener("ended", () => stop(shared));
    setStream(shared);
    try {
      await room.setScreen(shared);
    } catch (error) {
      stop(shared);
      notify(sentenceFor(error), "problem");
    }
  }, []);
  useEffect(() => {
    if (!stream) return;
    const off = room.on("closed", () => {
      for (const track of stream.getTracks()) track.stop();
    });
    return off;
  }, [stream]);
  return {
    sharing: stream !== null,
    canShare,
    toggleScreen: () => (stream ? stop(stream) : start()),
  };
}
