# Sourced by ./demo and ./check: installs what a fresh Debian machine with Rust still lacks. Nothing else is changed.

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# as_root COMMAND…: runs it as root, or says what to type.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else die "this needs root once: run '$*' as root, then start again"
  fi
}

# need COMMAND=PACKAGE…: installs the Debian packages of the commands that are missing.
need() {
  local pair packages=()
  for pair in "$@"; do
    command -v "${pair%%=*}" >/dev/null || packages+=("${pair#*=}")
  done
  [ ${#packages[@]} = 0 ] && return
  command -v apt-get >/dev/null || die "please install: ${packages[*]}"
  say "installing ${packages[*]}"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
}

command -v cargo >/dev/null || [ ! -f "$HOME/.cargo/env" ] || . "$HOME/.cargo/env"
command -v cargo >/dev/null || die "cargo is missing; install Rust 1.95 or newer from https://rustup.rs"
