// Relays between one browser and the server's media port, by UDP and by TCP. Cut, they lose everything: a network that is
// gone. By UDP they can be bad lines, too.

import { createSocket } from "node:dgram";
import { connect, createServer } from "node:net";

/** A way through the relay: `loss` 0 to 1, `delay` in ms, `rate` in bits per second with a queue of `queue` ms; `offered` counts the bytes that came to it. */
class Way {
  #free = 0;
  loss = 0;
  delay = 0;
  rate = Infinity;
  queue = 200;
  offered = 0;

  pass(bytes, send) {
    this.offered += bytes;
    const now = performance.now();
    const begin = Math.max(this.#free, now);
    if (Math.random() < this.loss || begin - now > this.queue) return;
    this.#free = begin + (bytes * 8_000) / this.rate;
    const wait = this.#free - now + this.delay;
    if (wait < 1) send();
    else setTimeout(send, wait);
  }
}

export class Relay {
  #inside = createSocket("udp4");
  #outside = createSocket("udp4");
  #browser;
  #server;
  #closed = false;
  cut = false;
  /** To the browser, and to the server. */
  down = new Way();
  up = new Way();

  static async open() {
    const relay = new Relay();
    const bind = socket => new Promise(resolve => socket.bind(0, "127.0.0.1", resolve));
    await Promise.all([bind(relay.#inside), bind(relay.#outside)]);
    relay.#inside.on("message", (data, from) => {
      relay.#browser = from;
      if (relay.cut || !relay.#server) return;
      relay.up.pass(data.length, () => relay.#closed || relay.#outside.send(data, relay.#server, "127.0.0.1"));
    });
    relay.#outside.on("message", data => {
      const to = relay.#browser;
      if (relay.cut || !to) return;
      relay.down.pass(data.length, () => relay.#closed || relay.#inside.send(data, to.port, to.address));
    });
    return relay;
  }

  get port() {
    return this.#inside.address().port;
  }

  /** Where the packets go on to. */
  to(port) {
    this.#server = port;
  }

  close() {
    this.#closed = true;
    this.#inside.close();
    this.#outside.close();
  }
}

/** As {@link Relay}, by TCP. What is cut stays open on both sides, and silent. */
export class TcpRelay {
  #sockets = new Set();
  /** Says where the packets go on to. */
  to;
  #server = new Promise(resolve => {
    this.to = resolve;
  });
  #listener = createServer(async inside => {
    const outside = connect(await this.#server, "127.0.0.1");
    for (const [from, to] of [
      [inside, outside],
      [outside, inside],
    ]) {
      this.#sockets.add(from);
      from.on("data", data => this.cut || to.write(data));
      from.on("close", () => this.cut || to.destroy());
      from.on("error", () => from.destroy());
    }
  });
  cut = false;

  static async open() {
    const relay = new TcpRelay();
    await new Promise(resolve => relay.#listener.listen(0, "127.0.0.1", resolve));
    return relay;
  }

  get port() {
    return this.#listener.address().port;
  }

  close() {
    this.#listener.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
