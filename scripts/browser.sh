#!/usr/bin/env bash
# A Chromium for the tests of the pages: there already, or from the system's packages where we may install them.
set -euo pipefail
for name in "${CHROMIUM:-}" chromium chromium-browser google-chrome; do
    [ -z "$name" ] || ! command -v "$name" >/dev/null || exit 0
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "setup: chromium from the system's packages"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium; } >/dev/null 2>&1 && exit 0
fi
echo "no Chromium here: the tests of the pages are skipped. Install it (Debian: apt-get install chromium), or name it: CHROMIUM=..." >&2
