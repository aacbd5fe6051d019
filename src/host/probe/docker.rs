//! What `docker info` says (docs.docker.com/reference/cli/docker/system/info), and what its failures mean. Pure.

use super::error::ProbeError;
use crate::host::facts::CgroupVersion;
use crate::supervise::command::CommandLine;
use crate::supervise::output::Output;
use serde::Deserialize;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerInfo {
    /// Of the daemon.
    pub version: String,
    pub rootless: bool,
    pub graph_driver: String,
    pub cgroup: DaemonCgroup,
    /// Named as the kernel's controllers, from what the daemon says it can limit.
    pub controllers: Vec<String>,
}

/// What the daemon says; it may be on another machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaemonCgroup {
    V1,
    V2,
}

impl DaemonCgroup {
    /// Docker knows no "hybrid": where this machine agrees that there is v1, its own word is finer.
    pub fn version(self, here: CgroupVersion) -> CgroupVersion {
        match (self, here) {
            (Self::V2, _) => CgroupVersion::V2,
            (Self::V1, CgroupVersion::Hybrid) => CgroupVersion::Hybrid,
            (Self::V1, CgroupVersion::V1 | CgroupVersion::V2) => CgroupVersion::V1,
        }
    }
}

pub fn read_info(command: &CommandLine, output: &Output) -> Result<DockerInfo, ProbeError> {
    let info: Info = match serde_json::from_slice(&output.stdout) {
        Ok(info) => info,
        Err(_) if !output.status.success() => return Err(failure(command, output, &output.stderr)),
        Err(error) => {
            return Err(ProbeError::Unreadable {
                command: command.clone(),
                reason: error.to_string(),
            });
        }
    };
    if info.host.is_some() {
        return Err(ProbeError::DockerIsPodman);
    }
    // The client prints an empty answer of its own where the daemon gave none, in some versions with status 0.
    let trouble = info.server_errors.unwrap_or_default().join("; ");
    if !output.status.success() || !trouble.is_empty() || info.server_version.is_empty() {
        let said = if output.stderr.is_empty() {
            &trouble
        } else {
            &output.stderr
        };
        return Err(failure(command, output, said));
    }
    if info.os_type != "linux" {
        return Err(ProbeError::NotLinux { os: info.os_type });
    }
    let limits = [
        ("memory", info.memory_limit),
        ("cpu", info.cpu_cfs_quota),
        ("pids", info.pids_limit),
    ];
    Ok(DockerInfo {
        version: info.server_version,
        rootless: info
            .security_options
            .unwrap_or_default()
            .iter()
            .any(|option| option == "name=rootless"),
        graph_driver: info.driver,
        cgroup: if info.cgroup_version == "2" {
            DaemonCgroup::V2
        } else {
            DaemonCgroup::V1
        },
        controllers: limits
            .iter()
            .filter(|(_, can)| *can)
            .map(|(name, _)| (*name).to_owned())
            .collect(),
    })
}

fn failure(command: &CommandLine, output: &Output, said: &str) -> ProbeError {
    let stderr = said.to_owned();
    if said.contains("permission denied") {
        ProbeError::SocketDenied { stderr }
    } else if [
        "Cannot connect",
        "daemon running",
        "error during connect",
        "failed to connect",
    ]
    .iter()
    .any(|sign| said.contains(sign))
    {
        ProbeError::DaemonDown { stderr }
    } else {
        ProbeError::Broken {
            command: command.clone(),
            status: output.status,
            stderr,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    #[serde(default)]
    server_version: String,
    #[serde(default)]
    driver: String,
    /// Absent in daemons that know v1 only.
    #[serde(default)]
    cgroup_version: String,
    #[serde(default)]
    memory_limit: bool,
    #[serde(default)]
    cpu_cfs_quota: bool,
    #[serde(default)]
    pids_limit: bool,
    #[serde(default)]
    security_options: Option<Vec<String>>,
    #[serde(default, rename = "OSType")]
    os_type: String,
    #[serde(default)]
    server_errors: Option<Vec<String>>,
    /// Only podman's `info` has this key.
    #[serde(default, rename = "host")]
    host: Option<serde::de::IgnoredAny>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    /// Docker 20.10.24 with a client 28.2.2, shortened.
    const INFO: &str = r#"{"ID":"KCAA","Driver":"overlay2","MemoryLimit":true,"SwapLimit":true,"CpuCfsPeriod":true,
        "CpuCfsQuota":true,"PidsLimit":true,"CgroupDriver":"cgroupfs","CgroupVersion":"1","OSType":"linux",
        "ServerVersion":"20.10.24+dfsg1","SecurityOptions":["name=seccomp,profile=default"],"Warnings":null,
        "ClientInfo":{"Version":"28.2.2"}}"#;

    /// The same client without a daemon.
    const NO_DAEMON: &str = r#"{"ID":"","Driver":"","DriverStatus":null,"MemoryLimit":false,"CpuCfsQuota":false,
        "PidsLimit":false,"OSType":"","ServerVersion":"","SecurityOptions":null,"ClientInfo":{"Version":"28.2.2"}}"#;

    fn read(stdout: &str, code: i32, stderr: &str) -> Result<DockerInfo, ProbeError> {
        let output = Output {
            status: ExitStatus::from_raw(code << 8),
            stdout: stdout.as_bytes().to_vec(),
            stderr: stderr.to_owned(),
        };
        read_info(&CommandLine::new("/usr/bin/docker").arg("info"), &output)
    }

    #[test]
    fn takes_what_is_needed() {
        let expected = DockerInfo {
            version: "20.10.24+dfsg1".to_owned(),
            rootless: false,
            graph_driver: "overlay2".to_owned(),
            cgroup: DaemonCgroup::V1,
            controllers: ["memory", "cpu", "pids"].map(str::to_owned).to_vec(),
        };
        assert_eq!(read(INFO, 0, "").unwrap(), expected);
    }

    #[test]
    fn a_limit_that_the_daemon_lacks_is_no_controller() {
        let info = INFO.replace(r#""PidsLimit":true"#, r#""PidsLimit":false"#);
        assert_eq!(read(&info, 0, "").unwrap().controllers, ["memory", "cpu"]);
    }

    #[test]
    fn a_rootless_daemon_says_so() {
        let info = INFO
            .replace("name=seccomp,profile=default", "name=rootless")
            .replace(r#""CgroupVersion":"1""#, r#""CgroupVersion":"2""#);
        let info = read(&info, 0, "").unwrap();
        assert!(info.rootless);
        assert_eq!(info.cgroup, DaemonCgroup::V2);
    }

    #[test]
    fn failures_are_told_apart() {
        let denied =
            "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock";
        assert!(matches!(
            read(NO_DAEMON, 1, denied),
            Err(ProbeError::SocketDenied { .. })
        ));
        let down = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?";
        for (stdout, code) in [(NO_DAEMON, 1), (NO_DAEMON, 0), ("", 1)] {
            assert!(matches!(read(stdout, code, down), Err(ProbeError::DaemonDown { .. })));
        }
        let other = read("", 1, "docker: 'info' is not a docker command").unwrap_err();
        assert!(matches!(other, ProbeError::Broken { .. }));
    }

    #[test]
    fn older_clients_report_trouble_in_the_answer() {
        let info = NO_DAEMON.replace(
            r#""ID":"""#,
            r#""ID":"","ServerErrors":["Cannot connect to the Docker daemon at tcp://h"]"#,
        );
        assert!(matches!(read(&info, 0, ""), Err(ProbeError::DaemonDown { stderr }) if stderr.contains("tcp://h")));
    }

    #[test]
    fn podmans_stand_in_is_recognised() {
        let podman = r#"{"host": {"arch": "amd64"}, "store": {}, "version": {}}"#;
        assert!(matches!(read(podman, 0, ""), Err(ProbeError::DockerIsPodman)));
    }

    #[test]
    fn other_systems_are_refused() {
        let windows = INFO.replace(r#""OSType":"linux""#, r#""OSType":"windows""#);
        assert!(matches!(read(&windows, 0, ""), Err(ProbeError::NotLinux { os }) if os == "windows"));
    }

    #[test]
    fn hybrid_is_this_machines_finer_word() {
        assert_eq!(DaemonCgroup::V1.version(CgroupVersion::Hybrid), CgroupVersion::Hybrid);
        assert_eq!(DaemonCgroup::V1.version(CgroupVersion::V2), CgroupVersion::V1);
        assert_eq!(DaemonCgroup::V2.version(CgroupVersion::Hybrid), CgroupVersion::V2);
    }
}
