// The room's link, into the clipboard.

import { useState } from "preact/hooks";
import { Check, Link } from "./icons.js";
import { linkOf, type Place } from "./place.js";
import type { Notify } from "./toasts.js";

const SHOW_DONE_MS = 2_500;

interface CopyLinkProps {
  place: Place;
  notify: Notify;
  /** Only one of several carries the tests' hook. */
  testId?: string;
  class: string;
}

export function CopyLink({ place, notify, testId, class: className }: CopyLinkProps) {
  const [done, setDone] = useState(false);
  const link = linkOf(location.origin, place);
  const copy = async () => {
    if (await toClipboard(link)) {
      setDone(true);
      notify("Link copied. Send it to whom you want here.");
      setTimeout(() => setDone(false), SHOW_DONE_MS);
    } else {
      notify(`The browser does not let us copy. The link is ${link}`, "problem");
    }
  };
  return (
    <button type="button" class={className} data-testid={testId} data-link={link} onClick={copy}>
      {done ? <Check size={18} /> : <Link size={18} />}
      <span>{done ? "Copied" : "Copy link"}</span>
    </button>
  );
}

async function toClipboard(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // No permission, or a page without https.
  }
}
