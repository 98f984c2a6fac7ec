//! `manent completions` and `manent man`: made of the command tree, so that they are as it is.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::{Generator as _, Shell};

use super::errors::CliError;
use super::output::Output;
use super::{text, tree};

/// Print the completions for a shell
#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Print the manual, a page a command
#[derive(Debug, Args)]
#[command(after_help = MAN)]
pub(super) struct ManArgs {
    /// The page of this command: `capture`, `config show` [default: manent itself]
    #[arg(value_name = "COMMAND", conflicts_with = "dir")]
    command: Vec<String>,
    /// Write all pages into this directory, which is made
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn completions(args: &CompletionsArgs, output: &Output) -> anyhow::Result<ExitCode> {
    // Into memory first: the generators panic on a pipe that is closed.
    let mut script = Vec::new();
    let mut tree = tree::visible();
    tree.set_bin_name(NAME);
    tree.build();
    args.shell.try_generate(&tree, &mut script)?;
    write(output, &script)
}

pub(super) fn man(args: &ManArgs, output: &Output) -> anyhow::Result<ExitCode> {
    let mut tree = tree::visible().disable_help_subcommand(true);
    // Before: pages of subcommands are called after those above them.
    tree.build();
    if let Some(dir) = &args.dir {
        std::fs::create_dir_all(dir).map_err(|source| CliError::Write { path: text::path(dir), source })?;
        let pages = write_pages(&tree, dir)?;
        output.talk(&format!("{} → {}", text::count(pages, "page"), text::path(dir)));
        return Ok(ExitCode::SUCCESS);
    }
    let mut command = &tree;
    for name in args.command.iter().flat_map(|word| word.split_whitespace()).filter(|&word| word != NAME) {
        command =
            command.find_subcommand(name).ok_or_else(|| CliError::NoCommand { name: name.to_owned() })?;
    }
    write(output, &page(command)?)
}

/// Writes the page of `command` and those of the ones below it; gives their number.
fn write_pages(command: &Command, dir: &Path) -> anyhow::Result<u64> {
    let name = command.get_display_name().unwrap_or(NAME);
    let path = dir.join(format!("{name}.1"));
    let written = std::fs::write(&path, page(command)?);
    written.map_err(|source| CliError::Write { path: text::path(&path), source })?;
    let below = command.get_subcommands().filter(|below| !below.is_hide_set());
    below.map(|below| write_pages(below, dir)).try_fold(1, |sum, pages| Ok(sum + pages?))
}

fn page(command: &Command) -> std::io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(command.clone());
    man.source(concat!("manent ", env!("CARGO_PKG_VERSION"))).manual("manent").render(&mut page)?;
    Ok(page)
}

fn write(output: &Output, bytes: &[u8]) -> anyhow::Result<ExitCode> {
    use std::io::Write as _;

    let mut data = output.data();
    data.write_all(bytes)?;
    data.flush()?;
    Ok(ExitCode::SUCCESS)
}

const NAME: &str = "manent";

const COMPLETIONS: &str = "\
Examples:
  manent completions bash > ~/.local/share/bash-completion/completions/manent
  manent completions zsh > ~/.zfunc/_manent     with ~/.zfunc in $fpath, before compinit
  manent completions fish > ~/.config/fish/completions/manent.fish
  manent completions powershell >> $PROFILE
  manent completions elvish >> ~/.config/elvish/rc.elv";

const MAN: &str = "\
Examples:
  manent man | man -l -
  manent man capture | man -l -
  manent man --dir ~/.local/share/man/man1     then: man manent, man manent-capture";
