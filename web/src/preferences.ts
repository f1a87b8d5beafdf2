// What a person chose last time, in localStorage. Works without it too (private windows).

export interface Preferences {
  name: string;
  microphoneId: string;
  cameraId: string;
  microphoneOn: boolean;
  cameraOn: boolean;
  /** Single-letter shortcuts can be turned off (WCAG 2.1.4). */
  shortcuts: boolean;
  /** Undefined until chosen: then the window's width decides. */
  people?: boolean;
}

const KEY = "antiphon.preferences";
const DEFAULTS: Preferences = {
  name: "",
  microphoneId: "",
  cameraId: "",
  microphoneOn: true,
  cameraOn: true,
  shortcuts: true,
};

export function loadPreferences(): Preferences {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    return { ...DEFAULTS, ...(stored as Partial<Preferences>) };
  } catch {
    return { ...DEFAULTS };
  }
}

export function savePreferences(change: Partial<Preferences>): void {
  try {
    localStorage.setItem(KEY, JSON.stringify({ ...loadPreferences(), ...change }));
  } catch {
    // Nothing is remembered then.
  }
}
