// The program of the official Rust SDK (tests/e2e/rust), which is a workspace of its own.

import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { ROOT } from "./server.js";

/** Where it is, once `build` has been. */
export const RUST = join(ROOT, "target/aws/debug/antiphon-e2e-aws");

/** Builds it, which `make test` has done before. */
export async function build() {
  const options = { cwd: new URL("../rust/", import.meta.url).pathname, maxBuffer: 1 << 24 };
  await promisify(execFile)("cargo", ["build", "--locked"], options);
}
