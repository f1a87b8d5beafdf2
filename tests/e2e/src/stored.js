// What the tests of stored streams give their servers: streams are kept, one access key may do everything; and what lies in
// their data folders.

import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

export const KEY = "AKIDTEST";
export const SECRET = "a secret of this test only";

/** Who has this key may do everything. */
export const ACCESS = `[kvs]
access_key_id = "${KEY}"
secret_access_key = "${SECRET}"
`;

export const CONFIG = `[demo]
enabled = false

[store]
enabled = true

${ACCESS}`;

/** For calls that are kept: anybody may join any room. */
export const CALLS = `[demo]
enabled = false

[guests]
rooms = ["*"]

[stop]
deadline_s = 1

[store]
enabled = true
`;

/** Of what is there; `undefined`: it is gone meanwhile, as journals and temporary files are. */
function there(look) {
  try {
    return look();
  } catch (error) {
    if (error.code === "ENOENT") return undefined;
    throw error;
  }
}

/** Paths and sizes of all files in a folder, sorted. */
export function files(folder) {
  // A folder that goes while it is listed is seen in the next look.
  const all = there(() => readdirSync(folder, { recursive: true, withFileTypes: true })) ?? [];
  const paths = all.filter(entry => entry.isFile()).map(entry => join(entry.parentPath, entry.name));
  const seen = paths.map(path => [path, there(() => statSync(path).size)]);
  return new Map(seen.filter(([, size]) => size !== undefined).sort());
}

/** Looks for secrets in all files of a folder and in their paths: how many bytes were read, and where which was. */
export function search(folder, secrets) {
  const found = [];
  let read = 0;
  const wanted = secrets.map(secret => Buffer.from(secret));
  for (const path of files(folder).keys()) {
    const bytes = there(() => readFileSync(path)) ?? Buffer.alloc(0);
    read += bytes.length;
    const told = wanted.filter(secret => bytes.includes(secret) || path.includes(secret.toString("latin1")));
    found.push(...told.map(secret => `${secret} is in ${path}`));
  }
  return { read, found };
}
