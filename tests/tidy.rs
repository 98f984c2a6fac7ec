//! The rules of the house that no lint knows: which module may use which, how files begin and how long they are.
//!
//! Standard library only, so that it can run when nothing else builds. It reads text, not syntax: comments and strings
//! are blanked first, and what remains is searched for paths. A macro that makes paths would escape it; there is none.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The rows of the house. A module uses modules of smaller rows and itself, never its neighbours.
const ROWS: &[(u8, &[&str])] = &[
    (0, &["flow"]),
    (1, &["codec", "http1", "http2", "websocket", "filter", "format", "tls"]),
    (2, &["rules", "store", "upstream"]),
    (3, &["record"]),
    (4, &["exchange"]),
    (5, &["proxy"]),
    (6, &["replay", "web"]),
    (7, &["config"]),
    (8, &["app"]),
    (9, &["cli"]),
];

/// What may stand at the top of the repository, beside names that begin with a dot. `target` is not in the repository.
const TOP_LEVEL: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "build.rs",
    "certs",
    "examples",
    "proto",
    "src",
    "target",
    "tests",
];

/// The only file that prints.
const PRINTER: &str = "src/cli/output.rs";

const MAX_LINES: usize = 600;
const MAX_MAIN_LINES: usize = 40;

/// One file with what is looked at.
struct Source {
    /// From the top of the repository, with `/`.
    path: String,
    text: String,
    /// `text` with comments and literals blanked, line for line.
    code: String,
}

#[test]
fn modules_use_only_rows_above_them() {
    complain(sources(&["src"]).iter().flat_map(edges_out_of_row));
}

#[test]
fn files_say_what_they_are_and_stay_short() {
    complain(sources(&["src", "tests", "examples"]).iter().flat_map(head_and_length));
}

#[test]
fn banned_words_do_not_occur() {
    complain(sources(&["src", "tests", "examples"]).iter().flat_map(banned));
}

#[test]
fn the_top_level_holds_what_was_agreed() {
    let entries = std::fs::read_dir(root()).expect("the repository is readable");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let strays = names.filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()));
    complain(strays.map(|name| format!("{name}: not one of the names agreed for the top level")));
}

#[test]
fn a_bad_edge_is_caught() {
    let caught = |path: &str, text: &str| edges_out_of_row(&Source::new(path, text));
    // To a row below, to a neighbour, in a group, in an expression, by `super`, and from a module in no row.
    assert_eq!(
        caught("src/flow/mid.rs", "use crate::store::Reader;"),
        ["src/flow/mid.rs:1: flow uses store"]
    );
    assert_eq!(caught("src/tls/mod.rs", "\nuse crate::http1::Head;"), ["src/tls/mod.rs:2: tls uses http1"]);
    assert_eq!(
        caught("src/record/mod.rs", "use crate::{\n    flow::{Flow, Mid},\n    cli::run,\n};"),
        ["src/record/mod.rs:1: record uses cli"]
    );
    assert_eq!(
        caught("src/proxy/a/b.rs", "fn f() { let _ = crate::config::Config::default(); }"),
        ["src/proxy/a/b.rs:1: proxy uses config"]
    );
    assert_eq!(
        caught("src/store/a.rs", "use super::super::app::Proxy;"),
        ["src/store/a.rs:1: store uses app"]
    );
    assert_eq!(caught("src/util.rs", "//! Things."), ["src/util.rs:1: module `util` is in no row"]);
    // What is allowed, or only looks like an edge.
    assert!(
        caught("src/proxy/mod.rs", "use crate::exchange::X; use crate::{flow::Mid, proxy::Y};").is_empty()
    );
    assert!(
        caught("src/flow/mod.rs", "//! See crate::cli.\n/* crate::cli */ const S: &str = \"crate::cli\";")
            .is_empty()
    );
    assert!(
        caught("src/flow/mod.rs", "const C: char = '\"'; /// crate::app\nfn f<'a>(x: &'a str) {}").is_empty()
    );
    assert!(caught("src/store/a.rs", "use super::app_id;").is_empty());
}

#[test]
fn banned_words_are_caught() {
    let caught = |path: &str, text: &str| banned(&Source::new(path, text)).len();
    assert_eq!(caught("src/record/mod.rs", &["mpsc::unbounded", "_channel()"].concat()), 1);
    assert_eq!(caught("src/store/mod.rs", "println!(\"x\")"), 1);
    assert_eq!(caught(PRINTER, "println!(\"x\")"), 0);
    assert_eq!(caught("src/store/mod.rs", "// println! is not for us\nmy_print!()"), 0);
    assert_eq!(caught("tests/it/main.rs", &["std::thread::", "sleep(x)"].concat()), 1);
    assert_eq!(caught("tests/bench/proxy/main.rs", &["tokio::time::", "sleep(x)"].concat()), 0);
    assert_eq!(caught("src/app/tests.rs", &["use tokio::time::{Duration, ", "sleep};"].concat()), 1);
}

/// One complaint for each edge to a row that is not above, and one if the module is in no row.
fn edges_out_of_row(source: &Source) -> Vec<String> {
    let Some(inside) = source.path.strip_prefix("src/") else { return Vec::new() };
    // The roots of the two crates know all rows.
    if matches!(inside, "lib.rs" | "main.rs") {
        return Vec::new();
    }
    let module = inside.split(['/', '.']).next().unwrap_or_default();
    let Some(row) = row_of(module) else {
        return vec![format!("{}:1: module `{module}` is in no row", source.path)];
    };
    let allowed = |used: &str| used == module || row_of(used).is_none_or(|used| used < row);
    let edges = used_modules(source).into_iter().filter(|(_, used)| !allowed(used));
    edges.map(|(line, used)| format!("{}:{line}: {module} uses {used}", source.path)).collect()
}

fn row_of(module: &str) -> Option<u8> {
    ROWS.iter().find(|(_, modules)| modules.contains(&module)).map(|(row, _)| *row)
}

/// What follows each path to the root of the crate: line and name.
fn used_modules(source: &Source) -> Vec<(usize, String)> {
    let depth = source.path.trim_end_matches("/mod.rs").matches('/').count();
    let to_root = ["crate::".to_owned(), "super::".repeat(depth)];
    let mut found = Vec::new();
    for prefix in to_root {
        for (at, _) in source.code.match_indices(&prefix) {
            let before = source.code[..at].chars().next_back();
            // `my_crate::` is another word; `super::` before makes a longer path, or one that was seen already.
            if before.is_some_and(|c| is_word(c) || c == ':') {
                continue;
            }
            let line = source.code[..at].matches('\n').count() + 1;
            let rest = &source.code[at + prefix.len()..];
            found.extend(first_names(rest).into_iter().map(|name| (line, name)));
        }
    }
    found
}

/// The name that `path` begins with, or each of those of a group in braces.
fn first_names(path: &str) -> Vec<String> {
    let word = |text: &str| text.trim_start().chars().take_while(|c| is_word(*c)).collect::<String>();
    let Some(group) = path.strip_prefix('{') else { return vec![word(path)] };
    let mut names = vec![word(group)];
    let mut depth = 1;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => names.push(word(&group[at + 1..])),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

fn head_and_length(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    if !source.text.starts_with("//!") {
        complaints.push(format!("{}: does not begin with `//!`", source.path));
    }
    let most = if source.path == "src/main.rs" { MAX_MAIN_LINES } else { MAX_LINES };
    let lines = source.text.lines().count();
    if lines >= most {
        complaints.push(format!("{}: {lines} lines, and must stay under {most}", source.path));
    }
    complaints
}

fn banned(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    let is_test = source.path.starts_with("tests/") || source.path.ends_with("/tests.rs");
    let may_sleep = !is_test || source.path.starts_with("tests/bench/");
    let may_print = !source.path.starts_with("src/") || source.path == PRINTER;
    for (at, line) in source.code.lines().enumerate() {
        let has = |word: &str| {
            line.match_indices(word).any(|(at, _)| !line[..at].chars().next_back().is_some_and(is_word))
        };
        let mut complain = |what: &str| complaints.push(format!("{}:{}: {what}", source.path, at + 1));
        if has("unbounded_channel") {
            complain("an unbounded channel: give it a bound");
        }
        if has("todo!") || has("unimplemented!") {
            complain("unfinished: do it, or leave it out");
        }
        if line.contains("#[ignore") {
            complain("an ignored test: assert what holds today, and say why it is wrong");
        }
        if !may_sleep && (has("thread::sleep") || has("time::sleep") || has("time::{") && has("sleep")) {
            complain("a sleeping test: wait for the event");
        }
        if !may_print && ["print!", "println!", "eprint!", "eprintln!", "dbg!"].iter().any(|word| has(word)) {
            complain("prints: only src/cli/output.rs does");
        }
    }
    complaints
}

fn complain(complaints: impl Iterator<Item = String>) {
    let all = complaints.fold(String::new(), |mut all, complaint| {
        let _ = writeln!(all, "  {complaint}"); // a String takes everything
        all
    });
    assert!(all.is_empty(), "\n{all}");
}

impl Source {
    fn new(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned(), code: blank(text) }
    }
}

/// `text` with comments, strings and character literals as spaces; line breaks stay.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let len = match rest {
            [b'/', b'/', ..] => rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()),
            [b'/', b'*', ..] => find(rest, 2, b"*/"),
            [b'"', ..] => string_len(rest),
            [b'r', ..] if raw_string_len(bytes, at).is_some() => raw_string_len(bytes, at).unwrap_or(1),
            [b'\'', b'\\', ..] => find(rest, 3, b"'"),
            // A lifetime has no closing quote.
            [b'\'', _, b'\'', ..] => 3,
            _ => {
                at += 1;
                continue;
            }
        };
        out[at..at + len].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
        at += len;
    }
    String::from_utf8(out).expect("whole literals are blanked, so no character is cut")
}

/// Where `needle` ends in `bytes`, searched from `from`; the end of `bytes` if it is not there.
fn find(bytes: &[u8], from: usize, needle: &[u8]) -> usize {
    let tail = bytes.get(from..).unwrap_or_default();
    tail.windows(needle.len()).position(|at| at == needle).map_or(bytes.len(), |at| from + at + needle.len())
}

fn string_len(bytes: &[u8]) -> usize {
    let mut at = 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// The length of the raw string that begins at `at`, if one does: `r"…"`, `r#"…"#`, also as the end of `br"…"`.
fn raw_string_len(bytes: &[u8], at: usize) -> Option<usize> {
    let before = at.checked_sub(1).map(|before| char::from(bytes[before]));
    if before.is_some_and(|c| is_word(c) && c != 'b') {
        return None;
    }
    let hashes = bytes[at + 1..].iter().take_while(|b| **b == b'#').count();
    let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    (bytes.get(at + 1 + hashes) == Some(&b'"')).then(|| find(&bytes[at..], hashes + 2, &close))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn sources(dirs: &[&str]) -> Vec<Source> {
    let mut paths: Vec<PathBuf> = dirs.iter().map(|dir| root().join(dir)).collect();
    let mut sources = Vec::new();
    while let Some(path) = paths.pop() {
        if path.is_dir() && !path.ends_with("node_modules") {
            let entries = std::fs::read_dir(&path).expect("a directory of the repository is readable");
            paths.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file is UTF-8");
            let inside = path.strip_prefix(root()).expect("it was found below the root");
            sources.push(Source::new(&inside.to_string_lossy().replace('\\', "/"), &text));
        }
    }
    sources
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
