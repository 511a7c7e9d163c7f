# What every script here starts with: strict mode, the repository's root, the pinned versions, the cache's place.
# shellcheck shell=bash
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/tars
# shellcheck source=scripts/versions.env
source "$ROOT/scripts/versions.env"
cd "$ROOT"

# The tools that setup built come first: their versions are the pinned ones.
PATH=$CACHE/cargo-deny-$CARGO_DENY_VERSION/bin:$CACHE/cargo-fuzz-$CARGO_FUZZ_VERSION/bin:$PATH

say() { printf '%s\n' "$*"; }
fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }
# A remark for the table that CI closes with.
note() { [ -z "${NOTE:-}" ] || printf '%s\n' "$*" >>"$NOTE"; }
