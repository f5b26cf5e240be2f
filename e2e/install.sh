#!/bin/sh
# Installs what the end-to-end tests need and is missing: Chromium, certutil, nginx and Python from Debian, then the npm
# packages of e2e and demo exactly as their lock files say.
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

if [ -n "$missing" ]; then
  as_root=
  if [ "$(id -u)" -ne 0 ]; then as_root=sudo; fi
  $as_root apt-get update -q
  # shellcheck disable=SC2086  # a list of packages
  DEBIAN_FRONTEND=noninteractive $as_root apt-get install -q -y --no-install-recommends $missing
fi

for folder in "$here" "$here/../demo"; do
  installed="$folder/node_modules/.package-lock.json"
  if [ ! -e "$installed" ] || [ "$folder/package-lock.json" -nt "$installed" ]; then
    (cd "$folder" && npm ci --no-fund --no-audit)
  fi
done
