// Who is here, and who speaks.

import type { ParticipantInfo, Room } from "@antiphon/client";
import { useEffect, useRef } from "preact/hooks";
import { Avatar } from "./avatar.js";
import { Close, Mic, MicOff, Pin, Screen, Unpin } from "./icons.js";
import { isSilent, isSpeaking } from "./tiles.js";

interface PeopleProps {
  room: Room;
  pinned: string | undefined;
  /** Opened by the user just now: the focus goes there. */
  focus: boolean;
  onPin: (key: string | undefined) => void;
  onClose: () => void;
}

export function People({ room, pinned, focus, onPin, onClose }: PeopleProps) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    if (focus) heading.current?.focus();
  }, []);
  const people = [...room.participants.values()];
  return (
    <aside
      class="people"
      aria-labelledby="people-heading"
      onKeyDown={event => {
        if (event.key === "Escape") onClose();
      }}
    >
      <header>
        <h2 id="people-heading" ref={heading} tabIndex={-1}>
          People <span class="count">{people.length}</span>
        </h2>
        <button type="button" class="quiet-button" aria-label="Close the list of people" onClick={onClose}>
          <Close size={18} />
        </button>
      </header>
      <ul data-testid="people" aria-labelledby="people-heading">
        {people.map(person => (
          <PersonRow key={person.id} room={room} person={person} pinned={pinned} onPin={onPin} />
        ))}
      </ul>
    </aside>
  );
}

interface PersonRowProps {
  room: Room;
  person: ParticipantInfo;
  pinned: string | undefined;
  onPin: (key: string | undefined) => void;
}

function PersonRow({ room, person, pinned, onPin }: PersonRowProps) {
  const self = person.id === room.id;
  const silent = self ? room.local("microphone").muted || !room.local("microphone").track : isSilent(person);
  const speaking = isSpeaking(room, person.id);
  const key = `${person.id}/camera`;
  const isPinned = pinned === key;
  const name = person.name || "Guest";
  return (
    <li class="person" data-participant={person.id} data-speaking={speaking}>
      <Avatar name={name} id={person.id} bot={person.kind === "bot"} />
      <div class="person-words">
        <span class="person-name">
          <span class="person-own-name">{name}</span>
          {self && <span class="person-you">(you)</span>}
        </span>
        <span class="person-status">{statusOf(person, speaking, room)}</span>
      </div>
      <span class="person-icons">
        <Mark on={!silent} yes="Microphone on" no="Microphone off">
          {silent ? <MicOff size={17} /> : <Mic size={17} />}
        </Mark>
      </span>
      <button
        type="button"
        class="quiet-button"
        aria-pressed={isPinned}
        aria-label={`Pin ${name}`}
        title={isPinned ? "Back to the grid" : "Show large"}
        onClick={() => onPin(isPinned ? undefined : key)}
      >
        {isPinned ? <Unpin size={17} /> : <Pin size={17} />}
      </button>
    </li>
  );
}

function Mark(props: { on: boolean; yes: string; no: string; children: preact.ComponentChildren }) {
  return (
    <span class="mark" data-on={props.on} title={props.on ? props.yes : props.no}>
      {props.children}
      <span class="hidden">{props.on ? props.yes : props.no}.</span>
    </span>
  );
}

function statusOf(person: ParticipantInfo, speaking: boolean, room: Room) {
  if (person.presence === "reconnecting") return "Reconnecting…";
  if (room.screens.has(person.id)) {
    return (
      <>
        <Screen size={14} /> Sharing a screen
      </>
    );
  }
  if (speaking) return "Speaking";
  if (person.kind === "bot") return "Program";
  if (person.kind === "whip") return "Live stream";
  return "Listening";
}
