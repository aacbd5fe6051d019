//! Machines, images and requests for tests.

use crate::config::layer::{FileLayer, LayerSource};
use crate::config::resolve::{ConfigFlags, Layers, resolve};
use crate::config::{Config, Enforcement, environment::Environment};
use crate::host::facts::{CgroupFacts, CgroupVersion, EngineFacts, EngineKind, HostFacts, ImageFacts};
use crate::plan::identity::SessionId;
use crate::plan::request::{BindRequest, FolderOwner, Request, WorkspaceAccess, WorkspaceRequest};
use crate::supervise::owner::Owner;
use crate::wire::contract::CONTRACT;

/// The defaults, as on a machine without any configuration.
pub fn config() -> Config {
    let environment = Environment::from_pairs([("HOME", "/home/me")]);
    resolve(Layers::default(), &environment, &ConfigFlags::default()).unwrap()
}

/// The defaults, and a user's file of this text.
pub fn config_of(text: &str) -> Config {
    let environment = Environment::from_pairs([("HOME", "/home/me")]);
    let user = FileLayer::parse(LayerSource::File("/u.toml".into()), text, &environment).unwrap();
    let layers = Layers {
        user: Some(user),
        ..Layers::default()
    };
    resolve(layers, &environment, &ConfigFlags::default()).unwrap()
}

pub fn best_effort() -> Config {
    let environment = Environment::from_pairs([("HOME", "/home/me")]);
    let flags = ConfigFlags {
        enforcement: Some(Enforcement::BestEffort),
        ..ConfigFlags::default()
    };
    resolve(Layers::default(), &environment, &flags).unwrap()
}

pub fn image() -> ImageFacts {
    ImageFacts {
        reference: "localhost/codex-mcp:0.169.0".into(),
        id: format!("sha256:{}", "ab".repeat(32)),
        codex_version: Some("0.169.0".into()),
        contract: Some(CONTRACT),
    }
}

pub fn request() -> Request {
    Request {
        session: SessionId::from_random([0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99]),
        workspace: WorkspaceRequest::Snapshot {
            folder: "/tmp/project".into(),
        },
        access: WorkspaceAccess::ReadWrite,
        network: None,
        secrets: Vec::new(),
        session_dir: "/state/sessions/S".into(),
        guest_binary: "/state/guest/ID/codex-mcp".into(),
    }
}

/// A git worktree of user 1000, mounted itself.
pub fn bind_request() -> Request {
    Request {
        workspace: WorkspaceRequest::Bind(BindRequest {
            folder: "/tmp/project".into(),
            owner: FolderOwner { uid: 1000, gid: 1000 },
            protected: vec![".git".into()],
            git_elsewhere: Some("/home/me/main/.git".into()),
        }),
        ..request()
    }
}

pub fn scratch_request() -> Request {
    Request {
        workspace: WorkspaceRequest::Scratch { named: None },
        ..request()
    }
}

fn machine(kind: EngineKind, uid: u32, cgroup: CgroupVersion) -> HostFacts {
    let (program, version, graph_driver) = match kind {
        EngineKind::Podman => ("/usr/bin/podman", "5.4.2", "overlay"),
        EngineKind::Docker => ("/usr/bin/docker", "28.1.1", "overlay2"),
    };
    HostFacts {
        engine: EngineFacts {
            kind,
            program: program.into(),
            version: version.into(),
            rootless: kind == EngineKind::Podman && uid != 0,
            graph_driver: graph_driver.into(),
            oci_runtime: None,
        },
        cgroup: CgroupFacts {
            version: cgroup,
            controllers: ["cpu", "memory", "pids"].map(String::from).to_vec(),
        },
        uid,
        gid: uid,
        nofile_hard: 20_000,
        nproc_hard: 32_768,
        selinux_enforcing: false,
        owner: Owner {
            pid: 4242,
            start_ticks: 987_654,
            boot_id: "5b3c2f8e-0000-4000-8000-1234567890ab:4026531836".into(),
        },
    }
}

pub fn rootful_podman() -> HostFacts {
    machine(EngineKind::Podman, 0, CgroupVersion::V2)
}

pub fn rootless_podman() -> HostFacts {
    machine(EngineKind::Podman, 1000, CgroupVersion::V2)
}

/// Rootless podman where v1 holds the controllers, so that it can set no limit.
pub fn rootless_podman_v1() -> HostFacts {
    machine(EngineKind::Podman, 1000, CgroupVersion::Hybrid)
}

pub fn docker(uid: u32) -> HostFacts {
    machine(EngineKind::Docker, uid, CgroupVersion::V2)
}
