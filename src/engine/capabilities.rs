//! What an engine can do and how it has to be told: each difference one predicate with its reason.
//!
//! "podman-run" below is <https://docs.podman.io/en/latest/markdown/podman-run.1.html>, "docker run"
//! <https://docs.docker.com/reference/cli/docker/container/run/>. "Tried" means on podman 4.3.1 and docker 20.10.

use crate::host::facts::{EngineFacts, EngineKind};

/// The predicates of one engine.
#[derive(Debug, Clone, Copy)]
pub struct Capabilities<'a> {
    engine: &'a EngineFacts,
}

impl<'a> Capabilities<'a> {
    pub fn of(engine: &'a EngineFacts) -> Self {
        Self { engine }
    }

    fn is_podman(self) -> bool {
        self.engine.kind == EngineKind::Podman
    }

    /// The OCI runtime to name before the sub-command (podman(1) `--runtime`). Docker's daemon has its own way to
    /// choose, and what `info` says of it works.
    pub fn oci_runtime(self) -> Option<&'a str> {
        self.engine.oci_runtime.as_deref().filter(|_| self.is_podman())
    }

    /// Whether a client that is killed can leave a monitor that the engine knows nothing of ([`crate::supervise::monitor`]). Docker's
    /// daemon is the parent of its own.
    pub fn leaves_monitors(self) -> bool {
        self.is_podman()
    }

    /// `--timeout`: podman's monitor ends the container even when we are dead. Docker has no such flag; there only
    /// the guest keeps the wall clock.
    pub fn has_timeout(self) -> bool {
        self.is_podman()
    }

    /// With `--read-only` podman mounts writable file systems without a size on /run, /tmp and /var/tmp, unless told
    /// `--read-only-tmpfs=false` (podman-run). Docker mounts none.
    pub fn read_only_adds_tmpfs(self) -> bool {
        self.is_podman()
    }

    /// Podman looks for the keys that detach (ctrl-p ctrl-q) even where stdin is no terminal: two single-byte reads
    /// of 0x10 and 0x11 in our binary stream end the session. Tried. An empty `--detach-keys` switches it off. Docker
    /// looks for them on terminals only.
    pub fn looks_for_detach_keys_in_a_pipe(self) -> bool {
        self.is_podman()
    }

    /// How proxy settings of the host, passwords included, are kept out of the container.
    pub fn proxies(self) -> Proxies {
        match self.engine.kind {
            EngineKind::Podman => Proxies::SwitchedOff,
            EngineKind::Docker => Proxies::UnsetByName,
        }
    }

    /// Who mounts /dev/shm. Both ways the container has an IPC namespace of its own.
    pub fn shm(self) -> Shm {
        match self.engine.kind {
            EngineKind::Podman => Shm::InsideOnly,
            EngineKind::Docker => Shm::ByEngine,
        }
    }

    /// `--unsetenv-all` and `--env-host=false`: without the image's and the host's variables. Docker has only the
    /// image's, and no way to drop them; the guest passes nothing on.
    pub fn can_unset_environment(self) -> bool {
        self.is_podman()
    }

    /// containers.conf(5) may make the host's namespaces the default (`pidns`, `utsns`, …); podman's flags take the
    /// word `private` to undo that. Docker has no such defaults and refuses the word for `--pid` and `--uts`.
    pub fn namespaces_have_configured_defaults(self) -> bool {
        self.is_podman()
    }

    /// An image's `VOLUME`s become anonymous writable volumes; podman can ignore them (`--image-volume`). On docker
    /// read-back finds them as writable mounts that nobody declared.
    pub fn can_ignore_image_volumes(self) -> bool {
        self.is_podman()
    }

    /// Podman mounts more, writable, where the entrypoint's name looks like an init system's, unless told
    /// `--systemd=false` (podman-run).
    pub fn guesses_systemd(self) -> bool {
        self.is_podman()
    }

    /// Podman writes an entry for the container's user into /etc/passwd, with `/bin/sh` for a shell or, under keep-id,
    /// with whatever the host's user has, which the image may lack; Codex then runs commands by that shell. The entry
    /// can be given (`--passwd-entry`). Docker writes none, and Codex falls back to bash.
    pub fn writes_passwd_entry(self) -> bool {
        self.is_podman()
    }

    /// `rm --ignore`: a missing container is a success (podman-rm(1)). Docker's clients differ in the status, so
    /// there [`Self::nothing_to_remove`] has to be looked for.
    pub fn rm_can_ignore_missing(self) -> bool {
        self.is_podman()
    }

    /// A request whose client was killed is finished all the same: docker's daemon can create a container after a
    /// sweep has looked for it, so that it has to be looked for twice. Podman has no daemon to do so.
    pub fn outlives_its_client(self) -> bool {
        !self.is_podman()
    }

    /// What `rm --force` says of a container that there is not.
    pub fn nothing_to_remove(self) -> &'static str {
        match self.engine.kind {
            EngineKind::Podman => "no such container",
            EngineKind::Docker => "No such container",
        }
    }

    /// What `image inspect` says of an image that there is not.
    pub fn missing_image(self) -> [&'static str; 3] {
        ["image not known", "No such image", "no such object"]
    }

    /// A client killed in its first step leaves a file system that only `ps --external` lists, without labels
    /// (podman-ps(1)); `rm` removes it by its name. Tried: 4 of 40 kills during a launch. Docker's daemon leaves none.
    pub fn leaves_half_made_containers(self) -> bool {
        self.is_podman()
    }

    /// How `ps` can say everything about a container.
    pub fn listing(self) -> Listing {
        match self.engine.kind {
            EngineKind::Podman => Listing::JsonArray,
            EngineKind::Docker => Listing::TemplatedLines,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxies {
    /// Podman copies the client's own variables; `--http-proxy=false` ends that (podman-run).
    SwitchedOff,
    /// Docker's client copies those of its `config.json`
    /// (<https://docs.docker.com/engine/cli/proxy/>); `--env NAME` without a value, for a variable that the client
    /// does not have, drops each. Tried.
    UnsetByName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shm {
    /// `--ipc private --shm-size`: docker's daemon mounts it on the host and outlives us to unmount it.
    ByEngine,
    /// `--ipc none` and a tmpfs that the OCI runtime mounts inside: with `--ipc private` the podman client mounts it
    /// on the host, and one killed before it has written that down leaves a mount behind that makes `rm --force` fail
    /// ("device or resource busy") and stays until the next boot. Tried.
    InsideOnly,
}

/// What docker's client may copy into a container.
pub const PROXY_VARIABLES: [&str; 10] = [
    "ALL_PROXY",
    "FTP_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "all_proxy",
    "ftp_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// `--format json`: labels are an object.
    JsonArray,
    /// `--format '{{json .}}'` joins labels with commas, which their values may hold; a template that asks for each
    /// label gives one unambiguous object a line.
    TemplatedLines,
}
