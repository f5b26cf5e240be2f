#!/bin/sh
# Installs what the benchmark needs and is missing: the servers to compare with and two load generators from Debian,
# then the npm packages of the demo, whose OpenID Provider signs the users in.
#
# It never replaces what is there, starts no service, and asks for root only when a Debian package is missing.
set -eu

here=$(cd "$(dirname "$0")" && pwd)

missing=
need() { # the package, then a program or file of it
  command -v "$2" >/dev/null 2>&1 || [ -e "$2" ] || missing="$missing $1"
}
need nginx-light /usr/sbin/nginx
need haproxy /usr/sbin/haproxy
need apache2 /usr/sbin/apache2
need libapache2-mod-auth-openidc /usr/lib/apache2/modules/mod_auth_openidc.so
need wrk wrk
need nghttp2-client h2load
if [ "${1:-}" = instructions ]; then missing=; need valgrind valgrind; fi

if [ -n "$missing" ]; then
  as_root=
  if [ "$(id -u)" -ne 0 ]; then as_root=sudo; fi
  # The benchmark starts its own servers; Debian's packages would start theirs. Only while they are installed.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
    trap '$as_root rm -f "$policy"' EXIT
  fi
  $as_root apt-get update -q
  # shellcheck disable=SC2086  # a list of packages
  DEBIAN_FRONTEND=noninteractive $as_root apt-get install -q -y --no-install-recommends $missing
fi
if [ "${1:-}" = instructions ]; then exit 0; fi

# A link leads to somebody else's packages: npm would empty the folder behind it.
if [ -L "$here/../demo/node_modules" ]; then exit 0; fi
installed="$here/../demo/node_modules/.package-lock.json"
if [ ! -e "$installed" ] || [ "$here/../demo/package-lock.json" -nt "$installed" ]; then
  (cd "$here/../demo" && npm ci --no-fund --no-audit)
fi
