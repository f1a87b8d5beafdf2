// What every test file has: one server, the browsers it names, rooms of its own, and all closed at the end.

import { after, afterEach, before } from "node:test";
import { launchChromium, launchFirefox } from "./browsers.js";
import { Program } from "./python.js";
import { Server } from "./server.js";

/** @param {{firefox?: boolean, chromium?: boolean, chromiumArgs?: string[], firefoxTrusts?: string, server?: object}} wanted */
export function suite(wanted = {}) {
  const it = { server: undefined, chromium: undefined, firefox: undefined };
  const programs = [];
  let rooms = 0;

  before(async () => {
    it.server = await Server.start(wanted.server);
    if (wanted.chromium) it.chromium = await launchChromium(wanted.chromiumArgs);
    if (wanted.firefox) it.firefox = await launchFirefox({ ca: wanted.firefoxTrusts });
  });
  afterEach(async () => {
    await Promise.all(programs.splice(0).map(program => program.stop()));
    await it.chromium?.clear();
    await it.firefox?.clear();
  });
  after(async () => {
    await Promise.allSettled([it.chromium?.close(), it.firefox?.close()]);
    await it.server?.stop();
  });

  /** A room that nobody else is in. */
  it.room = () => `room-${++rooms}`;
  /** A request with a token; gives status and JSON. */
  it.ask = async (token, method, path, body) => {
    const headers = { authorization: `Bearer ${token}` };
    const response = await it.server.fetch(path, { method, headers, body: body && JSON.stringify(body) });
    const text = await response.text();
    return { status: response.status, json: text ? JSON.parse(text) : undefined };
  };
  /** Opens the page in `browser` and joins. Gives the person with its participant `id`. */
  it.join = async (browser, room, name, options = {}) => {
    const person = await browser.open(it.server.page(room, { name, token: options.token }), options);
    person.id = await person.joined();
    person.name = name;
    return person;
  };
  /** Starts a Python program in a room. */
  it.python = async (script, room, ...args) => {
    const token = await it.server.token(room);
    const program = new Program(script, [it.server.url, room, "--token", token, ...args]);
    programs.push(program);
    return program;
  };
  /** Starts a program of whatever kind; it ends with the test. */
  it.start = (script, args, command) => {
    const program = new Program(script, args, command);
    programs.push(program);
    return program;
  };
  return it;
}
