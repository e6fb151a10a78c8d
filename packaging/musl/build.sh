#!/bin/sh
# Build libkeyway.so for systems with musl, and tell what came out.
#
#   packaging/musl/build.sh [TARGET...]
#
# Without a TARGET: all of the list below that this machine can build; the others are named with what they lack. What is
# built is target/TARGET/small/libkeyway.so. It needs musl's libc.so and nothing else.
set -eu
cd "$(dirname "$0")/../.."

# The C compiler of a target: ring has C and assembler code.
compiler() {
    case $1 in
    x86_64-unknown-linux-musl) [ "$(uname -m)" = x86_64 ] && echo gcc || echo x86_64-linux-gnu-gcc ;;
    aarch64-unknown-linux-musl) [ "$(uname -m)" = aarch64 ] && echo gcc || echo aarch64-linux-gnu-gcc ;;
    *) return 1 ;;
    esac
}
known="x86_64-unknown-linux-musl aarch64-unknown-linux-musl"

# What a target lacks on this machine; nothing if it can be built.
lacking() {
    [ -f "$(rustc --print target-libdir --target "$1")/self-contained/libunwind.a" ] || echo "rustup target add $1"
    command -v "$(compiler "$1")" >/dev/null || echo "a C compiler, $(compiler "$1")"
}

build() {
    target=$1
    cc=$(compiler "$target")
    own=$(rustc --print target-libdir --target "$target")/self-contained
    link=target/musl-link/$target
    mkdir -p "$link"
    # The compiler's own libraries are glibc's. A library with the names of musl's functions, of which Rust brings a copy,
    # and with nothing in them stands for musl's, so that the linker finds out if anything else were needed. The unwinder
    # goes in: not every small system has libgcc_s.so.
    {
        nm --defined-only --format=posix "$own/libc.a" 2>/dev/null | awk '$2 ~ /[TWDBRV]/ { print $1 }'
        # Of the loader, which has no part in the archive.
        echo __tls_get_addr
    } | sort -u | sed 's/.*/.globl &\n&:/' >"$link/libc.s"
    "$cc" -shared -nostdlib "$link/libc.s" -Wl,-soname,libc.so -o "$link/libc.so"
    echo "INPUT($own/libunwind.a)" >"$link/libgcc_s.so"

    name=$(echo "$target" | tr a-z- A-Z_)
    env "CC_$(echo "$target" | tr - _)=$cc" \
        "CARGO_TARGET_${name}_LINKER=$cc" \
        "CARGO_TARGET_${name}_RUSTFLAGS=-C target-feature=-crt-static -L native=$PWD/$link -C link-arg=-Wl,-z,defs" \
        cargo build --locked --quiet --profile small --target "$target" -p keyway-module
}

report() {
    library=target/$1/small/libkeyway.so
    needed=$(readelf --dynamic --wide "$library" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | tr '\n' ' ')
    printf '%-32s %9d bytes  %9d gzipped  needs %s\n' "$1" "$(stat -c %s "$library")" "$(gzip -9c "$library" | wc -c)" "$needed"
}

if [ $# -gt 0 ]; then
    targets=$*
else
    targets=
    for target in $known; do
        lacks=$(lacking "$target")
        if [ -z "$lacks" ]; then
            targets="$targets $target"
        else
            echo "$lacks" | sed "s/^/keyway: $target is left out, it needs: /" >&2
        fi
    done
fi
[ -n "$targets" ] || exit 1
for target in $targets; do
    lacks=$(lacking "$target")
    [ -z "$lacks" ] || { echo "keyway: $target needs: $lacks" >&2; exit 1; }
    build "$target"
done
for target in $targets; do report "$target"; done
