#!/usr/bin/env bash
# Installs the TypeScript workspaces' packages (only when the lock changed) and builds the web client into web/dist.
set -euo pipefail
cd "$(dirname "$0")/.."
lock=$(sha256sum <package-lock.json)
if [ "$(cat node_modules/.installed 2>/dev/null)" != "$lock" ]; then
    npm ci --no-audit --no-fund
    echo "$lock" >node_modules/.installed
fi
npm run build
