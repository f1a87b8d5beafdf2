// A UDP relay between one browser and the server's media port. Cut, it loses everything: a network that is gone.

import { createSocket } from "node:dgram";

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
