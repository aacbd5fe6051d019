//! What `podman info --format json` says (podman-info(1)). Pure.

use super::error::ProbeError;
use crate::supervise::command::CommandLine;
use crate::supervise::output::Output;
use serde::Deserialize;
use std::path::PathBuf;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodmanInfo {
    pub version: String,
    pub rootless: bool,
    pub graph_driver: String,
    /// Those that podman can use for a container; for rootless podman the delegated ones, none on cgroup v1.
    pub controllers: Vec<String>,
    pub oci_runtime: OciRuntime,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct OciRuntime {
    pub name: String,
    #[serde(default)]
    pub path: PathBuf,
}

pub fn read_info(command: &CommandLine, output: &Output) -> Result<PodmanInfo, ProbeError> {
    if !output.status.success() {
        return Err(ProbeError::Broken {
            command: command.clone(),
            status: output.status,
            stderr: output.stderr.clone(),
        });
    }
    let info: Info = serde_json::from_slice(&output.stdout).map_err(|error| ProbeError::Unreadable {
        command: command.clone(),
        reason: error.to_string(),
    })?;
    if info.host.service_is_remote {
        return Err(ProbeError::RemotePodman);
    }
    Ok(PodmanInfo {
        version: info.version.version,
        rootless: info.host.security.rootless,
        graph_driver: info.store.graph_driver_name,
        controllers: info.host.cgroup_controllers.unwrap_or_default(),
        oci_runtime: info.host.oci_runtime,
    })
}

// Only what is used. Unknown fields are podman's business; a missing one is an error, for a guess would be policy.

#[derive(Deserialize)]
struct Info {
    host: Host,
    store: Store,
    version: Version,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Host {
    /// `null` where there are none, in some versions.
    #[serde(default)]
    cgroup_controllers: Option<Vec<String>>,
    oci_runtime: OciRuntime,
    security: Security,
    #[serde(default)]
    service_is_remote: bool,
}

#[derive(Deserialize)]
struct Security {
    rootless: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Store {
    graph_driver_name: String,
}

#[derive(Deserialize)]
struct Version {
    #[serde(rename = "Version")]
    version: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    /// Podman 4.3.1 on Debian 12, shortened.
    const INFO: &str = r#"{
        "host": {
            "arch": "amd64", "cgroupManager": "cgroupfs", "cgroupVersion": "v1",
            "cgroupControllers": ["cpuset", "cpu", "memory", "pids"],
            "conmon": {"path": "/usr/bin/conmon"},
            "ociRuntime": {"name": "crun", "path": "/usr/bin/crun", "version": "crun version 1.8.1"},
            "serviceIsRemote": false,
            "security": {"rootless": false, "seccompEnabled": true, "selinuxEnabled": false}
        },
        "store": {"graphDriverName": "overlay", "graphStatus": {"Native Overlay Diff": "true"}},
        "registries": {},
        "version": {"APIVersion": "4.3.1", "Version": "4.3.1", "OsArch": "linux/amd64"}
    }"#;

    fn read(stdout: &str, code: i32, stderr: &str) -> Result<PodmanInfo, ProbeError> {
        let output = Output {
            status: ExitStatus::from_raw(code << 8),
            stdout: stdout.as_bytes().to_vec(),
            stderr: stderr.to_owned(),
        };
        read_info(&CommandLine::new("/usr/bin/podman").arg("info"), &output)
    }

    #[test]
    fn takes_what_is_needed() {
        let info = read(INFO, 0, "").unwrap();
        let expected = PodmanInfo {
            version: "4.3.1".to_owned(),
            rootless: false,
            graph_driver: "overlay".to_owned(),
            controllers: ["cpuset", "cpu", "memory", "pids"].map(str::to_owned).to_vec(),
            oci_runtime: OciRuntime {
                name: "crun".to_owned(),
                path: "/usr/bin/crun".into(),
            },
        };
        assert_eq!(info, expected);
    }

    #[test]
    fn rootless_on_cgroup_v1_has_no_controllers() {
        for none in ["[]", "null"] {
            let rootless = INFO
                .replace(r#"["cpuset", "cpu", "memory", "pids"]"#, none)
                .replace(r#""rootless": false"#, r#""rootless": true"#);
            let info = read(&rootless, 0, "").unwrap();
            assert!(info.rootless && info.controllers.is_empty(), "{none}");
        }
    }

    #[test]
    fn a_remote_service_is_refused() {
        let remote = INFO.replace(r#""serviceIsRemote": false"#, r#""serviceIsRemote": true"#);
        assert!(matches!(read(&remote, 0, ""), Err(ProbeError::RemotePodman)));
    }

    #[test]
    fn a_failure_carries_what_podman_said() {
        let error = read("", 125, "Error: cannot re-exec process").unwrap_err();
        assert!(matches!(&error, ProbeError::Broken { .. }));
        assert!(error.to_string().contains("cannot re-exec process"), "{error}");
    }

    #[test]
    fn a_missing_answer_is_not_guessed() {
        let silent = INFO.replace(r#""rootless": false, "#, "");
        let error = read(&silent, 0, "").unwrap_err();
        assert!(matches!(&error, ProbeError::Unreadable { .. }));
        assert!(error.to_string().contains("rootless"), "{error}");
        assert!(matches!(read("", 0, ""), Err(ProbeError::Unreadable { .. })));
    }
}
