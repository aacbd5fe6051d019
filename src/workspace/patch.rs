//! Changes → a patch in git's form, for people and for `git apply`.
//!
//! Pure but for the clock that bounds a hostile pair of files: two texts without a common line take quadratic time.

use similar::{Algorithm, ChangeTag, TextDiff};
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The largest patch, in bytes, but for the closing line.
const MAX_PATCH: usize = 1 << 20;
/// The longest that one file's differences are searched for; after that the rest counts as replaced.
const MAX_SEARCH: Duration = Duration::from_millis(500);

/// One side of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Side {
    Absent,
    File { executable: bool, state: FileState },
    Symlink(PathBuf),
}

/// What is known of a file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileState {
    Text(String),
    Binary,
    TooLarge,
    /// Not shown; why, as the end of a sentence about the file.
    Withheld(&'static str),
}

impl FileState {
    /// Text is what a patch can carry: UTF-8 without NUL.
    pub fn of(content: Vec<u8>) -> Self {
        match String::from_utf8(content) {
            Ok(text) if !text.contains('\0') => Self::Text(text),
            _ => Self::Binary,
        }
    }
}

/// A patch in the making.
#[derive(Debug, Default)]
pub struct Patch {
    text: String,
    insertions: u64,
    deletions: u64,
    /// Blocks that did not fit.
    cut: u64,
}

impl Patch {
    /// A file or link that appeared, disappeared or has other content. Links and files don't mix: two calls.
    pub fn file(&mut self, path: &Path, old: &Side, new: &Side) {
        let mut block = Block::begin(path);
        match (old, new) {
            (Side::Absent, new) => _ = writeln!(block.text, "new file mode {}", git_mode(new)),
            (old, Side::Absent) => _ = writeln!(block.text, "deleted file mode {}", git_mode(old)),
            (old, new) => block.modes(git_mode(old), git_mode(new)),
        }
        let name = |prefix, side: &Side| match side {
            Side::Absent => "/dev/null".to_owned(),
            _ => quote(prefix, path),
        };
        match (content(old), content(new)) {
            (Content::Text(before), Content::Text(after)) => {
                block.hunks(&name("a/", old), &name("b/", new), before, after);
            }
            (Content::Withheld(why), _) | (_, Content::Withheld(why)) => {
                _ = writeln!(block.text, "[codex-mcp: {} {why}]", quote("", path));
            }
            (Content::Unshown, _) | (_, Content::Unshown) => {
                _ = writeln!(
                    block.text,
                    "Binary files {} and {} differ",
                    name("a/", old),
                    name("b/", new)
                );
            }
        }
        self.push(&block);
    }

    /// Only the executable bit changed.
    pub fn mode_change(&mut self, path: &Path, old: bool, new: bool) {
        let mut block = Block::begin(path);
        block.modes(file_mode(old), file_mode(new));
        self.push(&block);
    }

    /// A line about a file whose change can't be told.
    pub fn note(&mut self, path: &Path, what: &str) {
        let mut block = Block::default();
        _ = writeln!(block.text, "[codex-mcp: {} {what}]", quote("", path));
        self.push(&block);
    }

    /// The text, insertions and deletions.
    pub fn finish(mut self) -> (String, u64, u64) {
        if self.cut > 0 {
            _ = writeln!(
                self.text,
                "[codex-mcp: the patch ends here at 1 MiB; {} more changed files are not in it]",
                self.cut
            );
        }
        (self.text, self.insertions, self.deletions)
    }

    fn push(&mut self, block: &Block) {
        // After the first that does not fit nothing more is added: the closing line is then true of a plain end.
        if self.cut > 0 || self.text.len() + block.text.len() > MAX_PATCH {
            self.cut += 1;
            return;
        }
        self.text.push_str(&block.text);
        self.insertions += block.insertions;
        self.deletions += block.deletions;
    }

    /// True once nothing more will be added, so that nothing more need be read: only [`Self::omit`] is left to do.
    pub fn is_full(&self) -> bool {
        self.cut > 0
    }

    /// Counts one more changed file that is not shown.
    pub fn omit(&mut self) {
        self.cut += 1;
    }
}

enum Content<'s> {
    Text(&'s str),
    Unshown,
    Withheld(&'static str),
}

fn content(side: &Side) -> Content<'_> {
    match side {
        Side::Absent => Content::Text(""),
        Side::File { state, .. } => match state {
            FileState::Text(text) => Content::Text(text),
            FileState::Binary => Content::Unshown,
            FileState::TooLarge => Content::Withheld("is larger than 1 MiB and is not shown"),
            FileState::Withheld(why) => Content::Withheld(why),
        },
        // Git's content of a link is its target.
        Side::Symlink(target) => target.to_str().map_or(Content::Unshown, Content::Text),
    }
}

fn git_mode(side: &Side) -> &'static str {
    match side {
        Side::Symlink(_) => "120000",
        Side::File { executable, .. } => file_mode(*executable),
        Side::Absent => file_mode(false),
    }
}

fn file_mode(executable: bool) -> &'static str {
    if executable { "100755" } else { "100644" }
}

/// What a patch says about one file.
#[derive(Debug, Default)]
struct Block {
    text: String,
    insertions: u64,
    deletions: u64,
}

impl Block {
    fn begin(path: &Path) -> Self {
        Self {
            text: format!("diff --git {} {}\n", quote("a/", path), quote("b/", path)),
            ..Self::default()
        }
    }

    fn modes(&mut self, old: &str, new: &str) {
        if old != new {
            _ = write!(self.text, "old mode {old}\nnew mode {new}\n");
        }
    }

    fn hunks(&mut self, old_name: &str, new_name: &str, before: &str, after: &str) {
        // Lines end with `\n` alone, as in git; the library's own splitting ends them at `\r` too.
        let before: Vec<&str> = before.split_inclusive('\n').collect();
        let after: Vec<&str> = after.split_inclusive('\n').collect();
        let diff = TextDiff::configure()
            .algorithm(Algorithm::Myers)
            .deadline(Instant::now() + MAX_SEARCH)
            .diff_slices(&before, &after);
        let unified = diff.unified_diff();
        for (number, hunk) in unified.iter_hunks().enumerate() {
            if number == 0 {
                _ = write!(self.text, "--- {}\n+++ {}\n", ended(old_name), ended(new_name));
            }
            _ = writeln!(self.text, "{}", hunk.header());
            for change in hunk.iter_changes() {
                let line: &str = change.value();
                let sign = match change.tag() {
                    ChangeTag::Equal => ' ',
                    ChangeTag::Insert => '+',
                    ChangeTag::Delete => '-',
                };
                self.insertions += u64::from(sign == '+');
                self.deletions += u64::from(sign == '-');
                self.text.push(sign);
                self.text.push_str(line);
                if !line.ends_with('\n') {
                    self.text.push_str("\n\\ No newline at end of file\n");
                }
            }
        }
    }
}

/// A name in `---` and `+++` lines; git ends it with a tab where it has spaces, because other tools put a date there.
fn ended(name: &str) -> String {
    if name.contains(' ') && !name.starts_with('"') {
        format!("{name}\t")
    } else {
        name.to_owned()
    }
}

/// A name as git writes it: in quotes with C escapes where it holds what could be mistaken or hide something.
fn quote(prefix: &str, path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let plain = |c: char| c != '"' && c != '\\' && !c.is_control() && !is_invisible(c);
    if let Ok(text) = std::str::from_utf8(bytes)
        && text.chars().all(plain)
    {
        return format!("{prefix}{text}");
    }
    let mut quoted = format!("\"{prefix}");
    for &byte in bytes {
        match byte {
            b'"' => quoted.push_str("\\\""),
            b'\\' => quoted.push_str("\\\\"),
            b'\n' => quoted.push_str("\\n"),
            b'\t' => quoted.push_str("\\t"),
            b' '..=b'~' => quoted.push(char::from(byte)),
            _ => _ = write!(quoted, "\\{byte:03o}"),
        }
    }
    quoted.push('"');
    quoted
}

/// What reorders or hides text in a terminal.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{061c}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ffi::OsStr;

    fn text(text: &str) -> Side {
        Side::File {
            executable: false,
            state: FileState::of(text.as_bytes().to_vec()),
        }
    }

    fn patch(path: &str, old: &Side, new: &Side) -> String {
        let mut patch = Patch::default();
        patch.file(Path::new(path), old, new);
        patch.finish().0
    }

    #[test]
    fn files_appear_change_and_disappear_in_gits_form() {
        insta::assert_snapshot!(patch("a b", &Side::Absent, &text("x\ny")).replace('\t', "<tab>"), @r"
        diff --git a/a b b/a b
        new file mode 100644
        --- /dev/null
        +++ b/a b<tab>
        @@ -0,0 +1,2 @@
        +x
        +y
        \ No newline at end of file
        ");
        insta::assert_snapshot!(patch("f", &text("1\n2\n3\n"), &text("1\n3\n")), @r"
        diff --git a/f b/f
        --- a/f
        +++ b/f
        @@ -1,3 +1,2 @@
         1
        -2
         3
        ");
        insta::assert_snapshot!(patch("f", &text(""), &Side::Absent), @r"
        diff --git a/f b/f
        deleted file mode 100644
        ");
    }

    #[test]
    fn links_modes_and_binaries() {
        let link = |target: &str| Side::Symlink(target.into());
        insta::assert_snapshot!(patch("l", &link("a"), &link("b")), @r"
        diff --git a/l b/l
        --- a/l
        +++ b/l
        @@ -1 +1 @@
        -a
        \ No newline at end of file
        +b
        \ No newline at end of file
        ");
        assert!(patch("l", &Side::Absent, &link("a")).contains("new file mode 120000\n"));
        insta::assert_snapshot!(patch("f", &text("a"), &text("\0")), @r"
        diff --git a/f b/f
        Binary files a/f and b/f differ
        ");
        let large = Side::File {
            executable: true,
            state: FileState::TooLarge,
        };
        insta::assert_snapshot!(patch("f", &text("a"), &large), @r"
        diff --git a/f b/f
        old mode 100644
        new mode 100755
        [codex-mcp: f is larger than 1 MiB and is not shown]
        ");
        let mut modes = Patch::default();
        modes.mode_change(Path::new("f"), true, false);
        insta::assert_snapshot!(modes.finish().0, @r"
        diff --git a/f b/f
        old mode 100755
        new mode 100644
        ");
    }

    #[test]
    fn a_name_can_not_forge_a_line_or_hide() {
        assert_eq!(quote("a/", Path::new("é x")), "a/é x");
        assert_eq!(quote("a/", Path::new("a\n+++ b/c\t\"\\")), r#""a/a\n+++ b/c\t\"\\""#);
        assert_eq!(quote("b/", Path::new("a\u{202e}b")), r#""b/a\342\200\256b""#);
        assert_eq!(
            quote("b/", Path::new(OsStr::from_bytes(b"\xff\x1b"))),
            r#""b/\377\033""#
        );
    }

    #[test]
    fn a_full_patch_says_what_is_missing() {
        let mut patch = Patch::default();
        let most = "x".repeat(MAX_PATCH - 1000);
        patch.file(Path::new("a"), &Side::Absent, &text(&most));
        assert!(!patch.is_full());
        patch.file(Path::new("b"), &Side::Absent, &text(&most));
        assert!(patch.is_full());
        patch.omit();
        patch.file(Path::new("small"), &Side::Absent, &text("1\n"));
        let (text, insertions, _) = patch.finish();
        assert!(text.len() < MAX_PATCH + 200);
        assert!(text.ends_with("[codex-mcp: the patch ends here at 1 MiB; 3 more changed files are not in it]\n"));
        assert_eq!(insertions, 1);
    }

    /// Does to `before` what the hunks of a patch of one file say.
    fn apply(before: &str, patch: &str) -> String {
        let mut lines = before.split_inclusive('\n');
        let mut position = 0;
        let mut after = String::new();
        let mut hunks = patch.split_inclusive('\n').skip_while(|line| !line.starts_with("@@"));
        for line in &mut hunks {
            let (sign, rest) = line.split_at(1);
            match sign {
                "@" => {
                    let range = rest.split_once('-').unwrap().1.split(' ').next().unwrap();
                    let (start, count) = range.split_once(',').unwrap_or((range, "1"));
                    let start: usize = start.parse().unwrap();
                    let start = if count == "0" { start } else { start - 1 };
                    while position < start {
                        after.push_str(lines.next().unwrap());
                        position += 1;
                    }
                }
                " " | "-" => {
                    let kept = lines.next().unwrap();
                    assert_eq!(kept.trim_end_matches('\n'), rest.trim_end_matches('\n'));
                    position += 1;
                    if sign == " " {
                        after.push_str(kept);
                    }
                }
                "+" => after.push_str(rest),
                other => panic!("{other}"),
            }
        }
        after.extend(lines);
        after
    }

    proptest! {
        #[test]
        fn applying_the_patch_gives_the_new_text(
            before in proptest::collection::vec("[ab\r]{0,2}\n", 0..12),
            after in proptest::collection::vec("[ab\r]{0,2}\n", 0..12),
        ) {
            let (before, after) = (before.concat(), after.concat());
            let made = patch("f", &text(&before), &text(&after));
            prop_assert_eq!(apply(&before, &made), after);
        }

        #[test]
        fn a_quoted_name_is_one_line(name in proptest::collection::vec(1u8..=255, 1..12)) {
            let quoted = quote("a/", Path::new(OsStr::from_bytes(&name)));
            prop_assert!(!quoted.chars().any(|c| c.is_control() || is_invisible(c)));
        }
    }
}
