#!/usr/bin/env bash
# Installs what the tests need and is missing: two browsers, GStreamer, FFmpeg, a sound server, a TURN server, and a Python virtual environment in target/venv.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/apt.sh

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
missing=()
command -v python3 >/dev/null || missing+=(python3)
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
# Ubuntu packages its browsers as snaps under other names; any of these will do (or CHROMIUM=..., FIREFOX=...).
has_any() { for name in "$@"; do command -v "$name" >/dev/null && return 0; done; return 1; }
[ -n "${CHROMIUM:-}" ] || has_any chromium chromium-browser google-chrome || missing+=(chromium)
[ -n "${FIREFOX:-}" ] || has_any firefox-esr firefox || missing+=(firefox-esr)
# Firefox trusts an authority of the tests' by its profile's data base.
command -v certutil >/dev/null || missing+=(libnss3-tools)
# Firefox starts no AudioContext without a sound device: a null sink of PulseAudio is one.
command -v pulseaudio >/dev/null || missing+=(pulseaudio)
# GStreamer's WebRTC with encoders, and its Python binding for the system's own Python.
gst=(gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly
    gstreamer1.0-libav gstreamer1.0-nice python3-gi gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0 gir1.2-gst-plugins-bad-1.0)
for package in "${gst[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok' || missing+=("$package")
done
# What producers of stored streams use, and what looks at what comes back.
command -v ffmpeg >/dev/null || missing+=(ffmpeg)
command -v mkvinfo >/dev/null || missing+=(mkvtoolnix)
command -v curl >/dev/null || missing+=(curl)
apt_install "${missing[@]}"
# A TURN server, which the tests start themselves; Debian's package would have one run on this machine from now on.
if [ -z "${TURNSERVER:-}" ] && ! command -v turnserver >/dev/null; then
    service() { [ ! -d /run/systemd/system ] || as_root systemctl --quiet "$1" coturn; }
    service mask
    apt_install coturn
    service unmask
    service disable
fi

venv=target/venv
wanted=$(cat tests/e2e/py/requirements.txt sdk/python/pyproject.toml 2>/dev/null | sha256sum)
if [ "$(cat $venv/.installed 2>/dev/null)" != "$wanted" ]; then
    mkdir -p target
    [ -x $venv/bin/python ] || python3 -m venv $venv
    pip() { $venv/bin/python -m pip --disable-pip-version-check --quiet "$@"; }
    pip install -r tests/e2e/py/requirements.txt
    pip install -e sdk/python
    echo "$wanted" >$venv/.installed
fi
