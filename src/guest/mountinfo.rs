//! `/proc/self/mountinfo` (proc_pid_mountinfo(5)) as data. Pure.

use crate::wire::contract::MountReading;
use std::collections::{HashMap, HashSet};

/// One line: what the host is told, and what the search for the cgroup needs besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountLine {
    pub reading: MountReading,
    /// The directory of the file system that is mounted here; for a cgroup, which cgroup.
    pub root: String,
    /// Options of the file system itself; for cgroup v1, its controllers.
    pub super_options: Vec<String>,
    id: u64,
    parent: u64,
}

/// A line that is none: nothing of the table is used then.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of /proc/self/mountinfo can't be understood")]
pub struct MalformedLine {
    pub line: usize,
}

/// Parses the whole table; the kernel's order is kept.
pub fn parse(table: &str) -> Result<Vec<MountLine>, MalformedLine> {
    let mut lines = table
        .lines()
        .enumerate()
        .map(|(index, line)| parse_line(line).ok_or(MalformedLine { line: index + 1 }))
        .collect::<Result<Vec<_>, _>>()?;
    mark_reachable(&mut lines);
    Ok(lines)
}

/// Finds out which mounts paths lead to, as the kernel looks paths up: from the root, and at each component on to what
/// is mounted there. The order of the table says nothing about it: it is the order of attaching on older kernels, of
/// making on newer ones, and runtimes make some mounts long before they attach them.
fn mark_reachable(lines: &mut [MountLine]) {
    let ids: HashSet<u64> = lines.iter().map(|line| line.id).collect();
    let is_root = |line: &MountLine| line.parent == line.id || !ids.contains(&line.parent);
    let Some(root) = lines.iter().position(is_root) else {
        return;
    };
    let on_top: HashMap<(u64, &str), usize> = lines
        .iter()
        .enumerate()
        .filter(|(index, _)| *index != root)
        .map(|(index, line)| ((line.parent, line.reading.target.as_str()), index))
        .collect();
    let lead_to = |target: &str| {
        let mut at = root;
        let ends = target
            .match_indices('/')
            .map(|(end, _)| end)
            .skip(1)
            .chain([target.len()]);
        for prefix in std::iter::once("/").chain(ends.map(|end| &target[..end])) {
            // Each mount is passed at most once in any real table; the bound keeps a table that contradicts itself
            // from going round for ever.
            for _ in 0..lines.len() {
                match on_top.get(&(lines[at].id, prefix)) {
                    Some(next) => at = *next,
                    None => break,
                }
            }
        }
        at
    };
    let reachable: Vec<bool> = lines
        .iter()
        .enumerate()
        .map(|(index, line)| lead_to(&line.reading.target) == index)
        .collect();
    for (line, reachable) in lines.iter_mut().zip(reachable) {
        line.reading.reachable = reachable;
    }
}

fn parse_line(line: &str) -> Option<MountLine> {
    // Single spaces, not white space: a name's own blanks are escaped, a source may be empty.
    let mut words = line.split(' ');
    let (id, parent, _device) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?);
    let (root, target, options) = (words.next()?, words.next()?, words.next()?);
    // Any number of optional fields (`shared:1`, `master:2`), ended by a dash.
    words.find(|word| *word == "-")?;
    let (fstype, _source, super_options) = (words.next()?, words.next()?, words.next()?);
    let has = |option: &str| options.split(',').any(|set| set == option);
    let super_options: Vec<String> = super_options.split(',').map(str::to_owned).collect();
    Some(MountLine {
        reading: MountReading {
            target: unescape(target),
            fstype: fstype.to_owned(),
            // A bind mount of a read-only file system says `rw` for itself, and the other way round.
            read_only: has("ro") || super_options.iter().any(|set| set == "ro"),
            nosuid: has("nosuid"),
            nodev: has("nodev"),
            noexec: has("noexec"),
            reachable: false,
            size: None,
        },
        root: unescape(root),
        super_options,
        id,
        parent,
    })
}

/// Undoes the kernel's `\040` and the like. What is no escape stays as it is.
fn unescape(name: &str) -> String {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let [first, tail @ ..] = rest {
        match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] => {
                plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = tail;
            }
            _ => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Lines of a rootful podman, a rootless podman and a docker container.
    const REAL: &str = "\
97 71 0:40 / / ro,relatime - overlay overlay rw,lowerdir=/var/lib/containers/storage/overlay/l/5YIC,uuid=on,fsync=volatile
103 100 0:47 / /tmp/a\\040b rw,nosuid,nodev,relatime - tmpfs tmpfs rw,size=1024k
77 99 0:46 /null /proc/keys rw,nosuid,noexec - tmpfs tmpfs rw,size=65536k,mode=755
112 111 0:29 /libpod_parent/libpod-9abd /sys/fs/cgroup/cpu ro,nosuid,nodev,noexec,relatime - cgroup cgroup rw,cpu
78 101 0:49 / /proc/acpi rw,relatime - tmpfs tmpfs ro,uid=100000,gid=100000
95 71 0:39 / / ro,relatime shared:1 master:2 - overlay overlay rw,workdir=/var/lib/docker/overlay2/c871/work
";

    fn line(text: &str) -> MountLine {
        parse(text).unwrap().remove(0)
    }

    #[test]
    fn the_engines_own_lines() {
        let lines = parse(REAL).unwrap();
        let flags: Vec<_> = lines
            .iter()
            .map(|MountLine { reading: r, .. }| {
                (
                    r.target.as_str(),
                    r.fstype.as_str(),
                    r.read_only,
                    r.nosuid,
                    r.nodev,
                    r.noexec,
                )
            })
            .collect();
        assert_eq!(
            flags,
            [
                ("/", "overlay", true, false, false, false),
                ("/tmp/a b", "tmpfs", false, true, true, false),
                ("/proc/keys", "tmpfs", false, true, false, true),
                ("/sys/fs/cgroup/cpu", "cgroup", true, true, true, true),
                ("/proc/acpi", "tmpfs", true, false, false, false),
                ("/", "overlay", true, false, false, false),
            ]
        );
        assert_eq!(lines[3].root, "/libpod_parent/libpod-9abd");
        assert_eq!(lines[3].super_options, ["rw", "cpu"]);
    }

    #[track_caller]
    fn reachable(table: &str) -> Vec<bool> {
        let lines = parse(table).unwrap();
        lines.into_iter().map(|line| line.reading.reachable).collect()
    }

    #[test]
    fn a_mount_over_another_or_above_it_hides_it_in_whatever_order_they_are_listed() {
        // 2 is /a, 3 is mounted in it; 4 was mounted over /a afterwards: its parent is 2.
        let lines = [
            "1 0 0:1 / / ro - overlay o ro",
            "2 1 0:2 / /a rw - tmpfs t rw",
            "3 2 0:3 / /a/b ro - tmpfs t ro",
            "4 2 0:4 / /a rw - tmpfs t rw",
        ];
        assert_eq!(reachable(&lines.join("\n")), [true, false, false, true]);
        let reversed: Vec<&str> = lines.into_iter().rev().collect();
        assert_eq!(reachable(&reversed.join("\n")), [true, false, false, true]);
    }

    #[test]
    fn a_mount_inside_of_another_is_reachable_though_it_is_listed_first() {
        let table = "3 2 0:3 / /a/b ro - tmpfs t ro\n2 1 0:2 / /a rw - tmpfs t rw\n1 0 0:1 / / ro - overlay o ro";
        assert_eq!(reachable(table), [true, true, true]);
        // Nothing of `/a` is on the way to `/ab`.
        let table = "1 1 0:1 / / ro - overlay o ro\n2 1 0:2 / /a rw - tmpfs t rw\n3 1 0:3 / /ab rw - tmpfs t rw";
        assert_eq!(reachable(table), [true, true, true]);
    }

    #[test]
    fn a_table_that_goes_round_ends() {
        let table = "1 0 0:1 / / ro - a a ro\n2 1 0:2 / /a rw - a a rw\n2 2 0:2 / /a rw - a a rw\n";
        assert!(reachable(table)[0]);
        assert_eq!(
            reachable("1 2 0:1 / / ro - a a ro\n2 1 0:2 / / rw - a a rw\n"),
            [false, false]
        );
    }

    #[test]
    fn escapes_are_octal_and_a_lone_backslash_stays() {
        assert_eq!(unescape(r"/a\040b\011c\012d\134e"), "/a b\tc\nd\\e");
        assert_eq!(unescape(r"/x\04"), r"/x\04");
        assert_eq!(unescape(r"\134040"), r"\040");
    }

    #[test]
    fn an_empty_source_and_a_dash_in_a_name_confuse_nothing() {
        let read = line("1 2 0:3 / /a-b rw - none - ro").reading;
        assert_eq!(
            (read.target.as_str(), read.fstype.as_str(), read.read_only),
            ("/a-b", "none", true)
        );
        let read = line("1 2 0:3 / /a rw - tmpfs  rw").reading;
        assert_eq!((read.fstype.as_str(), read.read_only), ("tmpfs", false));
    }

    #[test]
    fn a_strange_line_is_named() {
        let table = "1 0 0:1 / / rw - tmpfs a rw\n2 0 0:1 / /b rw tmpfs a rw\n";
        assert_eq!(parse(table), Err(MalformedLine { line: 2 }));
    }

    proptest! {
        #[test]
        fn any_name_survives_the_kernels_escaping(name in "/[ -~\t\n]{0,30}") {
            let escaped: String = name
                .bytes()
                .map(|byte| match byte {
                    b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}"),
                    plain => char::from(plain).to_string(),
                })
                .collect();
            let read = line(&format!("1 2 0:3 / {escaped} rw shared:7 - ext4 /dev/x rw"));
            prop_assert_eq!(read.reading.target, name);
        }

        #[test]
        fn arbitrary_text_never_panics(text in "(\\PC|[ \\\\0-9/,:-]){0,200}") {
            let _ = parse(&text);
        }
    }
}
