//! What is asked inside the container, and what the answer proves. Pure.

use crate::wire::untrusted::Untrusted;

/// One line for the shell inside: prints `demo NAME=VALUE` lines. Needs nothing but a shell and coreutils.
pub const COMMAND: &str = "echo demo uid=$(id -u); \
    echo demo interfaces=$(tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' | tr '\\n' ' '); \
    echo demo capabilities=$(grep CapEff /proc/self/status | cut -f2); \
    echo demo no-new-privileges=$(grep NoNewPrivs /proc/self/status | cut -f2); \
    echo demo seccomp=$(grep ^Seccomp: /proc/self/status | cut -f2); \
    echo demo root=$(touch /usr/demo 2>/dev/null && echo writable || echo read-only); \
    echo demo key=$(env | grep -ci api_key); \
    echo demo memory=$(cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null); \
    echo demo pids=$(cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null)";

/// A promise, what was read about it, and whether that is what was promised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    pub promise: &'static str,
    pub read: String,
    pub holds: bool,
}

/// One fact for each promise, in a fixed order; a line that is missing is a promise that does not hold.
pub fn read(answer: &str) -> Vec<Fact> {
    type Test = fn(&str) -> bool;
    let promises: [(&str, &'static str, Test); 7] = [
        ("uid", "commands run as an ordinary user", |uid| {
            uid.parse::<u32>().is_ok_and(|uid| uid != 0)
        }),
        ("interfaces", "there is no network but loopback", |names| names == "lo"),
        ("capabilities", "there are no capabilities", |mask| {
            !mask.is_empty() && mask.bytes().all(|digit| digit == b'0')
        }),
        ("no-new-privileges", "no new privileges can be gained", |flag| {
            flag == "1"
        }),
        ("seccomp", "a seccomp filter is on", |mode| mode == "2"),
        ("root", "the root file system is read-only", |access| {
            access == "read-only"
        }),
        ("key", "no API key is in the environment", |count| count == "0"),
    ];
    promises
        .into_iter()
        .map(|(name, promise, holds)| {
            let value = value(answer, name);
            Fact {
                promise,
                holds: value.is_some_and(holds),
                read: match value {
                    Some(value) => format!("{name}: {}", Untrusted::new(value).one_line(60)),
                    None => format!("{name} was not read"),
                },
            }
        })
        .collect()
}

/// What the kernel says about the limits, to be shown. Proving them is the launch's part: it compares them with the plan
/// before Codex starts, and the result names what is not in force.
pub fn limits(answer: &str) -> String {
    let shown = |name| {
        value(answer, name)
            .filter(|text| !text.is_empty())
            .map(|text| Untrusted::new(text).one_line(30))
    };
    let memory = match value(answer, "memory").and_then(|bytes| bytes.parse::<u64>().ok()) {
        // cgroup v1 writes "no limit" as the largest number of whole pages.
        Some(bytes) if bytes < 1 << 60 => Some(format!("{} MiB", bytes >> 20)),
        Some(_) => Some("max".to_owned()),
        None => shown("memory"),
    };
    let or_unread = |text: Option<String>| text.unwrap_or_else(|| "not read".to_owned());
    format!(
        "limits that the kernel reports inside: memory {}, pids {}",
        or_unread(memory),
        or_unread(shown("pids"))
    )
}

fn value<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    answer.lines().find_map(|line| {
        let (found, value) = line.trim().strip_prefix("demo ")?.split_once('=')?;
        (found == name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "The tool answered:\ndemo uid=1000\ndemo interfaces=lo\ndemo capabilities=0000000000000000\n\
                        demo no-new-privileges=1\ndemo seccomp=2\ndemo root=read-only\ndemo key=0\n";

    #[test]
    fn a_hardened_container_proves_every_promise() {
        assert!(read(GOOD).iter().all(|fact| fact.holds), "{:?}", read(GOOD));
    }

    #[test]
    fn each_promise_can_be_broken() {
        for (good, bad) in [
            ("uid=1000", "uid=0"),
            ("interfaces=lo", "interfaces=lo eth0"),
            ("capabilities=0000000000000000", "capabilities=00000000a80425fb"),
            ("no-new-privileges=1", "no-new-privileges=0"),
            ("seccomp=2", "seccomp=0"),
            ("root=read-only", "root=writable"),
            ("key=0", "key=1"),
        ] {
            let broken = read(&GOOD.replace(good, bad));
            assert_eq!(broken.iter().filter(|fact| !fact.holds).count(), 1, "{bad}: {broken:?}");
        }
        assert!(read("nothing").iter().all(|fact| !fact.holds));
    }

    #[test]
    fn limits_are_shown_as_the_kernel_has_them() {
        let line = |answer| limits(answer).split_once(": ").expect("a list").1.to_owned();
        assert_eq!(
            line("demo memory=4294967296\ndemo pids=512"),
            "memory 4096 MiB, pids 512"
        );
        assert_eq!(
            line("demo memory=9223372036854771712\ndemo pids="),
            "memory max, pids not read"
        );
        assert_eq!(line("demo memory=max\ndemo pids=max"), "memory max, pids max");
        assert_eq!(line(""), "memory not read, pids not read");
    }

    #[test]
    fn the_command_is_one_directive_of_the_script() {
        assert!(!COMMAND.contains('\n'));
    }
}
