#!/usr/bin/env bash
# Installs what building Antiphon needs and is missing: a C/C++ compiler, nasm, cmake, libvpx.
# Rust (rustup) and Node.js are the user's own; this only says so when they are missing.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/apt.sh

missing=()
command -v cc >/dev/null && command -v c++ >/dev/null && command -v make >/dev/null || missing+=(build-essential)
command -v nasm >/dev/null || missing+=(nasm)
command -v cmake >/dev/null || missing+=(cmake)
compgen -G "/usr/lib/*-linux-gnu/libvpx.a" >/dev/null || compgen -G "/usr/l*/lib*/libvpx.a" >/dev/null \
    || [ -e "${LIBVPX_LIB_DIR:-/none}/libvpx.a" ] || missing+=(libvpx-dev)
apt_install "${missing[@]}"

if ! command -v cargo >/dev/null; then
    echo "Rust is missing. Install it from https://rustup.rs, open a new shell and try again." >&2
    exit 1
fi
if ! command -v npm >/dev/null; then
    echo "Node.js (20 or newer, with npm) is missing. Install it and try again." >&2
    exit 1
fi
major=$(node --version | sed 's/^v\([0-9]*\).*/\1/')
if [ "$major" -lt 20 ]; then
    echo "Node.js 20 or newer is needed; this is $(node --version)." >&2
    exit 1
fi
