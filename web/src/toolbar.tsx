// The controls at the bottom: microphone, camera, screen, people, leave.

import type { ComponentChildren } from "preact";
import { Camera, CameraOff, Leave, Mic, MicOff, People, Screen, ScreenStop } from "./icons.js";
import type { DeviceState } from "./media.js";

interface ToolbarProps {
  microphone: DeviceState;
  camera: DeviceState;
  sharing: boolean;
  canShare: boolean;
  peopleOpen: boolean;
  peopleCount: number;
  shortcuts: boolean;
  onMicrophone: () => void;
  onCamera: () => void;
  onScreen: () => void;
  onPeople: () => void;
  onLeave: () => void;
}

export function Toolbar(props: ToolbarProps) {
  const { microphone, camera, sharing, shortcuts } = props;
  const micOn = microphone.on && microphone.track !== null;
  const cameraOn = camera.on && camera.track !== null;
  const key = (letter: string) => (shortcuts ? letter : undefined);
  return (
    <nav class="toolbar" aria-label="Call controls">
      <Tool
        id="mic-toggle"
        word={micOn ? "Mute" : "Unmute"}
        more=" the microphone"
        off={!micOn}
        shortcut={key("m")}
        onClick={props.onMicrophone}
      >
        {micOn ? <Mic /> : <MicOff />}
      </Tool>
      <Tool
        id="camera-toggle"
        word={cameraOn ? "Camera off" : "Camera on"}
        off={!cameraOn}
        shortcut={key("v")}
        onClick={props.onCamera}
      >
        {cameraOn ? <Camera /> : <CameraOff />}
      </Tool>
      {props.canShare && (
        <Tool
          id="screen-toggle"
          word={sharing ? "Stop" : "Share"}
          more={sharing ? " sharing your screen" : " your screen"}
          active={sharing}
          shortcut={key("s")}
          onClick={props.onScreen}
        >
          {sharing ? <ScreenStop /> : <Screen />}
        </Tool>
      )}
      <Tool
        id="people-toggle"
        word="People"
        more={`, ${props.peopleCount} here`}
        expanded={props.peopleOpen}
        active={props.peopleOpen}
        shortcut={key("p")}
        onClick={props.onPeople}
      >
        <People />
        <span class="tool-badge" aria-hidden="true">
          {props.peopleCount}
        </span>
      </Tool>
      <Tool id="leave-button" word="Leave" more=" the room" danger onClick={props.onLeave}>
        <Leave />
      </Tool>
    </nav>
  );
}

interface ToolProps {
  id: string;
  /** What a press does, below the icon. */
  word: string;
  /** Goes on from `word` for those who do not see the icon. */
  more?: string;
  expanded?: boolean;
  off?: boolean;
  active?: boolean;
  danger?: boolean;
  shortcut?: string | undefined;
  onClick: () => void;
  children: ComponentChildren;
}

function Tool(props: ToolProps) {
  const { id, word, more, shortcut } = props;
  return (
    <button
      type="button"
      class="tool"
      data-testid={id}
      data-off={props.off ?? false}
      data-active={props.active ?? false}
      data-danger={props.danger ?? false}
      aria-expanded={props.expanded}
      aria-keyshortcuts={shortcut}
      title={shortcut ? `${word} (${shortcut.toUpperCase()})` : word}
      onClick={props.onClick}
    >
      <span class="tool-icon">{props.children}</span>
      <span class="tool-word">
        {word}
        <span class="hidden">{more}</span>
      </span>
    </button>
  );
}
