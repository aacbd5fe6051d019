//! Plans and engines for tests.

use crate::config::Enforcement;
use crate::config::quantity::{ByteSize, CpuShare, PidsLimit};
use crate::host::facts::{EngineFacts, EngineKind};
use crate::plan::LaunchPlan;
use crate::plan::identity::SessionId;
use crate::plan::launch::{
    ContainerUser, FileLimit, Mount, MountAccess, MountSharing, PinnedImage, PlannedLimits, SelinuxRelabel, Tmpfs,
    UserMapping,
};
use crate::plan::request::WorkspaceMode;
use crate::supervise::owner::Owner;
use crate::wire::contract::{CONTRACT, GuestSpec, ProcessNumber, SpawnRequest, StderrTo};
use std::collections::BTreeMap;
use std::time::Duration;

pub fn podman() -> EngineFacts {
    EngineFacts {
        kind: EngineKind::Podman,
        program: "/usr/bin/podman".into(),
        version: "4.3.1".to_owned(),
        rootless: false,
        graph_driver: "overlay".to_owned(),
        oci_runtime: None,
    }
}

pub fn docker() -> EngineFacts {
    EngineFacts {
        kind: EngineKind::Docker,
        program: "/usr/bin/docker".into(),
        version: "20.10.24".to_owned(),
        graph_driver: "overlay2".to_owned(),
        ..podman()
    }
}

pub fn mount(source: &str, target: &str, access: MountAccess, sharing: MountSharing) -> Mount {
    Mount {
        source: source.into(),
        target: target.to_owned(),
        access,
        sharing,
    }
}

/// A plan as it is on rootless podman: an ordinary user, `keep-id`.
pub fn plan(engine: EngineFacts) -> LaunchPlan {
    use MountAccess::{ReadOnly, ReadWrite};
    use MountSharing::{Private, Shared};
    let session = SessionId::from_random([0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99]);
    let state = "/home/me/.local/state/codex-mcp";
    LaunchPlan {
        enforcement: Enforcement::Required,
        name: session.container_name(),
        owner: Owner {
            pid: 4242,
            start_ticks: 987_654,
            boot_id: "5b3c2f8e-0000-4000-8000-1234567890ab:4026531836".to_owned(),
        },
        engine,
        image: PinnedImage {
            reference: "localhost/codex-mcp:0.169.0".to_owned(),
            id: format!("sha256:{}", "ab".repeat(32)),
        },
        user: ContainerUser {
            uid: 1000,
            gid: 1000,
            mapping: UserMapping::KeepId,
            host_uid: 1000,
            host_gid: 1000,
        },
        limits: PlannedLimits {
            memory: ByteSize::from_mib(4096),
            cpus: CpuShare::from_millis(1500),
            pids: PidsLimit::new(512),
            scratch: ByteSize::from_mib(1024),
            workspace: ByteSize::from_mib(10 * 1024),
            turn: Duration::from_secs(1800),
            idle: Duration::from_secs(1800),
            wall: Duration::from_secs(8 * 3600),
        },
        nofile: FileLimit {
            soft: 1024,
            hard: 20000,
        },
        nproc: Some(32768),
        network: crate::plan::network::closed(),
        mounts: vec![
            mount(&format!("{state}/guest/0a1b2c"), "/.codex-mcp", ReadOnly, Shared),
            mount(
                &format!("{state}/sessions/{session}/workspace"),
                "/home/me/project",
                ReadWrite,
                Private,
            ),
            mount(
                &format!("{state}/sessions/{session}/git"),
                "/home/me/project/.git",
                ReadOnly,
                Private,
            ),
        ],
        secrets: Vec::new(),
        tmpfs: vec![
            Tmpfs {
                target: "/tmp".to_owned(),
                size: ByteSize::from_mib(1024),
            },
            Tmpfs {
                target: "/home/codex".to_owned(),
                size: ByteSize::from_mib(512),
            },
        ],
        shm: ByteSize::from_mib(64),
        selinux: SelinuxRelabel::NotNeeded,
        guest_program: "/.codex-mcp".to_owned(),
        guest: GuestSpec {
            contract: CONTRACT,
            session: session.to_string(),
            model_port: 9100,
            proxy_port: 9101,
            wall_seconds: 8 * 3600,
            sized_mounts: vec!["/tmp".to_owned(), "/home/codex".to_owned()],
        },
        codex: SpawnRequest {
            process: ProcessNumber(1),
            argv: vec!["/opt/codex/bin/codex".to_owned(), "app-server".to_owned()],
            env: BTreeMap::new(),
            cwd: "/home/me/project".to_owned(),
            stderr: StderrTo::Log,
        },
        workspace_mode: WorkspaceMode::Bind,
        workspace_inside: "/home/me/project".to_owned(),
        unenforced: Vec::new(),
        session,
    }
}
