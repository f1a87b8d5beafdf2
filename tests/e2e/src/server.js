// The real server for one test file: target/debug/antiphon on free ports with a data folder of its own.

import { execFile, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

export const ROOT = new URL("../../..", import.meta.url).pathname;
export const BINARY = process.env.ANTIPHON_BINARY ?? join(ROOT, "target/debug/antiphon");
const READY = /^antiphon: listening on (http\S+)/;
/** The line before it, where stored streams have a port of their own. */
const STREAMS = /^antiphon: streams on (http\S+)/;
const START_TIMEOUT_MS = 20_000;
const STOP_TIMEOUT_MS = 15_000;

/**
 * All interfaces: Firefox gathers no loopback candidates here (its preference for that has no effect), and packets to
 * the machine's own address go through loopback all the same.
 */
const MEDIA = "0.0.0.0:0";
/** Every room takes guests and no demo bot is there, unless `config` (TOML) says otherwise. */
const CONFIG = '[guests]\nrooms = ["*"]\n\n[demo]\nenabled = false\n\n[stop]\ndeadline_s = 1\n';

export class Server {
  /** Variables beside those of the test. */
  #environment = {};
  #process;
  #folder = mkdtempSync(join(tmpdir(), "antiphon-e2e-"));
  #log = [];
  #how;

  /** @param {{config?: string, shards?: number | null}} options `null`: as many as the server takes by itself. */
  static async start({ config = CONFIG, shards = 2, media = MEDIA } = {}) {
    const server = new Server();
    const flags = shards === null ? [] : ["--shards", String(shards)];
    await server.#start(config, ["--media", media, ...flags]);
    return server;
  }

  async #start(config, flags) {
    this.#how = [config, flags];
    const file = join(this.#folder, "antiphon.toml");
    writeFileSync(file, config);
    const args = ["serve", "--config", file, "--data", this.data, "--http", "127.0.0.1:0", ...flags];
    this.#process = spawn(BINARY, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, RUST_LOG: "", ...this.#environment } });
    createInterface(this.#process.stderr).on("line", line => this.#log.push(line));
    this.ended = new Promise(resolve => {
      // Not "exit": its last lines come after that.
      this.#process.on("close", (code, signal) => resolve(signal ?? code));
      this.#process.on("error", error => this.#log.push(String(error)) && resolve("error"));
    });
    const ready = new Promise(resolve => {
      createInterface(this.#process.stdout).on("line", line => {
        this.streams ??= STREAMS.exec(line)?.[1];
        const found = READY.exec(line);
        if (found) resolve(found[1]);
      });
    });
    const limit = AbortSignal.timeout(START_TIMEOUT_MS);
    const late = new Promise(resolve => limit.addEventListener("abort", () => resolve(undefined)));
    this.url = await Promise.race([ready, late, this.ended.then(() => undefined)]);
    if (!this.url) throw new Error(`the server did not start:\n${this.log}`);
    this.pid = this.#process.pid;
  }

  /** Its data folder. */
  get data() {
    return join(this.#folder, "data");
  }

  /** Its configuration's file. */
  get config() {
    return join(this.#folder, "antiphon.toml");
  }

  /** The program itself, for tests that start it their own way. */
  get binary() {
    return BINARY;
  }

  /** What it logged, as one text. */
  get log() {
    return this.#log.join("\n");
  }

  /** Ends it, and starts it over the same data with another configuration and more variables; its URL is another. */
  async restart(config, environment = {}) {
    this.#process.kill("SIGTERM");
    await this.ended;
    this.#environment = environment;
    this.streams = undefined;
    await this.#start(config, this.#how[1]);
  }

  /** A signed token, as `antiphon token` prints it. @returns {Promise<string>} */
  async token(room, { identity, name, contact, grants, ttl } = {}) {
    const given = Object.entries({ identity, name, contact, grants, ttl }).filter(([, value]) => value !== undefined);
    const args = ["token", "--data", this.data, "--room", room, ...given.flatMap(([k, v]) => [`--${k}`, String(v)])];
    const { stdout } = await promisify(execFile)(BINARY, args);
    return stdout.trim();
  }

  fetch(path, options) {
    return fetch(new URL(path, this.url), { ...options, signal: AbortSignal.timeout(15_000) });
  }

  /** The address by which a person joins at once. */
  page(room, { name = "Ada", token } = {}) {
    const fragment = token ? `#token=${token}` : "";
    return `${this.url}/r/${room}?autojoin=1&name=${encodeURIComponent(name)}${fragment}`;
  }

  signal(name) {
    this.#process.kill(name);
  }

  /** Ends it as a crash does, and starts it again over the same data; its URL is another. */
  async crash() {
    this.#process.kill("SIGKILL");
    await this.ended;
    await this.#start(...this.#how);
  }

  async stop() {
    this.#process.kill("SIGTERM");
    const kill = setTimeout(() => this.#process.kill("SIGKILL"), STOP_TIMEOUT_MS);
    await this.ended;
    clearTimeout(kill);
    rmSync(this.#folder, { recursive: true, force: true });
    if (/panicked at/.test(this.log)) throw new Error(`the server panicked:\n${this.log}`);
  }
}
