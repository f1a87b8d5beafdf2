import { defineConfig } from "vitest/config";

// Unit tests of the SDK and of the web client's logic. Browsers are tests/e2e's.
export default defineConfig({
  resolve: {
    alias: { "@antiphon/client": new URL("./sdk/typescript/src/index.ts", import.meta.url).pathname },
  },
  test: { include: ["sdk/typescript/test/**/*.test.ts", "web/test/**/*.test.ts"] },
});
