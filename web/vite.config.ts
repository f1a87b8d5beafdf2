import { defineConfig } from "vite";

// The server serves dist/ at "/", "/r/{room}" and "/assets/*"; in development its API is behind the proxy.
export default defineConfig({
  resolve: {
    alias: { "@antiphon/client": new URL("../sdk/typescript/src/index.ts", import.meta.url).pathname },
  },
  build: { target: "es2022", assetsInlineLimit: 0, sourcemap: false },
  server: { proxy: { "/v1": process.env.ANTIPHON_URL ?? "http://localhost:7700" } },
});
