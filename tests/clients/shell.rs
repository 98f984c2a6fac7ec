//! Completions as zsh and fish read them, pages as mandoc does, the unit as systemd does.

use std::path::{Path, PathBuf};

use crate::harness::{Program, finish, manent, succeed, text};

/// What `completions SHELL` prints, in a file.
async fn script(dir: &Path, shell: &str, name: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, succeed(manent(dir).args(["completions", shell])).await).expect("written");
    path
}

#[tokio::test]
async fn zsh_and_fish_take_the_completions() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let zsh = script(dir.path(), "zsh", "_manent").await;
    succeed(Program::ZSH.command(dir.path()).arg("-n").arg(&zsh)).await;
    // Its own system of completions loads the file, and has it for the command.
    let load = "fpath=($HOME $fpath); autoload -U compinit; compinit -u -D; print -r -- $_comps[manent]";
    let loaded = succeed(Program::ZSH.command(dir.path()).args(["-f", "-c", load])).await;
    assert_eq!(text(&loaded), "_manent\n");

    let fish = script(dir.path(), "fish", "manent.fish").await;
    succeed(Program::FISH.command(dir.path()).arg("-n").arg(&fish)).await;
    let ask = |line: &str| format!("source {}; complete -C '{line}'", fish.display());
    for (line, offered) in
        [("manent expo", "export"), ("manent capture --max-a", "--max-age"), ("manent config sh", "show")]
    {
        let output = succeed(Program::FISH.command(dir.path()).args(["-c", &ask(line)])).await;
        let words = text(&output);
        assert!(words.lines().any(|word| word.split('\t').next() == Some(offered)), "{line}: {words}");
    }
}

#[tokio::test]
async fn every_page_of_the_manual_is_well_formed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let pages = dir.path().join("man1");
    succeed(manent(dir.path()).args(["man", "--dir"]).arg(&pages)).await;
    let pages: Vec<_> =
        std::fs::read_dir(&pages).expect("made").map(|page| page.expect("read").path()).collect();
    assert!(pages.len() > 25, "{pages:?}");
    succeed(Program::MANDOC.command(dir.path()).args(["-T", "lint", "-W", "error"]).args(&pages)).await;
    let capture = pages.iter().find(|page| page.ends_with("manent-capture.1")).expect("a page");
    let shown = text(&succeed(Program::MANDOC.command(dir.path()).args(["-T", "utf8"]).arg(capture)).await);
    assert!(shown.contains("MANENT_MAX_AGE") && shown.contains("Exit codes:"), "{shown}");
}

#[tokio::test]
async fn systemd_takes_the_unit() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/deploy/manent.service");
    let unit = std::fs::read_to_string(unit).expect("it is there");
    // The binary stands elsewhere here.
    let unit = unit.replace("/usr/local/bin/manent", env!("CARGO_BIN_EXE_manent"));
    let path = dir.path().join("manent.service");
    std::fs::write(&path, unit).expect("written");
    let output = finish(Program::SYSTEMD_ANALYZE.command(dir.path()).arg("verify").arg(&path)).await;
    // It ends with 0 also where it has something to say of the unit.
    let told: Vec<_> = text(&output.stderr)
        .lines()
        .filter(|line| line.contains("manent.service"))
        .map(str::to_owned)
        .collect();
    assert!(output.status.success() && told.is_empty(), "{}: {told:?}", output.status);
    let mut security = Program::SYSTEMD_ANALYZE.command(dir.path());
    succeed(security.args(["security", "--offline=true", "--threshold=20"]).arg(&path)).await;
}
