// A select for one's microphone or camera.

import type { Device, LocalMedia } from "./media.js";

const KIND = { microphone: "audioinput", camera: "videoinput" } as const;

export function DeviceSelect({ media, device }: { media: LocalMedia; device: Device }) {
  const options = media.devices.filter(d => d.kind === KIND[device] && d.deviceId !== "");
  const current = media[device].track?.getSettings().deviceId ?? "";
  const label = device === "microphone" ? "Microphone" : "Camera";
  return (
    <label class="field">
      <span>{label}</span>
      <select
        value={current}
        disabled={options.length === 0}
        data-testid={`${device}-select`}
        onChange={event => media.choose(device, event.currentTarget.value)}
      >
        {options.length === 0 && <option value="">{media[device].track ? "Default" : `No ${device}`}</option>}
        {options.length > 0 && !options.some(o => o.deviceId === current) && (
          <option value={current}>Default</option>
        )}
        {options.map((option, i) => (
          <option key={option.deviceId} value={option.deviceId}>
            {option.label || `${label} ${i + 1}`}
          </option>
        ))}
      </select>
    </label>
  );
}
