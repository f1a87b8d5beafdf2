// A TURN server for one test file: coturn at free ports of this machine, whose passwords are made of a secret and expire.

import { execFileSync, spawn } from "node:child_process";
import { X509Certificate, createHash, randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { connect as connectByTls } from "node:tls";
import { PYTHON, SCRIPTS } from "./python.js";
import { until } from "./until.js";

const PROGRAM = process.env.TURNSERVER ?? "turnserver";
/** An address of the machine's, as the media ports have it: Firefox reaches none of the loopback from others. */
const ADDRESS = Object.values(networkInterfaces()).flat().find(i => i.family === "IPv4" && !i.internal)?.address ?? "127.0.0.1";
/** Firefox goes to no address by TLS, only to names. */
const NAME = "localhost";
/** It writes nothing outside `folder`. */
const flags = (port, tlsPort, secret, folder) => [
  ..."-n --no-cli --no-dtls --simple-log --log-file stdout --realm antiphon.test --fingerprint".split(" "),
  ...`--listening-ip ${ADDRESS} --listening-ip 127.0.0.1 --relay-ip ${ADDRESS} --allow-loopback-peers --use-auth-secret`.split(" "),
  ...["--listening-port", port, "--tls-listening-port", tlsPort, "--static-auth-secret", secret],
  ...["--cert", join(folder, "cert.pem"), "--pkey", join(folder, "key.pem")],
  ...["--userdb", join(folder, "turndb"), "--pidfile", join(folder, "pid")],
];

/** A port that is free for UDP and for TCP: coturn wants one number for both, and takes no 0. */
async function freePort() {
  const tcp = createServer();
  await new Promise(resolve => tcp.listen(0, "0.0.0.0", resolve));
  const { port } = tcp.address();
  const udp = createSocket("udp4");
  await new Promise((resolve, reject) => udp.on("error", reject).bind(port, resolve));
  await Promise.all([tcp, udp].map(socket => new Promise(resolve => socket.close(resolve))));
  return port;
}

/** A binding request (RFC 8489, 5) without attributes. */
const BINDING = Buffer.from("000100002112a442616e746970686f6e74757221", "hex");

async function answersByUdp(port) {
  const socket = createSocket("udp4");
  const signal = AbortSignal.timeout(500);
  try {
    socket.send(BINDING, port, ADDRESS);
    await once(socket, "message", { signal });
    return true;
  } finally {
    socket.close();
  }
}

async function answersBy(socket) {
  const signal = AbortSignal.timeout(500);
  try {
    socket.write(BINDING);
    await once(socket, "data", { signal });
    return true;
  } finally {
    socket.destroy();
  }
}

const answersByTcp = port => answersBy(connect(port, ADDRESS));
/** Its certificate is its own: that it answers is all that is looked for here. */
const answersByTls = port => answersBy(connectByTls({ port, host: "127.0.0.1", rejectUnauthorized: false }));

export class TurnServer {
  #folder = mkdtempSync(join(tmpdir(), "antiphon-turn-"));
  #process;
  #ended;
  #log = [];
  /** What passwords are made of. Others in the network see the port, too. */
  secret = randomBytes(16).toString("hex");
  /** By UDP, by TCP, and by TLS. */
  urls;
  /** The hash of its certificate's public key, by which Chromium is told to take it: `--ignore-certificate-errors-spki-list`. */
  spki;
  /** The file with its certificate's authority. */
  ca;

  static async start() {
    const turn = new TurnServer();
    const [port, tlsPort] = [await freePort(), await freePort()];
    turn.urls = [`turn:${ADDRESS}:${port}`, `turn:${ADDRESS}:${port}?transport=tcp`, `turns:${NAME}:${tlsPort}?transport=tcp`];
    turn.#makeCertificate();
    turn.#process = spawn(PROGRAM, flags(port, tlsPort, turn.secret, turn.#folder), { cwd: turn.#folder, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [turn.#process.stdout, turn.#process.stderr]) {
      createInterface(stream).on("line", line => turn.#log.push(line));
    }
    turn.#ended = new Promise(resolve => turn.#process.on("close", resolve).on("error", error => resolve(turn.#log.push(String(error)))));
    try {
      await until("coturn answers", () => Promise.all([answersByUdp(port), answersByTcp(port), answersByTls(tlsPort)]));
    } catch (error) {
      await turn.stop();
      throw new Error(`${error.message}: run \`make test-deps\`, or set TURNSERVER\n${turn.#log.join("\n")}`);
    }
    return turn;
  }

  #makeCertificate() {
    execFileSync(PYTHON, [join(SCRIPTS, "certificate.py"), this.#folder]);
    this.ca = join(this.#folder, "ca.pem");
    const { publicKey } = new X509Certificate(readFileSync(join(this.#folder, "cert.pem")));
    this.spki = createHash("sha256").update(publicKey.export({ type: "spki", format: "der" })).digest("base64");
  }

  async stop() {
    this.#process.kill("SIGKILL");
    await this.#ended;
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
