//! The limits of this process's cgroup, v1 and v2: where the kernel states them, and what its words mean. Pure but for
//! the reader it is handed.
//!
//! What was used is counted in the same places ([`Counts`]).
//!
//! A limit is what a file says or [`LimitReading::Unknown`] with the reason; it is never guessed. Rootless podman on
//! cgroup v1 shows the whole host's hierarchy: no limit there is ours.

use crate::guest::mountinfo::MountLine;
use crate::wire::contract::{CgroupReading, LimitReading};
use std::io;
use std::path::{Path, PathBuf};

/// v1 says "no limit" with the largest page-aligned number; nothing real is near.
const V1_UNLIMITED: u64 = 1 << 60;

/// Where to read; `None` where that hierarchy is not visible here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Limits {
    V1 {
        memory: Option<PathBuf>,
        cpu: Option<PathBuf>,
        /// Nearly always mounted together with `cpu`, and a hierarchy of its own all the same.
        cpuacct: Option<PathBuf>,
        pids: Option<PathBuf>,
    },
    V2(PathBuf),
    Absent,
}

/// Finds this process's cgroup among the mounts; `own` is `/proc/self/cgroup`.
///
/// With v1 controllers beside a v2 hierarchy (hybrid), v1 is where the limits are.
pub fn locate(mounts: &[MountLine], own: &str) -> Limits {
    let v1 = |controller: &str| {
        let mount = mounts
            .iter()
            .rfind(|line| line.reading.fstype == "cgroup" && line.super_options.iter().any(|o| o == controller))?;
        let path = own_path(own, |controllers| controllers.split(',').any(|name| name == controller))?;
        directory(mount, path)
    };
    if mounts.iter().any(|line| line.reading.fstype == "cgroup") {
        return Limits::V1 {
            memory: v1("memory"),
            cpu: v1("cpu"),
            cpuacct: v1("cpuacct"),
            pids: v1("pids"),
        };
    }
    let v2 = mounts.iter().rfind(|line| line.reading.fstype == "cgroup2");
    match v2.and_then(|mount| directory(mount, own_path(own, str::is_empty)?)) {
        Some(directory) => Limits::V2(directory),
        None => Limits::Absent,
    }
}

/// The path in the line `ID:CONTROLLERS:PATH` whose controllers fit.
fn own_path(own: &str, fits: impl Fn(&str) -> bool) -> Option<&str> {
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        match (parts.next(), parts.next()) {
            (Some(controllers), Some(path)) if fits(controllers) => Some(path),
            _ => None,
        }
    })
}

/// Where below the mount the cgroup `path` is. The mount shows only what is below its own root.
fn directory(mount: &MountLine, path: &str) -> Option<PathBuf> {
    let below = Path::new(path).strip_prefix(&mount.root).ok()?;
    Some(Path::new(&mount.reading.target).join(below))
}

impl Limits {
    /// Reads every limit through `read`.
    pub fn read(&self, read: impl Fn(&Path) -> io::Result<String>) -> CgroupReading {
        match self {
            Self::V1 { memory, cpu, pids, .. } => {
                let value = |directory: &Option<PathBuf>, file: &str| match directory {
                    Some(directory) => content(directory, file, &read),
                    None => Err(format!("no cgroup to read {file} from")),
                };
                CgroupReading {
                    version: 1,
                    memory: reading(value(memory, "memory.limit_in_bytes"), v1_bytes),
                    memory_and_swap: reading(value(memory, "memory.memsw.limit_in_bytes"), v1_bytes),
                    cpu_millis: match (value(cpu, "cpu.cfs_quota_us"), value(cpu, "cpu.cfs_period_us")) {
                        (Ok(quota), Ok(period)) => v1_share(&quota, &period),
                        (Err(reason), _) | (_, Err(reason)) => LimitReading::Unknown(reason),
                    },
                    pids: reading(value(pids, "pids.max"), count_or_max),
                }
            }
            Self::V2(directory) => {
                let value = |file: &str| content(directory, file, &read);
                let memory = reading(value("memory.max"), count_or_max);
                CgroupReading {
                    version: 2,
                    memory_and_swap: sum(&memory, reading(value("memory.swap.max"), count_or_max)),
                    memory,
                    cpu_millis: reading(value("cpu.max"), v2_share),
                    pids: reading(value("pids.max"), count_or_max),
                }
            }
            Self::Absent => {
                let unknown = || LimitReading::Unknown("no cgroup is mounted".into());
                CgroupReading {
                    version: 0,
                    memory: unknown(),
                    memory_and_swap: unknown(),
                    cpu_millis: unknown(),
                    pids: unknown(),
                }
            }
        }
    }

    /// The file that counts what the kernel killed for memory in this cgroup.
    pub fn memory_events(&self) -> Option<PathBuf> {
        match self {
            Self::V1 { memory, .. } => memory.as_ref().map(|directory| directory.join("memory.oom_control")),
            Self::V2(directory) => Some(directory.join("memory.events")),
            Self::Absent => None,
        }
    }

    /// Where this cgroup's use is counted, if `reading` shows that it is this container's own: the engine has set a limit
    /// there. One without may be the host's, with everything else on the machine in it. A limit that somebody else set on
    /// a cgroup of theirs passes for ours here; the host finds that out, who knows what was planned.
    pub fn counts(&self, reading: &CgroupReading, exists: impl Fn(&Path) -> bool) -> Counts {
        let limited = |limit: &LimitReading| matches!(limit, LimitReading::Limited(_));
        let own = |directory: &Option<PathBuf>, limit: &LimitReading| directory.clone().filter(|_| limited(limit));
        match self {
            Self::V1 {
                memory, cpuacct, pids, ..
            } => Counts {
                memory_peak: own(memory, &reading.memory)
                    .map(|own| Count::new(&own, "memory.max_usage_in_bytes", plain)),
                // The engines put a container into all hierarchies alike.
                cpu: own(cpuacct, &reading.cpu_millis).map(|own| Count::new(&own, "cpuacct.usage", nanoseconds)),
                pids: own(pids, &reading.pids).map(|own| PidsCount::below(&own, exists)),
            },
            // One directory for all, so one limit shows whose it is. Not every controller need be enabled in it.
            Self::V2(directory)
                if [&reading.memory, &reading.cpu_millis, &reading.pids]
                    .into_iter()
                    .any(limited) =>
            {
                Counts {
                    memory_peak: Some(Count::new(directory, "memory.peak", plain)),
                    cpu: Some(Count::new(directory, "cpu.stat", usage)),
                    pids: Some(PidsCount::below(directory, exists)),
                }
            }
            Self::V2(_) | Self::Absent => Counts::default(),
        }
    }
}

/// Where the kernel counts what a cgroup used; `None` where that would be more than this container's.
#[derive(Debug, Default)]
pub struct Counts {
    /// Bytes.
    pub memory_peak: Option<Count>,
    /// Microseconds.
    pub cpu: Option<Count>,
    pub pids: Option<PidsCount>,
}

/// One file, and what its text says.
#[derive(Debug)]
pub struct Count {
    pub file: PathBuf,
    pub parse: fn(&str) -> Option<u64>,
}

/// Tasks, threads included.
#[derive(Debug)]
pub enum PidsCount {
    Peak(Count),
    Current(Count),
}

impl Count {
    fn new(directory: &Path, file: &str, parse: fn(&str) -> Option<u64>) -> Self {
        Self {
            file: directory.join(file),
            parse,
        }
    }
}

impl PidsCount {
    /// Kernels before 6.11 keep no peak.
    fn below(directory: &Path, exists: impl Fn(&Path) -> bool) -> Self {
        let peak = Count::new(directory, "pids.peak", plain);
        match exists(&peak.file) {
            true => Self::Peak(peak),
            false => Self::Current(Count::new(directory, "pids.current", plain)),
        }
    }
}

fn plain(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn nanoseconds(text: &str) -> Option<u64> {
    plain(text).map(|nanoseconds| nanoseconds / 1000)
}

/// Of `cpu.stat`.
fn usage(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("usage_usec ")?.trim().parse().ok())
}

/// The count in the file that [`Limits::memory_events`] names: both versions have a line `oom_kill N`.
pub fn memory_kills(events: &str) -> Option<u64> {
    events
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

fn content(directory: &Path, file: &str, read: impl Fn(&Path) -> io::Result<String>) -> Result<String, String> {
    let path = directory.join(file);
    match read(&path) {
        Ok(content) => Ok(content.trim().to_owned()),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn reading(content: Result<String, String>, parse: impl Fn(&str) -> LimitReading) -> LimitReading {
    match content {
        Ok(content) => parse(&content),
        Err(reason) => LimitReading::Unknown(reason),
    }
}

fn unknown(content: &str) -> LimitReading {
    // The kernel's own file, so short; cut all the same, because it travels in a bounded frame.
    LimitReading::Unknown(format!("not understood: {content:.60}"))
}

fn v1_bytes(content: &str) -> LimitReading {
    match content.parse() {
        Ok(bytes) if bytes >= V1_UNLIMITED => LimitReading::Unlimited,
        Ok(bytes) => LimitReading::Limited(bytes),
        Err(_) => unknown(content),
    }
}

fn count_or_max(content: &str) -> LimitReading {
    match content.parse() {
        Ok(count) => LimitReading::Limited(count),
        Err(_) if content == "max" => LimitReading::Unlimited,
        Err(_) => unknown(content),
    }
}

fn v1_share(quota: &str, period: &str) -> LimitReading {
    match quota {
        "-1" => LimitReading::Unlimited,
        quota => share(quota, period),
    }
}

fn v2_share(content: &str) -> LimitReading {
    match content.split_once(' ') {
        Some(("max", _)) => LimitReading::Unlimited,
        Some((quota, period)) => share(quota, period),
        None => unknown(content),
    }
}

fn share(quota: &str, period: &str) -> LimitReading {
    match (quota.parse::<u64>(), period.parse::<u64>()) {
        (Ok(quota), Ok(period)) if period > 0 => LimitReading::Limited(quota.saturating_mul(1000) / period),
        _ => unknown(&format!("{quota} {period}")),
    }
}

/// Memory and swap together, which v2 limits apart.
fn sum(memory: &LimitReading, swap: LimitReading) -> LimitReading {
    match (memory, swap) {
        (LimitReading::Limited(memory), LimitReading::Limited(swap)) => {
            LimitReading::Limited(memory.saturating_add(swap))
        }
        (LimitReading::Unknown(reason), _) => LimitReading::Unknown(reason.clone()),
        (_, LimitReading::Unknown(reason)) => LimitReading::Unknown(reason),
        (LimitReading::Unlimited, _) | (_, LimitReading::Unlimited) => LimitReading::Unlimited,
    }
}

/// Those of a cgroup that is this container's own, for the tests of others.
#[cfg(test)]
pub fn counts_of_own(limits: &Limits) -> Counts {
    let limited = || LimitReading::Limited(1);
    let reading = CgroupReading {
        version: 0,
        memory: limited(),
        memory_and_swap: limited(),
        cpu_millis: limited(),
        pids: limited(),
    };
    limits.counts(&reading, Path::exists)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::mountinfo::parse;
    use std::collections::HashMap;

    fn files(list: &[(&str, &str)]) -> impl Fn(&Path) -> io::Result<String> {
        let files: HashMap<PathBuf, String> = list.iter().map(|(path, text)| (path.into(), (*text).into())).collect();
        move |path| files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Docker and rootful podman on v1: the mount's root is the container's own cgroup.
    const V1_MOUNTS: &str = "\
101 100 0:29 /docker/d4d1 /sys/fs/cgroup/cpu,cpuacct ro,nosuid - cgroup cgroup rw,cpu,cpuacct
104 100 0:32 /docker/d4d1 /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory
108 100 0:36 /docker/d4d1 /sys/fs/cgroup/pids ro,nosuid - cgroup cgroup rw,pids
109 100 0:37 /docker/d4d1 /sys/fs/cgroup/unified ro,nosuid - cgroup2 cgroup2 rw
";
    const V1_OWN: &str = "9:name=systemd:/docker/d4d1\n8:pids:/docker/d4d1\n4:memory:/docker/d4d1\n\
        1:cpu,cpuacct:/docker/d4d1\n0::/docker/d4d1\n";

    #[test]
    fn v1_with_every_limit() {
        let limits = locate(&parse(V1_MOUNTS).unwrap(), V1_OWN);
        let read = limits.read(files(&[
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n"),
            ("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", "536870912\n"),
            ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "150000\n"),
            ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ("/sys/fs/cgroup/pids/pids.max", "100\n"),
        ]));
        assert_eq!(
            read,
            CgroupReading {
                version: 1,
                memory: LimitReading::Limited(536_870_912),
                memory_and_swap: LimitReading::Limited(536_870_912),
                cpu_millis: LimitReading::Limited(1500),
                pids: LimitReading::Limited(100),
            }
        );
        assert_eq!(
            limits.memory_events().unwrap(),
            Path::new("/sys/fs/cgroup/memory/memory.oom_control")
        );
    }

    #[test]
    fn rootless_v1_shows_the_host_and_proves_nothing() {
        let mounts = "\
113 112 0:29 / /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu
116 112 0:32 /user.slice /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
120 112 0:36 / /sys/fs/cgroup/pids ro - cgroup cgroup rw,pids
";
        let limits = locate(
            &parse(mounts).unwrap(),
            "8:pids:/\n4:memory:/user.slice\n1:cpu:/\n0::/\n",
        );
        let read = limits.read(files(&[
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ]));
        assert_eq!(read.memory, LimitReading::Unlimited);
        assert_eq!(read.cpu_millis, LimitReading::Unlimited);
        assert!(matches!(&read.pids, LimitReading::Unknown(why) if why.contains("/sys/fs/cgroup/pids/pids.max")));
        assert!(matches!(read.memory_and_swap, LimitReading::Unknown(_)));
    }

    /// The files of each count, by name.
    fn places(counts: &Counts) -> [Option<String>; 3] {
        let name = |count: &Count| count.file.display().to_string();
        let pids = counts.pids.as_ref().map(|pids| match pids {
            PidsCount::Peak(count) | PidsCount::Current(count) => name(count),
        });
        [
            counts.memory_peak.as_ref().map(name),
            counts.cpu.as_ref().map(name),
            pids,
        ]
    }

    #[test]
    fn v1_counts_where_a_limit_is_and_nowhere_else() {
        let limits = locate(&parse(V1_MOUNTS).unwrap(), V1_OWN);
        let all = counts_of_own(&limits);
        assert_eq!(
            places(&all).map(Option::unwrap),
            [
                "/sys/fs/cgroup/memory/memory.max_usage_in_bytes",
                "/sys/fs/cgroup/cpu,cpuacct/cpuacct.usage",
                "/sys/fs/cgroup/pids/pids.current",
            ]
        );
        // Rootless podman: all of it is the host's.
        let reading = limits.read(files(&[
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
            ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
        ]));
        assert_eq!(places(&limits.counts(&reading, |_| true)), [None, None, None]);
    }

    #[test]
    fn v2_counts_where_any_limit_is() {
        let limits = Limits::V2("/c".into());
        // Without the cpu controller, which a user's systemd may not hand down.
        let reading = limits.read(files(&[("/c/memory.max", "1024\n"), ("/c/pids.max", "max\n")]));
        assert_eq!(
            places(&limits.counts(&reading, |_| true)).map(Option::unwrap),
            ["/c/memory.peak", "/c/cpu.stat", "/c/pids.peak"]
        );
        let reading = limits.read(files(&[("/c/memory.max", "max\n"), ("/c/pids.max", "max\n")]));
        assert_eq!(places(&limits.counts(&reading, |_| true)), [None, None, None]);
    }

    #[test]
    fn counts_are_understood_or_absent() {
        assert_eq!(
            (plain("12\n"), plain(""), plain("max\n"), plain("-1")),
            (Some(12), None, None, None)
        );
        assert_eq!(nanoseconds("1999999\n"), Some(1999));
        assert_eq!(usage("user_usec 3\nusage_usec 7\n"), Some(7));
        assert_eq!(usage("usage_usec\n"), None);
    }

    #[test]
    fn v2_in_a_namespace_of_its_own_and_in_the_hosts() {
        for (root, own, directory) in [
            ("/", "0::/\n", "/sys/fs/cgroup"),
            (
                "/",
                "0::/user.slice/libpod-1.scope\n",
                "/sys/fs/cgroup/user.slice/libpod-1.scope",
            ),
            ("/a", "0::/a/b\n", "/sys/fs/cgroup/b"),
        ] {
            let mounts = format!("30 25 0:26 {root} /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate\n");
            assert_eq!(
                locate(&parse(&mounts).unwrap(), own),
                Limits::V2(directory.into()),
                "{own}"
            );
        }
    }

    #[test]
    fn a_cgroup_outside_of_what_is_mounted_is_not_read() {
        let mounts = parse("30 25 0:26 /a /sys/fs/cgroup ro - cgroup2 cgroup rw\n").unwrap();
        assert_eq!(locate(&mounts, "0::/b\n"), Limits::Absent);
        let mounts = parse("30 25 0:26 /a /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n").unwrap();
        assert_eq!(
            locate(&mounts, "3:memory:/ab\n"),
            Limits::V1 {
                memory: None,
                cpu: None,
                cpuacct: None,
                pids: None
            }
        );
    }

    #[test]
    fn v2_adds_swap_to_memory() {
        let read = |memory: &str, swap: Option<&str>| {
            let mut list = vec![
                ("/c/memory.max", memory),
                ("/c/cpu.max", "max 100000\n"),
                ("/c/pids.max", "max\n"),
            ];
            list.extend(swap.map(|swap| ("/c/memory.swap.max", swap)));
            Limits::V2("/c".into()).read(files(&list))
        };
        assert_eq!(read("1024\n", Some("0\n")).memory_and_swap, LimitReading::Limited(1024));
        assert_eq!(
            read("1024\n", Some("512\n")).memory_and_swap,
            LimitReading::Limited(1536)
        );
        assert_eq!(read("1024\n", Some("max\n")).memory_and_swap, LimitReading::Unlimited);
        assert_eq!(read("max\n", Some("0\n")).memory_and_swap, LimitReading::Unlimited);
        assert!(matches!(read("1024\n", None).memory_and_swap, LimitReading::Unknown(_)));
        let read = read("1024\n", Some("0\n"));
        assert_eq!(
            (read.cpu_millis, read.pids),
            (LimitReading::Unlimited, LimitReading::Unlimited)
        );
    }

    #[test]
    fn what_is_not_understood_is_unknown_and_never_unlimited() {
        for content in ["", "-1", "MAX", "1e9", "12 max"] {
            assert!(matches!(count_or_max(content), LimitReading::Unknown(_)), "{content}");
            assert!(matches!(v1_bytes(content), LimitReading::Unknown(_)), "{content}");
        }
        for content in ["", "max", "100000", "100000 0", "x 100000"] {
            assert!(matches!(v2_share(content), LimitReading::Unknown(_)), "{content}");
        }
        assert!(matches!(v1_share("-2", "100000"), LimitReading::Unknown(_)));
        assert_eq!(v2_share("50000 100000"), LimitReading::Limited(500));
    }

    #[test]
    fn kills_are_counted_by_both_versions() {
        assert_eq!(memory_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(
            memory_kills("low 0\nhigh 0\nmax 21\noom 2\noom_kill 1\noom_group_kill 0\n"),
            Some(1)
        );
        assert_eq!(memory_kills("oom_kill_disable 0\nunder_oom 0\n"), None);
    }
}
