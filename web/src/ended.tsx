// The page after a call, and the page where one could not enter.

import { useEffect, useRef } from "preact/hooks";
import { Logo } from "./icons.js";
import type { Words } from "./words.js";

export function Ended({ words, onRetry }: { words: Words; onRetry: () => void }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus(), []);
  return (
    <main class="ended" data-testid="ended">
      <div class="ended-card">
        <Logo size={44} />
        <h1 ref={heading} tabIndex={-1}>
          {words.title}
        </h1>
        <p>{words.text}</p>
        {words.retry ? (
          <button type="button" class="primary-button" data-testid="rejoin-button" onClick={onRetry}>
            Join again
          </button>
        ) : (
          <a class="primary-button" href="/">
            Go to the demo room
          </a>
        )}
      </div>
    </main>
  );
}
