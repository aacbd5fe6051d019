//! The layout is the architecture: which room may use which, how large a file may grow, and that each says what it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Every edge that the map allows: a room, and the rooms that its files may name in `crate::…` paths. What is missing
/// here is an absence that somebody relies on (docs/ARCHITECTURE.md says which).
const ALLOWED: &[(&str, &[&str])] = &[
    ("access", &["config", "durable"]),
    ("audit", &["config", "durable", "redact"]),
    ("auth", &["config", "dial", "durable", "redact", "wire"]),
    (
        "cli",
        &[
            "access",
            "audit",
            "codex",
            "config",
            "egress",
            "engine",
            "host",
            "image",
            "mcp",
            "obs",
            "plan",
            "redact",
            "scripted_model",
            "session",
            "supervise",
            "wire",
            "workspace",
        ],
    ),
    ("codex", &["config", "wire"]),
    ("config", &[]),
    ("dial", &["config"]),
    ("durable", &[]),
    ("egress", &["config", "dial", "wire"]),
    ("engine", &["config", "host", "plan", "supervise"]),
    ("guest", &["wire"]),
    ("host", &["config", "dial", "supervise"]),
    ("image", &["config", "host", "supervise", "wire"]),
    (
        "mcp",
        &[
            "access",
            "codex",
            "config",
            "egress",
            "obs",
            "plan",
            "redact",
            "session",
            "wire",
            "workspace",
        ],
    ),
    ("obs", &["config", "redact"]),
    ("plan", &["codex", "config", "egress", "host", "supervise", "wire"]),
    ("redact", &[]),
    ("scripted_model", &[]),
    (
        "session",
        &[
            "audit",
            "auth",
            "codex",
            "config",
            "dial",
            "durable",
            "egress",
            "engine",
            "host",
            "obs",
            "plan",
            "redact",
            "supervise",
            "wire",
            "workspace",
        ],
    ),
    ("supervise", &[]),
    ("wire", &[]),
    ("workspace", &["config", "durable", "supervise", "wire"]),
];

/// A file's lines before its tests.
const MAX_LINES: usize = 500;

#[test]
fn rooms_use_only_what_the_map_allows() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> = ALLOWED
        .iter()
        .map(|(room, uses)| (*room, uses.iter().copied().collect()))
        .collect();
    let mut broken = Vec::new();
    for (path, text) in sources() {
        let Some(room) = room_of(&path) else { continue };
        let uses = allowed
            .get(room.as_str())
            .unwrap_or_else(|| panic!("{room} is not on the map: add it, and to docs/ARCHITECTURE.md"));
        for named in named_rooms(product_lines(&text)) {
            if named != room && allowed.contains_key(named.as_str()) && !uses.contains(named.as_str()) {
                broken.push(format!("{}: {room} → {named}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "edges that the map forbids:\n{}", broken.join("\n"));
}

#[test]
fn the_map_has_no_cycle() {
    let graph: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    fn visit<'a>(room: &'a str, graph: &BTreeMap<&'a str, &'a [&'a str]>, path: &mut Vec<&'a str>) {
        assert!(!path.contains(&room), "a cycle: {path:?} → {room}");
        path.push(room);
        for next in graph[room] {
            visit(next, graph, path);
        }
        path.pop();
    }
    for room in graph.keys() {
        visit(room, &graph, &mut Vec::new());
    }
}

#[test]
fn files_stay_small_and_say_what_they_are_for() {
    for (path, text) in sources() {
        let lines = product_lines(&text).count();
        assert!(
            lines <= MAX_LINES,
            "{}: {lines} lines before its tests, {MAX_LINES} at most",
            path.display()
        );
        assert!(
            text.starts_with("//!"),
            "{} does not say what it is for",
            path.display()
        );
    }
}

#[test]
fn the_architecture_document_names_every_room() {
    let document = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    for (room, _) in ALLOWED {
        assert!(
            document.contains(&format!("`{room}`")),
            "docs/ARCHITECTURE.md does not mention `{room}`"
        );
        assert!(
            root().join("src").join(room).is_dir(),
            "the map has a room that isn't there: {room}"
        );
    }
}

/// The table for people says what the table for this test says.
#[test]
fn the_rooms_table_is_this_map() {
    let document = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let (_, after) = document.split_once("| room | may use | its one job |").unwrap();
    let rooms: Vec<&str> = ALLOWED.iter().map(|(room, _)| *room).collect();
    let written: BTreeMap<String, BTreeSet<String>> = after
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let [_, room, uses, ..] = cells[..] else {
                panic!("a row without its cells: {line}")
            };
            (room.trim_matches('`').to_owned(), rooms_in_cell(room, uses, &rooms))
        })
        .collect();
    let map: BTreeMap<String, BTreeSet<String>> = ALLOWED
        .iter()
        .map(|(room, uses)| ((*room).to_owned(), uses.iter().map(ToString::to_string).collect()))
        .collect();
    assert_eq!(written, map);
}

/// "–", names in backquotes with remarks in parentheses, or "all but" names.
fn rooms_in_cell(room: &str, cell: &str, rooms: &[&str]) -> BTreeSet<String> {
    let mut plain = cell.to_owned();
    while let (Some(open), Some(close)) = (plain.find('('), plain.find(')')) {
        plain.replace_range(open..=close, "");
    }
    let named: BTreeSet<String> = plain.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    for name in &named {
        assert!(rooms.contains(&name.as_str()), "{room}: no such room: {name}");
    }
    if !plain.starts_with("all but") {
        return named;
    }
    let others = rooms.iter().filter(|other| **other != room.trim_matches('`'));
    others
        .map(ToString::to_string)
        .filter(|other| !named.contains(other))
        .collect()
}

/// A signpost to a file that is not there misleads.
#[test]
fn the_architecture_document_points_at_files_that_are_there() {
    let document = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let pointed: Vec<&str> = document
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|text| {
            ["src/", "tests/", "config/"]
                .iter()
                .any(|start| text.starts_with(start))
        })
        .collect();
    assert!(pointed.len() > 40, "the signposts were found: {}", pointed.len());
    for path in pointed {
        assert!(root().join(path).exists(), "docs/ARCHITECTURE.md points at {path}");
    }
}

/// Nothing that needs an engine's API, and nothing that blocks on a TTY, may creep in through `std::process`.
#[test]
fn only_named_places_start_processes() {
    let starters: BTreeSet<String> = sources()
        .filter(|(_, text)| {
            product_lines(text).any(|line| line.contains("Command::new(") && !line.trim_start().starts_with("//"))
        })
        .map(|(path, _)| path.strip_prefix(root().join("src")).unwrap().display().to_string())
        .collect();
    let named: BTreeSet<String> = PROCESS_STARTERS.iter().map(ToString::to_string).collect();
    assert_eq!(starters, named);
}

const PROCESS_STARTERS: &[&str] = &[
    // A key that a command prints.
    "auth/secret.rs",
    // The demo's own server, which is this program.
    "cli/demo/server.rs",
    // Inside the container.
    "guest/spawn.rs",
    // Engine clients and their short commands; git, npm, mmdebstrap and builds.
    "supervise/spawner.rs",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> impl Iterator<Item = (PathBuf, String)> {
    let mut files = Vec::new();
    collect(&root().join("src"), &mut files);
    files.into_iter().map(|path| {
        let text = fs::read_to_string(&path).unwrap();
        (path, text)
    })
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test_code(&path) {
            files.push(path);
        }
    }
}

/// Files that only exist under `#[cfg(test)]`, by the names that we give them.
fn is_test_code(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    let inside = path.strip_prefix(root().join("src")).unwrap();
    name == "fixtures.rs" || name.ends_with("tests.rs") || inside.iter().any(|part| part == "tests")
}

/// `src/ROOM/…` → ROOM; main.rs and lib.rs belong to none.
fn room_of(path: &Path) -> Option<String> {
    let inside = path.strip_prefix(root().join("src")).unwrap();
    (inside.components().count() > 1).then(|| inside.iter().next().unwrap().to_str().unwrap().to_owned())
}

fn product_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"))
}

/// Rooms named as `crate::ROOM` in code (documentation may point anywhere).
fn named_rooms<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for line in lines.filter(|line| !line.trim_start().starts_with("//")) {
        for (at, _) in line.match_indices("crate::") {
            let rest = &line[at + "crate::".len()..];
            let room: String = rest
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                .collect();
            if !room.is_empty() {
                rooms.insert(room);
            }
            // `use crate::{a, b::c}` would hide edges from this test.
            assert!(!rest.starts_with('{'), "name each room on its own line: {line}");
        }
    }
    rooms
}
