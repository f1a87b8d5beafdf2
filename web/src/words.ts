// Errors and ends in words for people: what happened, and what to do.

import { AntiphonError, type Closed, type Limits } from "@antiphon/client";

export interface Words {
  title: string;
  text: string;
  /** Whether trying again makes sense. */
  retry: boolean;
}

/** Words for why a room was not entered, or was left; `reason` is an error code or a leave reason. */
export function wordsFor(reason: string, message: string): Words {
  switch (reason) {
    case "left":
      return { title: "You left the room", text: "The others can go on without you.", retry: true };
    case "removed":
      return { title: "You were removed", text: "A moderator took you out of this room.", retry: false };
    case "replaced":
      return {
        title: "You joined from somewhere else",
        text: "The same invitation was used in another window or on another device, so the call continues there.",
        retry: true,
      };
    case "room_closed":
      return { title: "The room has ended", text: "Everyone has been let go.", retry: true };
    case "connection_lost":
      return {
        title: "The connection was lost",
        text: "We tried for half a minute to bring you back. Check your network, then join again.",
        retry: true,
      };
    case "forbidden":
    case "unauthenticated":
      return {
        title: "This room needs an invitation",
        text: "Ask someone in the room for its invitation link, and open that.",
        retry: false,
      };
    case "token_expired":
      return {
        title: "This invitation has expired",
        text: "Ask the person who invited you for a new link.",
        retry: false,
      };
    case "room_full":
      return { title: "The room is full", text: "Try again when someone has left.", retry: true };
    case "rate_limited":
    case "overloaded":
      return { title: "The server is busy", text: "Wait a moment, then try again.", retry: true };
    case "draining":
      return { title: "The server is restarting", text: "Try again in a few seconds.", retry: true };
    case "unreachable":
    case "timeout":
      return {
        title: "The server cannot be reached",
        text: "Check your network. If it works elsewhere, the server may be down.",
        retry: true,
      };
    case "connection_failed":
      return {
        title: "No sound or picture came through",
        text: "The server answered, but the media connection did not come about. A firewall or VPN may block UDP.",
        retry: true,
      };
    case "no_common_codec":
      return {
        title: "This browser cannot take part",
        text: "It has no audio or video format in common with the server. Try another browser.",
        retry: false,
      };
    default:
      return { title: "That did not work", text: message || "Something unexpected happened.", retry: true };
  }
}

export function wordsForError(error: unknown): Words {
  if (error instanceof AntiphonError) return wordsFor(error.code, error.message);
  return wordsFor("internal", error instanceof Error ? error.message : "");
}

export function wordsForClosed(closed: Closed): Words {
  return wordsFor(closed.reason, closed.message);
}

/** One sentence for why fewer people are seen than could be. */
export function sentenceForLimits({ lastN, reason }: Limits): string {
  const seen = lastN === 0 ? "No video at the moment" : "Fewer videos at the moment";
  return reason === "server_busy" ? `${seen}: the server is busy.` : `${seen}: your connection is slow.`;
}

/** One sentence for a request that failed during a call. */
export function sentenceFor(error: unknown): string {
  if (error instanceof AntiphonError && error.code === "forbidden") {
    return "Your invitation does not allow that.";
  }
  return error instanceof Error ? error.message : "That did not work.";
}
