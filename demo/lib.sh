# What the demos share: finding what they need, and starting programs that all end with them.
# shellcheck shell=bash
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"

tmp=$(mktemp -d /tmp/tars-demo.XXXXXX) # not in TMPDIR: the path of a Unix socket must be short
pids=()
fail() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}
logs() { tail -n 5 "$tmp"/*.log >&2; }
setup() { XDG_CACHE_HOME=$ROOT/.tools PIP_NO_CACHE_DIR=1 scripts/setup "$@"; }

# --- What it needs ----------------------------------------------------------------------------------------------

# XAUTOCLAIM came with Redis 6.2.
is_server() {
    local version
    version=$("$1" --version 2>/dev/null | sed -n 's/.* v=\([0-9.]*\).*/\1/p') && [ -n "$version" ] &&
        printf '%s\n' 6.2 "$version" | sort --check=silent --version-sort
}

find_server() {
    for server in "$(command -v redis-server)" "$(command -v valkey-server)" {"$CACHE","$ROOT/.tools/tars"}/"valkey-$VALKEY_VERSION/valkey-server"; do
        [ -z "$server" ] || ! is_server "$server" || return 0
    done
    return 1
}

# build PROGRAM [FILE] : PROGRAM of this repository, built unless FILE is one that is; its path is left in `built`.
build() {
    local name=${1//-/_}
    if [ -n "${2:-}" ]; then
        built=$2
        [ -x "$built" ] || fail "${name^^} is $built, which is no program; leave it out, and $1 is built"
        return
    fi
    say "Building $1 (some minutes the first time) …"
    built=$(cargo build --locked --package "$1" --bin "$1" --message-format=json-render-diagnostics |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p') ||
        fail "$1 could not be built: the lines above say why; \`make setup\` installs what building needs"
}

# --- Starting and ending ----------------------------------------------------------------------------------------

start() { # NAME COMMAND… : in the background, with a log of its own
    local name=$1
    shift
    : >"$tmp/$name.log" # it is read before the program has run
    "$@" >>"$tmp/$name.log" 2>&1 &
    pids+=($!)
}

until_there() { # NAME COMMAND… : what was started last is ready when the command succeeds; at most ten seconds
    local name=$1 since=$SECONDS
    shift
    until "$@"; do
        kill -0 "${pids[-1]}" 2>/dev/null || fail "the $name did not start: $(tail -n 1 "$tmp/$name.log")"
        [ $((SECONDS - since)) -lt 10 ] || fail "the $name was not ready within ten seconds: $(tail -n 1 "$tmp/$name.log")"
        sleep 0.05
    done
}

# addresses PROGRAM WHICH : those that it says in its log: it took free ports.
addresses() { sed -n 's/.*"message":"'"$2"'","address":"\([^"]*\)".*/\1/p' "$tmp/$1.log"; }
is_serving() { [ -n "$(addresses "$1" admin)" ]; }

end() { # The last that was started ends first: the services, then the proxy with its last spans, then Redis.
    local status=$? at pid
    trap '' INT TERM HUP
    exec 2>/dev/null # bash would tell of each that it was terminated
    for ((at = ${#pids[@]} - 1; at >= 0; at--)); do
        pid=${pids[at]}
        kill "$pid" || continue
        for _ in {1..120}; do
            kill -0 "$pid" || continue 2
            sleep 0.1
        done
        kill -KILL "$pid"
    done
    rm -rf "$tmp"
    exit "$status"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
