// Relays between one browser and the server's media port, by UDP and by TCP. Cut, they lose everything: a network that is
// gone.

import { createSocket } from "node:dgram";
import { connect, createServer } from "node:net";

export class Relay {
  #inside = createSocket("udp4");
  #outside = createSocket("udp4");
  #browser;
  #server;
  cut = false;

  static async open() {
    const relay = new Relay();
    const bind = socket => new Promise(resolve => socket.bind(0, "127.0.0.1", resolve));
    await Promise.all([bind(relay.#inside), bind(relay.#outside)]);
    relay.#inside.on("message", (data, from) => {
      relay.#browser = from;
      if (!relay.cut && relay.#server) relay.#outside.send(data, relay.#server, "127.0.0.1");
    });
    relay.#outside.on("message", data => {
      if (!relay.cut && relay.#browser) relay.#inside.send(data, relay.#browser.port, relay.#browser.address);
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
