// A sound device that leads nowhere: without one Firefox never starts an AudioContext. (Chromium has its own.)

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until } from "./until.js";

/** Starts PulseAudio with a null sink, for us alone. Gives the environment for who uses it, and `stop`. */
export async function startSound() {
  const folder = mkdtempSync(join(tmpdir(), "antiphon-sound-"));
  const socket = join(folder, "native");
  const args = ["-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1", "--disable-shm=yes"];
  // The rate of the page's AudioContext: Firefox connects no track of a device's other rate to it.
  const modules = [`module-native-protocol-unix auth-anonymous=1 socket=${socket}`, "module-null-sink rate=48000"];
  const process_ = spawn("pulseaudio", [...args, ...modules.map(m => `--load=${m}`)], {
    stdio: "ignore",
    env: { ...process.env, XDG_RUNTIME_DIR: folder, HOME: folder },
  });
  const failed = new Promise((_, reject) => process_.on("error", reject));
  const ended = new Promise(resolve => process_.on("exit", resolve));
  await Promise.race([until("pulseaudio listens", () => existsSync(socket)), failed]);
  const stop = async () => {
    process_.kill();
    await ended;
    rmSync(folder, { recursive: true, force: true });
  };
  return { env: { PULSE_SERVER: `unix:${socket}` }, stop };
}
