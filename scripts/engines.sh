# shellcheck shell=bash
# Real engines for tests and benchmarks: rootful podman, rootless podman of an ordinary user, and docker with its own
# daemon. Sourced by scripts/test and scripts/bench; exports what tests/engine reads (ENGINE_TEST_*).
#
# A daemon that runs already is used as it is. One that is started here is ended by its pid. Run as an ordinary user,
# only that user's rootless podman (and docker, where the user may) are there.

ENGINE_TEST_USER_NAME=codex-mcp-test
engine_daemon_pid=
engine_directory=

# engines_start PROGRAM
engines_start() {
    # A checkout may lie where an ordinary user can't look, so all lanes run a copy.
    engine_directory=$(mktemp -d /tmp/codex-mcp-test.XXXXXX)
    chmod 0755 "$engine_directory"
    install -m 0755 "$1" "$engine_directory/codex-mcp"
    export ENGINE_TEST_PROGRAM=$engine_directory/codex-mcp
    export ENGINE_TEST_LANES=
    if [ "$(id -u)" = 0 ]; then
        engines_ordinary_user
        ENGINE_TEST_LANES="rootful-podman rootless-podman"
    else
        ENGINE_TEST_LANES="rootless-podman"
    fi
    if engines_docker; then
        ENGINE_TEST_LANES="$ENGINE_TEST_LANES docker"
    elif [ "${CI:-}" = true ]; then
        echo "docker is wanted in CI and could not be started" >&2
        return 1
    fi
    echo "lanes: $ENGINE_TEST_LANES" >&2
}

# Rootless podman is tested as a user of its own, never as root.
engines_ordinary_user() {
    local name=$ENGINE_TEST_USER_NAME
    if ! id "$name" >/dev/null 2>&1; then
        echo "+ useradd --create-home $name" >&2
        useradd --create-home --shell /bin/sh "$name"
    fi
    local home uid
    home=$(getent passwd "$name" | cut -d: -f6)
    uid=$(id -u "$name")
    grep -q "^$name:" /etc/subuid || usermod --add-subuids 1000000-1065535 --add-subgids 1000000-1065535 "$name"
    # No login session made this directory, so it is made here; podman falls back to slower places without it.
    install -d -o "$name" -g "$name" -m 0700 "/run/user/$uid"
    # Without a word about it, podman 4.3 takes vfs for an ordinary user: a whole copy of the image a container.
    if [ ! -e "$home/.config/containers/storage.conf" ]; then
        install -d -o "$name" -g "$name" "$home/.config" "$home/.config/containers"
        printf '[storage]\ndriver = "overlay"\n' >"$home/.config/containers/storage.conf"
        chown "$name:" "$home/.config/containers/storage.conf"
    fi
    export ENGINE_TEST_USER=$name
}

engines_docker() {
    command -v docker >/dev/null || return 1
    docker info >/dev/null 2>&1 && return 0
    [ "$(id -u)" = 0 ] && command -v dockerd >/dev/null || return 1
    echo "+ dockerd" >&2
    dockerd >"$engine_directory/dockerd.log" 2>&1 &
    engine_daemon_pid=$!
    for _ in $(seq 60); do
        docker info >/dev/null 2>&1 && return 0
        kill -0 "$engine_daemon_pid" 2>/dev/null || break
        sleep 0.5
    done
    tail -20 "$engine_directory/dockerd.log" >&2
    return 1
}

# engines_as LANE COMMAND…: runs it as that lane's user.
engines_as() {
    local lane=$1
    shift
    if [ "$lane" = rootless-podman ] && [ -n "${ENGINE_TEST_USER:-}" ]; then
        local home uid
        home=$(getent passwd "$ENGINE_TEST_USER" | cut -d: -f6)
        uid=$(id -u "$ENGINE_TEST_USER")
        (cd "$home" && runuser -u "$ENGINE_TEST_USER" -- env -i HOME="$home" PATH="$PATH" LANG=C.UTF-8 \
            XDG_RUNTIME_DIR="/run/user/$uid" "$@")
    else
        "$@"
    fi
}

# engines_each ARGS…: runs the program once a lane, with that lane's --runtime.
engines_each() {
    local lane
    for lane in $ENGINE_TEST_LANES; do
        engines_as "$lane" "$ENGINE_TEST_PROGRAM" "$@" --runtime "${lane##*-}"
    done
}

engines_stop() {
    if [ -n "$engine_daemon_pid" ]; then
        kill "$engine_daemon_pid" 2>/dev/null || true
        wait "$engine_daemon_pid" 2>/dev/null || true
    fi
    rm -rf "$engine_directory"
}

# engines_run_request TEST [LANE…]: runs a test of tests/engine that only runs when it is asked for, on each lane, with the engines
# and the image that it needs. ENGINE_REQUEST_PROFILE=release has the program built as released.
engines_run_request() {
    local request=$1 profile=${ENGINE_REQUEST_PROFILE:-dev} target host directory test lane
    shift
    target=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
    host=$(rustc -vV | sed -n 's/^host: //p')
    directory=$([ "$profile" = dev ] && echo debug || echo "$profile")
    cargo build --locked --profile "$profile"
    test=$(cargo test --locked --quiet --no-run --message-format=json --test engine |
        sed -n 's/.*"executable":"\([^"]*\/engine-[^"\/]*\)".*/\1/p')
    trap engines_stop EXIT
    engines_start "$target/$host/$directory/codex-mcp"
    [ $# -gt 0 ] || set -- $ENGINE_TEST_LANES
    engines_each image build --base bootstrap >&2
    for lane in "$@"; do
        "$test" --ignored --exact --nocapture "$request::${lane//-/_}"
    done
}
