#!/bin/sh
# Install the Debian packages named in the given list files, if one of them is missing.
# Silent, and without network or privileges, when nothing is.
set -eu

missing=
for list in "$@"; do
    [ -f "$list" ] || continue
    for package in $(sed 's/#.*//' "$list"); do
        status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
        [ "$status" = installed ] || missing="$missing $package"
    done
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "keyway: this is no Debian system; please install what it calls:$missing" >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null; then
    as_root=sudo
else
    echo "keyway: these packages are missing, and there is neither root nor sudo to install them:$missing" >&2
    exit 1
fi
echo "keyway: installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq
# shellcheck disable=SC2086  # a list of words on purpose
$as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
