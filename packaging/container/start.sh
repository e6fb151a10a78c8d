#!/bin/sh
# Runs the gateway and its API; when one of them ends, so does the container.
set -eu

conf=${KEYWAY_CONFIG:-/etc/keyway/keyway.toml}
keyway=${KEYWAY_COMMAND:-/opt/keyway/bin/keyway}

"$keyway" serve -c "$conf" &
gateway=$!
"$keyway" api -c "$conf" &
api=$!

stop() {
    kill -TERM "$api" "$gateway" 2>/dev/null || true
}
trap stop TERM INT

# POSIX has no wait for whichever ends first.
while kill -0 "$gateway" 2>/dev/null && kill -0 "$api" 2>/dev/null; do
    sleep 1 &
    wait $! || true
done
stop
wait "$api" || true
wait "$gateway"
