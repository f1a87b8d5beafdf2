// What the tests of stored streams give their servers: streams are kept, one access key may do everything.

export const KEY = "AKIDTEST";
export const SECRET = "a secret of this test only";

export const CONFIG = `[demo]
enabled = false

[store]
enabled = true

[kvs]
access_key_id = "${KEY}"
secret_access_key = "${SECRET}"
`;
