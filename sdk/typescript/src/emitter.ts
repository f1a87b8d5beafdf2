// Typed events: a listener gets one value.

type Listener<T> = (value: T) => void;

/** Emits the events named by `Events`. A listener that throws does not keep others from hearing. */
export class Emitter<Events extends object> {
  readonly #listeners = new Map<keyof Events, Set<Listener<never>>>();

  /** Calls `listener` at each `event`, until the returned function is called. */
  on<K extends keyof Events>(event: K, listener: Listener<Events[K]>): () => void {
    const set = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, set);
    set.add(listener as Listener<never>);
    return () => set.delete(listener as Listener<never>);
  }

  /** Resolves at the next `event`. */
  once<K extends keyof Events>(event: K): Promise<Events[K]> {
    return new Promise(resolve => {
      const off = this.on(event, value => {
        off();
        resolve(value);
      });
    });
  }

  protected emit<K extends keyof Events>(event: K, value: Events[K]): void {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) {
      try {
        (listener as Listener<Events[K]>)(value);
      } catch (error) {
        console.error(`antiphon: a listener of "${String(event)}" threw`, error);
      }
    }
  }
}
