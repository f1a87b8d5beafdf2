// What the tests of stored streams give their servers: streams are kept, one access key may do everything.

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
