# shellcheck shell=bash
# The distribution's packages that this project needs, and how the missing ones get installed. Sourced by the other
# scripts; defines functions only.

# Debian keeps daemons and some tools where an ordinary user's PATH does not look.
PATH="$PATH:/usr/sbin:/sbin"

say() {
    printf '%s\n' "$*" >&2
}

fail() {
    say "error: $*"
    exit 1
}

# Runs a command as root: shown first, with sudo only where it is needed.
as_root() {
    if ((EUID == 0)); then
        say "+ $*"
        "$@"
    elif command -v sudo >/dev/null; then
        say "+ sudo $*"
        sudo -- "$@"
    else
        fail "this needs root and sudo is not installed; run it as root yourself: $*"
    fi
}

# Succeeds where what the package brings is there already, wherever it came from.
is_there() {
    case $1 in
    build-essential) command -v cc >/dev/null && [[ -e $(cc -print-file-name=libc.a) ]] ;; # linked statically
    ca-certificates) [[ -s /etc/ssl/certs/ca-certificates.crt || -s /etc/pki/tls/certs/ca-bundle.crt ]] ;;
    dbus-user-session) [[ -e /usr/lib/systemd/user/dbus.socket ]] ;;
    docker.io) command -v docker >/dev/null && command -v dockerd >/dev/null ;;
    iproute2) command -v ip >/dev/null ;;
    npm) command -v node >/dev/null && command -v npm >/dev/null ;;
    uidmap) command -v newuidmap >/dev/null && command -v newgidmap >/dev/null ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

# ensure_packages NAME…: installs those (Debian's names) that are not there.
ensure_packages() {
    local missing=() package
    for package in "$@"; do
        is_there "$package" || missing+=("$package")
    done
    if ((${#missing[@]} == 0)); then
        return
    fi
    if ! command -v apt-get >/dev/null; then
        fail "these are missing, and only apt-get is known to this script: ${missing[*]} (Debian's names)." \
            "Install them with your package manager and run this again."
    fi
    say "missing: ${missing[*]}"
    as_root apt-get update --quiet >&2
    # What is only recommended stays out: no mail server comes along, and what is needed is named.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends "${missing[@]}" >&2
}
