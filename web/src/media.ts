// Own microphone and camera: opened, switched, closed, with words for what goes wrong.

import { loadPreferences, savePreferences } from "./preferences.js";

export type Device = "microphone" | "camera";

/** Why a device is not there. `message` is for a person. */
export interface DeviceProblem {
  kind: "denied" | "missing" | "busy" | "insecure" | "other";
  message: string;
}

/** How one device stands. */
export interface DeviceState {
  /** Wanted by the user. A microphone that is off stays open and muted; a camera that is off is closed. */
  on: boolean;
  track: MediaStreamTrack | null;
  problem: DeviceProblem | undefined;
  /** Being opened. */
  opening: boolean;
}

const AUDIO: MediaTrackConstraints = {
  echoCancellation: true,
  noiseSuppression: true,
  autoGainControl: true,
};
const VIDEO: MediaTrackConstraints = {
  width: { ideal: 1280 },
  height: { ideal: 720 },
  frameRate: { ideal: 30 },
};

export class LocalMedia extends EventTarget {
  microphone: DeviceState = { on: true, track: null, problem: undefined, opening: false };
  camera: DeviceState = { on: true, track: null, problem: undefined, opening: false };
  devices: MediaDeviceInfo[] = [];

  constructor() {
    super();
    const { microphoneOn, cameraOn } = loadPreferences();
    this.microphone.on = microphoneOn;
    this.camera.on = cameraOn;
    navigator.mediaDevices?.addEventListener?.("devicechange", () => this.#list());
  }

  /** Opens what is wanted: both by one question to the user where possible. */
  async open(): Promise<void> {
    const wantCamera = this.camera.on;
    this.#set("microphone", { opening: true });
    this.#set("camera", { opening: wantCamera });
    if (wantCamera) {
      const both = await getMedia({ audio: constraints("microphone"), video: constraints("camera") });
      if (both instanceof MediaStream) {
        this.#take("microphone", both.getAudioTracks()[0] ?? null);
        this.#take("camera", both.getVideoTracks()[0] ?? null);
        await this.#list();
        return;
      }
    }
    // One of them may be missing or refused: each by itself.
    await this.#openOne("microphone");
    if (wantCamera) await this.#openOne("camera");
    await this.#list();
  }

  /** Turns a device on or off; a microphone stays open when off. */
  async turn(device: Device, on: boolean): Promise<void> {
    this.#set(device, { on });
    savePreferences(device === "microphone" ? { microphoneOn: on } : { cameraOn: on });
    if (on && this[device].track === null) {
      await this.#openOne(device);
      await this.#list();
    } else if (!on && device === "camera") {
      this.#close(device);
    }
  }

  /** Uses another device of the kind. */
  async choose(device: Device, id: string): Promise<void> {
    savePreferences(device === "microphone" ? { microphoneId: id } : { cameraId: id });
    if (device === "camera" && !this.camera.on) return;
    this.#close(device);
    await this.#openOne(device);
  }

  /** Frees both devices. */
  stop(): void {
    this.#close("microphone");
    this.#close("camera");
  }

  async #openOne(device: Device): Promise<void> {
    this.#set(device, { opening: true });
    const kind = device === "microphone" ? "audio" : "video";
    const result = await getMedia({ [kind]: constraints(device) });
    if (result instanceof MediaStream) this.#take(device, result.getTracks()[0] ?? null);
    else this.#set(device, { track: null, problem: problemOf(result, device), opening: false });
  }

  #take(device: Device, track: MediaStreamTrack | null): void {
    if (!this[device].on && device === "camera") {
      track?.stop(); // Turned off while it was being opened.
      this.#set(device, { opening: false });
      return;
    }
    track?.addEventListener("ended", () => {
      if (this[device].track !== track) return;
      const problem: DeviceProblem = {
        kind: "missing",
        message: `Your ${device} was unplugged or turned off.`,
      };
      this.#set(device, { track: null, problem });
    });
    this.#set(device, { track, problem: undefined, opening: false });
  }

  #close(device: Device): void {
    this[device].track?.stop();
    this.#set(device, { track: null, problem: undefined });
  }

  async #list(): Promise<void> {
    this.devices = (await navigator.mediaDevices?.enumerateDevices?.().catch(() => [])) ?? [];
    this.dispatchEvent(new Event("change"));
  }

  #set(device: Device, change: Partial<DeviceState>): void {
    this[device] = { ...this[device], ...change };
    this.dispatchEvent(new Event("change"));
  }
}

function constraints(device: Device): MediaTrackConstraints {
  const { microphoneId, cameraId } = loadPreferences();
  const id = device === "microphone" ? microphoneId : cameraId;
  return { ...(device === "microphone" ? AUDIO : VIDEO), ...(id ? { deviceId: { ideal: id } } : {}) };
}

async function getMedia(wanted: MediaStreamConstraints): Promise<MediaStream | Error> {
  if (!navigator.mediaDevices?.getUserMedia) return new DOMException("", "SecurityError");
  try {
    return await navigator.mediaDevices.getUserMedia(wanted);
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

/** Says in human words why a device could not be opened. */
export function problemOf(error: { name: string }, device: Device): DeviceProblem {
  switch (error.name) {
    case "NotAllowedError":
      return {
        kind: "denied",
        message: `The browser does not let this page use your ${device}. Allow it beside the address, then try again.`,
      };
    case "NotFoundError":
    case "OverconstrainedError":
      return { kind: "missing", message: `No ${device} found.` };
    case "NotReadableError":
    case "AbortError":
      return { kind: "busy", message: `Your ${device} is in use by another program.` };
    case "SecurityError":
    case "TypeError":
      return {
        kind: "insecure",
        message: `Browsers allow the ${device} only on https:// pages and on localhost.`,
      };
    default:
      return { kind: "other", message: `Your ${device} could not be opened.` };
  }
}
