// Requests on the control channel: each has an id, each gets one reply or a timeout.

import type { ErrorBody, Request } from "./control.js";
import { AntiphonError } from "./error.js";

/** A reply takes one round trip; past this the channel is as good as gone. */
export const REPLY_TIMEOUT_MS = 10_000;
/** Requests that wait at the same time: more than any interface sends in ten seconds. */
export const MAX_PENDING = 256;

interface Pending {
  resolve: () => void;
  reject: (error: AntiphonError) => void;
  timer: ReturnType<typeof setTimeout>;
}

export class Requests {
  #nextId = 1;
  readonly #pending = new Map<number, Pending>();

  /** Sends `request` by `send` and resolves at its reply; rejects with the reply's error. */
  call(request: Request, send: (text: string) => void): Promise<void> {
    if (this.#pending.size >= MAX_PENDING) {
      return Promise.reject(new AntiphonError("rate_limited", "Too many requests wait for an answer."));
    }
    const id = this.#nextId;
    this.#nextId = id >= 0xffff_ffff ? 1 : id + 1;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(id);
        reject(new AntiphonError("timeout", `The server did not answer "${request.type}" in time.`));
      }, REPLY_TIMEOUT_MS);
      this.#pending.set(id, { resolve, reject, timer });
      try {
        send(JSON.stringify({ id, ...request }));
      } catch {
        this.reply(id, { code: "closed", message: "The control channel is closed." });
      }
    });
  }

  /** Settles the request `id`; a reply nobody waits for is ignored. */
  reply(id: number, error?: ErrorBody): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    this.#pending.delete(id);
    clearTimeout(pending.timer);
    if (error === undefined) pending.resolve();
    else pending.reject(new AntiphonError(error.code, error.message));
  }

  /** Rejects everything that waits, as the connection is gone. */
  abandon(message: string): void {
    for (const id of [...this.#pending.keys()]) this.reply(id, { code: "closed", message });
  }
}
