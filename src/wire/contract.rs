//! What host and guest say to one another. Pure data; bump [`CONTRACT`] with every change that an older side
//! would misread, because an image can outlive the binary that built it.
//!
//! Order of a session, on the control stream (the first stream, opened by the host):
//! 1. host → guest: [`GuestSpec`];
//! 2. guest → host: [`FromGuest::Ready`], sent before anything untrusted ran, or [`FromGuest::Refused`];
//! 3. then [`ToGuest`] and [`FromGuest`] frames until the pipe closes.
//!
//! Every further stream begins with one frame that says what it is: [`HostStream`] where the host opened it,
//! [`GuestStream`] where the guest did.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of this contract. The image carries it as a label, the guest repeats it in [`Ready`].
pub const CONTRACT: u32 = 5;

/// The largest frame either side accepts, in bytes.
pub const MAX_FRAME: usize = 1 << 20;

/// The host's first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestSpec {
    pub contract: u32,
    /// For the guest's own log lines; never used as a path.
    pub session: String,
    /// TCP port on the container's loopback where the guest offers the model endpoint.
    pub model_port: u16,
    /// TCP port on the container's loopback where the guest offers the way out: an HTTP proxy, as its commands see it.
    pub proxy_port: u16,
    /// The guest ends the container by itself after this many seconds; docker has no `--timeout`.
    pub wall_seconds: u64,
    /// Paths where the guest measures the size of the file system (tmpfs) for [`Ready`].
    pub sized_mounts: Vec<String>,
}

/// Everything the guest read back about the place it runs in, before it started anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    pub contract: u32,
    /// The guest's own version (`CARGO_PKG_VERSION`).
    pub version: String,
    /// The guest's process id. Only as 1 does its end take everything else in the container along.
    pub pid: u32,
    pub identity: Identity,
    pub capabilities: Capabilities,
    /// `Seccomp:` of `/proc/self/status`: 0 off, 1 strict, 2 filter (proc_pid_status(5)).
    pub seccomp: u8,
    pub no_new_privs: bool,
    /// Must be false: a dumpable PID 1 lets a process of the same uid open its pipe through /proc/1/fd.
    pub dumpable: bool,
    pub cgroup: CgroupReading,
    /// Soft and hard `RLIMIT_NOFILE`.
    pub nofile: (u64, u64),
    pub mounts: Vec<MountReading>,
    /// Names of all network interfaces; only `lo` may be there.
    pub interfaces: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Real, effective, saved, file-system uid, as `/proc/self/status` lists them.
    pub uids: [u32; 4],
    pub gids: [u32; 4],
    pub groups: Vec<u32>,
    /// `/proc/self/uid_map`: (first inside, first outside, count).
    pub uid_map: Vec<(u32, u32, u32)>,
}

/// The five capability sets as bit masks (capabilities(7)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    pub inheritable: u64,
    pub permitted: u64,
    pub effective: u64,
    pub bounding: u64,
    pub ambient: u64,
}

/// One resource limit as the kernel states it to the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitReading {
    Unlimited,
    Limited(u64),
    /// No such file or not readable: nothing is proven. Says which.
    Unknown(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CgroupReading {
    /// 1 or 2; 0 where none is mounted.
    pub version: u8,
    /// Bytes of memory.
    pub memory: LimitReading,
    /// Bytes of memory and swap together (v2's `memory.swap.max` is added to `memory.max`).
    pub memory_and_swap: LimitReading,
    /// Thousandths of one CPU: quota / period.
    pub cpu_millis: LimitReading,
    pub pids: LimitReading,
}

/// A line of `/proc/self/mountinfo`, reduced to what a promise depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MountReading {
    /// Mount point, octal escapes of mountinfo undone.
    pub target: String,
    pub fstype: String,
    /// True where the mount or its superblock is read-only.
    pub read_only: bool,
    pub nosuid: bool,
    pub nodev: bool,
    pub noexec: bool,
    /// False where another mount, on the same target or above it, hides this one from every path.
    pub reachable: bool,
    /// Size of the file system in bytes where the spec asked for it (`statvfs`).
    pub size: Option<u64>,
}

/// Names one process that the host had started; chosen by the host, unique within a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProcessNumber(pub u32);

/// Host → guest on the control stream, after the spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ToGuest {
    /// Send a signal (its Linux number) to the process group of a started process.
    Signal { process: ProcessNumber, signal: i32 },
    /// Say what the session has used so far: one [`FromGuest::Figures`] answers every question that was read before it.
    /// Questions are numbered upwards from 1.
    Measure { question: u64 },
    /// Kill everything and exit.
    Shutdown,
}

/// Guest → host on the control stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FromGuest {
    Ready(Box<Ready>),
    /// The guest can't serve this spec (unknown contract, port taken, …).
    Refused {
        reason: String,
    },
    Exited {
        process: ProcessNumber,
        end: ProcessEnd,
    },
    /// The kernel killed something for memory since the last report.
    OutOfMemory {
        kills: u64,
    },
    /// Asked for, about once a second while they change, and before each [`FromGuest::OutOfMemory`].
    Figures {
        figures: Figures,
        /// The last question that was read before these were; 0 where none was.
        answers: u64,
    },
}

/// What this container has used since it began, as the kernel counts it for the container's cgroup.
///
/// The guest's word, given while untrusted commands run beside it: worth showing, and never a reason to allow anything.
/// `None` is what the kernel does not count here, or counts for more than this container; it is never guessed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// The most memory at once, in bytes, the page cache of its files included: `memory.max_usage_in_bytes` (v1),
    /// `memory.peak` (v2, Linux 5.19).
    pub memory_peak: Option<u64>,
    /// Processor time in microseconds, user and system: `cpuacct.usage` (v1), `cpu.stat` (v2).
    pub cpu_micros: Option<u64>,
    /// The most processes and threads at once: `pids.peak` (Linux 6.11), before that the most of those moments at which
    /// the guest looked, so at least so many.
    pub pids_peak: Option<u64>,
}

impl Figures {
    /// Both together. None of these ever falls, so the larger one is the later one, and what was known stays known.
    #[must_use]
    pub fn and(self, later: Self) -> Self {
        Self {
            memory_peak: self.memory_peak.max(later.memory_peak),
            cpu_micros: self.cpu_micros.max(later.cpu_micros),
            pids_peak: self.pids_peak.max(later.pids_peak),
        }
    }
}

/// How a process inside ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessEnd {
    Code(i32),
    Signal(i32),
}

/// The first frame of a stream that the host opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HostStream {
    /// Start a process. The guest answers with one [`SpawnReply`] frame; then the stream is the process's stdin
    /// (host → guest, half-close is EOF) and stdout.
    Spawn(SpawnRequest),
}

/// The first frame of a stream that the guest opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum GuestStream {
    /// One TCP connection to the loopback model endpoint: raw HTTP/1.1 follows, in both directions.
    Model,
    /// One TCP connection to the loopback proxy: raw HTTP/1.1 follows, CONNECT included, in both directions.
    Proxy,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpawnRequest {
    pub process: ProcessNumber,
    /// Program (absolute path) and arguments; no shell is involved.
    pub argv: Vec<String>,
    /// The whole environment: nothing is inherited from the engine or the guest.
    pub env: BTreeMap<String, String>,
    pub cwd: String,
    pub stderr: StderrTo,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StderrTo {
    /// The guest's own stderr, which is the engine client's stderr on the host.
    Log,
    /// The same stream as stdout.
    Stdout,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SpawnReply {
    Started { pid: u32 },
    Failed { reason: String },
}
