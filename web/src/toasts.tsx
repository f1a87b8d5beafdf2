// Short notices: shown for a few seconds, and read out by screen readers.

import { useCallback, useRef, useState } from "preact/hooks";
import { Alert, Close } from "./icons.js";

/** More at once would cover the people. */
const MAX_SHOWN = 3;
const INFO_MS = 4_500;
const PROBLEM_MS = 9_000;

export interface Toast {
  id: number;
  kind: "info" | "problem";
  text: string;
}

export type Notify = (text: string, kind?: Toast["kind"]) => void;

export function useToasts(): { toasts: Toast[]; notify: Notify; dismiss: (id: number) => void } {
  const [toasts, setToasts] = useState<Toast[]>([]);
  const nextId = useRef(1);
  const dismiss = useCallback((id: number) => setToasts(list => list.filter(t => t.id !== id)), []);
  const notify = useCallback<Notify>((text, kind = "info") => {
    const id = nextId.current++;
    setToasts(list => [...list.filter(t => t.text !== text), { id, kind, text }].slice(-MAX_SHOWN));
    setTimeout(() => dismiss(id), kind === "problem" ? PROBLEM_MS : INFO_MS);
  }, []);
  return { toasts, notify, dismiss };
}

export function Toasts({ toasts, dismiss }: { toasts: Toast[]; dismiss: (id: number) => void }) {
  return (
    <div class="toasts" role="status" aria-live="polite" aria-relevant="additions">
      {toasts.map(toast => (
        <div key={toast.id} class={`toast toast-${toast.kind}`}>
          {toast.kind === "problem" && <Alert size={18} />}
          <span>{toast.text}</span>
          {toast.kind === "problem" && (
            <button type="button" class="quiet-button" aria-label="Dismiss" onClick={() => dismiss(toast.id)}>
              <Close size={16} />
            </button>
          )}
        </div>
      ))}
    </div>
  );
}
