//! The engines' command lines of this room. Pure: [`super::tools`] runs them.

use super::recipe::Recipe;
use crate::config::name::ImageReference;
use crate::host::HostFacts;
use crate::host::facts::{EngineFacts, EngineKind};
use crate::host::image_labels;
use crate::supervise::command::CommandLine;
use crate::wire::contract::CONTRACT;
use std::ffi::OsString;
use std::path::Path;

/// The labels of an image, (name, value). Values are of characters that need no quoting anywhere.
pub fn labels(recipe: &Recipe, built: &str) -> [(&'static str, String); 5] {
    [
        (image_labels::CODEX_VERSION, recipe.release.version.clone()),
        (image_labels::BASE, recipe.base.to_string()),
        (image_labels::CONTRACT, CONTRACT.to_string()),
        (image_labels::BUILT, built.to_owned()),
        (image_labels::RECIPE, recipe.digest()),
    ]
}

/// An engine as far as images are concerned.
#[derive(Debug, Clone)]
pub struct Engine {
    facts: EngineFacts,
}

impl Engine {
    pub fn new(facts: &EngineFacts) -> Self {
        Self { facts: facts.clone() }
    }

    pub fn kind(&self) -> EngineKind {
        self.facts.kind
    }

    fn command(&self, words: &[&str]) -> CommandLine {
        let command = CommandLine::new(&self.facts.program);
        let command = match &self.facts.oci_runtime {
            Some(runtime) => command.args(["--runtime", runtime]),
            None => command,
        };
        command.args(words)
    }

    /// Ids of all images of ours, one `sha256:` a line.
    pub fn our_ids(&self) -> CommandLine {
        let filter = format!("label={}", image_labels::CODEX_VERSION);
        self.command(&["images", "--no-trunc", "--quiet", "--filter", &filter])
    }

    /// A JSON array, one object an image; fails if one of them is not there.
    pub fn inspect(&self, images: &[&str]) -> CommandLine {
        self.command(&["image", "inspect"]).args(images)
    }

    pub fn pull(&self, reference: &ImageReference) -> CommandLine {
        self.command(&["pull", reference.as_str()])
    }

    /// Prints the id of the new, still nameless image.
    pub fn import(&self, archive: &Path, labels: &[(&str, String)]) -> CommandLine {
        let changes = labels
            .iter()
            .flat_map(|(name, value)| ["--change".into(), format!("LABEL {name}={value}").into()]);
        self.command(&["import"]).args::<OsString>(changes).arg(archive)
    }

    /// Builds `context`, whose base is there already; the new image gets no name, its id goes to `id_file`.
    ///
    /// The network is the host's: the recipe is ours, packages come from where the host gets them (a mirror on
    /// loopback, a VPN), and a rootless build then needs neither slirp4netns nor its tun device.
    pub fn build(
        &self,
        context: &Path,
        base: &ImageReference,
        labels: &[(&str, String)],
        layers: LayerCache,
        id_file: &Path,
    ) -> CommandLine {
        let mut command = self.command(&["build", "--network", "host"]);
        if self.kind() == EngineKind::Podman {
            // The OCI format holds no health checks, so the base's is dropped with a warning. In docker's format,
            // podman 4.3 takes the Containerfile's `HEALTHCHECK NONE` for one and wants a systemd timer at each run.
            command = command.args(["--format", "oci"]);
        }
        if layers == LayerCache::Ignore {
            command = command.arg("--no-cache");
        }
        let labels = labels
            .iter()
            .flat_map(|(name, value)| ["--label".to_owned(), format!("{name}={value}")]);
        command
            .args(["--build-arg", &format!("BASE={base}")])
            .args(labels)
            .arg("--iidfile")
            .arg(id_file)
            .arg("--file")
            .arg(context.join("Containerfile"))
            .arg(context)
    }

    pub fn tag(&self, id: &str, reference: &ImageReference) -> CommandLine {
        self.command(&["tag", id, reference.as_str()])
    }

    pub fn remove_image(&self, id: &str) -> CommandLine {
        self.command(&["rmi", id])
    }

    /// One run of `script` by the image's own shell, as locked down as a session, as a user with no rights.
    pub fn verify_run(&self, host: &HostFacts, container: &str, image: &str, script: &str) -> CommandLine {
        let mut command = self.command(&[
            "run",
            "--rm",
            "--name",
            container,
            "--pull",
            "never",
            "--network",
            "none",
        ]);
        command = command.args([
            "--read-only",
            "--cap-drop",
            "all",
            "--security-opt",
            "no-new-privileges",
        ]);
        if self.kind() == EngineKind::Podman {
            // Else podman lays tmpfs over /tmp and /run, and their modes would be read from there.
            command = command.arg("--read-only-tmpfs=false");
        }
        let (files, processes) = (host.nofile_hard.min(1024), host.nproc_hard.min(4096));
        command
            .args(["--ulimit", &format!("nofile={files}:{files}")])
            .args(["--ulimit", &format!("nproc={processes}:{processes}")])
            .args([
                "--log-driver",
                "none",
                "--ipc",
                "private",
                "--user",
                "65534:65534",
                "--workdir",
                "/",
            ])
            .args(["--entrypoint", "/bin/sh", image, "-c", script])
    }

    pub fn remove_container(&self, container: &str) -> CommandLine {
        self.command(&["rm", "--force", container])
    }
}

/// Whether the engine may reuse layers of an earlier build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerCache {
    Use,
    Ignore,
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::lock::{Platform, Release};
    use super::super::recipe::Base;
    use super::*;
    use crate::host::facts::{CgroupFacts, CgroupVersion};
    use crate::supervise::owner::Owner;

    pub fn host(kind: EngineKind, oci_runtime: Option<&str>) -> HostFacts {
        HostFacts {
            engine: EngineFacts {
                kind,
                program: format!("/usr/bin/{kind}").into(),
                version: "4.3.1".into(),
                rootless: false,
                graph_driver: "overlay".into(),
                oci_runtime: oci_runtime.map(Into::into),
            },
            cgroup: CgroupFacts {
                version: CgroupVersion::V2,
                controllers: Vec::new(),
            },
            uid: 0,
            gid: 0,
            nofile_hard: 20000,
            nproc_hard: 32768,
            selinux_enforcing: false,
            owner: Owner {
                pid: 1,
                start_ticks: 1,
                boot_id: "boot".into(),
            },
        }
    }

    fn recipe() -> Recipe {
        let base = Base::Registry("debian:bookworm-slim".parse().unwrap());
        Recipe::new(base, [], Release::pinned(Platform::LinuxX64).unwrap()).unwrap()
    }

    fn short_labels() -> [(&'static str, String); 2] {
        let [codex, base, ..] = labels(&recipe(), "2026-11-22T13:50:05Z");
        [codex, base]
    }

    #[test]
    fn every_label_is_there_and_needs_no_quotes() {
        let labels = labels(&recipe(), "2026-11-22T13:50:05Z");
        let names = labels.each_ref().map(|(name, _)| *name);
        assert_eq!(
            names,
            [
                image_labels::CODEX_VERSION,
                image_labels::BASE,
                image_labels::CONTRACT,
                image_labels::BUILT,
                image_labels::RECIPE
            ]
        );
        for (name, value) in labels {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-._/:@".contains(c);
            assert!(!value.is_empty() && value.chars().all(plain), "{name}={value}");
        }
    }

    #[test]
    fn podman_with_a_named_runtime() {
        let host = host(EngineKind::Podman, Some("runc"));
        let engine = Engine::new(&host.engine);
        let base = "debian:bookworm-slim".parse().unwrap();
        let lines = [
            engine.our_ids(),
            engine.inspect(&["a", "b"]),
            engine.pull(&base),
            engine.import(Path::new("/c/rootfs.tar"), &short_labels()),
            engine.build(
                Path::new("/c/ctx"),
                &base,
                &short_labels(),
                LayerCache::Use,
                Path::new("/c/id"),
            ),
            engine.tag("sha256:1", &base),
            engine.remove_image("sha256:1"),
            engine.verify_run(&host, "check-1", "sha256:1", "true"),
            engine.remove_container("check-1"),
        ];
        insta::assert_snapshot!(lines.map(|line| line.to_string()).join("\n"), @r"
        /usr/bin/podman --runtime runc images --no-trunc --quiet --filter label=io.github.codex-mcp.codex-version
        /usr/bin/podman --runtime runc image inspect a b
        /usr/bin/podman --runtime runc pull debian:bookworm-slim
        /usr/bin/podman --runtime runc import --change 'LABEL io.github.codex-mcp.codex-version=0.169.0' --change 'LABEL io.github.codex-mcp.base=debian:bookworm-slim' /c/rootfs.tar
        /usr/bin/podman --runtime runc build --network host --format oci --build-arg BASE=debian:bookworm-slim --label io.github.codex-mcp.codex-version=0.169.0 --label io.github.codex-mcp.base=debian:bookworm-slim --iidfile /c/id --file /c/ctx/Containerfile /c/ctx
        /usr/bin/podman --runtime runc tag sha256:1 debian:bookworm-slim
        /usr/bin/podman --runtime runc rmi sha256:1
        /usr/bin/podman --runtime runc run --rm --name check-1 --pull never --network none --read-only --cap-drop all --security-opt no-new-privileges --read-only-tmpfs=false --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 --log-driver none --ipc private --user 65534:65534 --workdir / --entrypoint /bin/sh sha256:1 -c true
        /usr/bin/podman --runtime runc rm --force check-1
        ");
    }

    #[test]
    fn docker_where_it_differs() {
        let host = host(EngineKind::Docker, None);
        let engine = Engine::new(&host.engine);
        let base = "debian:bookworm-slim".parse().unwrap();
        let lines = [
            engine.build(
                Path::new("/c/ctx"),
                &base,
                &short_labels(),
                LayerCache::Ignore,
                Path::new("/c/id"),
            ),
            engine.verify_run(&host, "check-1", "sha256:1", "true"),
        ];
        insta::assert_snapshot!(lines.map(|line| line.to_string()).join("\n"), @r"
        /usr/bin/docker build --network host --no-cache --build-arg BASE=debian:bookworm-slim --label io.github.codex-mcp.codex-version=0.169.0 --label io.github.codex-mcp.base=debian:bookworm-slim --iidfile /c/id --file /c/ctx/Containerfile /c/ctx
        /usr/bin/docker run --rm --name check-1 --pull never --network none --read-only --cap-drop all --security-opt no-new-privileges --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 --log-driver none --ipc private --user 65534:65534 --workdir / --entrypoint /bin/sh sha256:1 -c true
        ");
    }
}
