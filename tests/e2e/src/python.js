// Python programs beside the browsers: bots by the SDK, aiortc. Each prints JSON objects, one per line, with an `event`.

import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { ROOT } from "./server.js";

export const PYTHON = join(ROOT, "target/venv/bin/python");
export const SCRIPTS = new URL("../py/", import.meta.url).pathname;

export class Program {
  #process;
  #events = [];
  #waiting = new Set();
  #errors = [];
  /** Its exit code, when all that it said has been read. */
  #code;

  /** Starts tests/e2e/py/`script`, or what `command` says: a program and its first argument. */
  constructor(script, args, [program, file] = [PYTHON, join(SCRIPTS, script)]) {
    this.script = script;
    this.#process = spawn(program, [file, ...args.map(String)], { stdio: ["pipe", "pipe", "pipe"] });
    createInterface(this.#process.stderr).on("line", line => this.#errors.push(line));
    createInterface(this.#process.stdout).on("line", line => this.#take(line));
    this.ended = new Promise(resolve => this.#process.on("close", code => resolve(code)));
    this.ended.then(code => {
      this.#code = code ?? "killed";
      this.#wake();
    });
  }

  #take(line) {
    try {
      this.#events.push(JSON.parse(line));
    } catch {
      this.#errors.push(line);
    }
    this.#wake();
  }

  #wake() {
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }

  /** Forgets events of that name that nobody has taken yet. */
  drop(name) {
    this.#events = this.#events.filter(e => e.event !== name);
  }

  /** Waits for the next object with this `event`, and takes it. */
  async event(name, ms = 30_000) {
    let late = false;
    const limit = setTimeout(() => {
      late = true;
      this.#wake();
    }, ms);
    try {
      for (;;) {
        const at = this.#events.findIndex(e => e.event === name);
        if (at >= 0) return this.#events.splice(at, 1)[0];
        if (late || this.#code !== undefined) {
          throw new Error(`${this.script}: no ${name} (code ${this.#code ?? "none, it is late"})\n${this.#errors.slice(-20).join("\n")}`);
        }
        await new Promise(resolve => this.#waiting.add(resolve));
      }
    } finally {
      clearTimeout(limit);
    }
  }

  /** Says a line to it. */
  say(line) {
    this.#process.stdin.write(`${line}\n`);
  }

  /** Tells it to end (its standard input closes), and waits until it has. */
  async stop() {
    this.#process.stdin.end();
    const kill = setTimeout(() => this.#process.kill("SIGKILL"), 10_000);
    await this.ended;
    clearTimeout(kill);
  }
}
