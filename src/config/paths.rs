//! Default places of files, after the XDG base directory specification.

use std::ffi::OsString;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::ConfigError;

/// `$XDG_DATA_HOME/manent/flows.db`, or below `~/.local/share`.
///
/// # Errors
/// If neither `XDG_DATA_HOME` nor `HOME` is set.
pub fn default_store() -> Result<PathBuf, ConfigError> {
    Ok(data_home("the store")?.join("flows.db"))
}

/// Makes the folder of the store, for its owner alone, if that is the default one: in an empty home, nothing has made it yet. The
/// folder of a store that was named is its namer's.
///
/// # Errors
/// If it cannot be made.
pub fn make_default_folder(store: &Path) -> std::io::Result<()> {
    match store.parent().filter(|_| default_store().is_ok_and(|usual| usual == store)) {
        Some(folder) => std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder),
        None => Ok(()),
    }
}

/// `$XDG_DATA_HOME/manent/ca`, or below `~/.local/share`.
///
/// # Errors
/// If neither `XDG_DATA_HOME` nor `HOME` is set.
pub fn default_ca_dir() -> Result<PathBuf, ConfigError> {
    Ok(data_home("the CA")?.join("ca"))
}

/// `$XDG_CONFIG_HOME/manent/config.toml`, or below `~/.config`.
///
/// # Errors
/// If neither `XDG_CONFIG_HOME` nor `HOME` is set.
pub fn default_config() -> Result<PathBuf, ConfigError> {
    let place = locate(std::env::var_os("XDG_CONFIG_HOME"), std::env::var_os("HOME"), ".config");
    let place = place.ok_or(ConfigError::NoHome { xdg: "XDG_CONFIG_HOME", what: "the settings" })?;
    Ok(place.join("config.toml"))
}

fn data_home(what: &'static str) -> Result<PathBuf, ConfigError> {
    let place = locate(std::env::var_os("XDG_DATA_HOME"), std::env::var_os("HOME"), ".local/share");
    place.ok_or(ConfigError::NoHome { xdg: "XDG_DATA_HOME", what })
}

/// Below the XDG directory, or else below `usual` in the home directory.
fn locate(xdg: Option<OsString>, home: Option<OsString>, usual: &str) -> Option<PathBuf> {
    // A relative XDG path "should be considered invalid and ignored" (basedir-spec 0.8).
    let xdg = xdg.map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || home.filter(|home| !home.is_empty()).map(|home| PathBuf::from(home).join(usual));
    Some(xdg.or_else(home)?.join("manent"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_home_is_xdg_then_home_then_nowhere() {
        let place = |xdg: Option<&str>, home: Option<&str>| {
            locate(xdg.map(Into::into), home.map(Into::into), ".local/share")
        };
        assert_eq!(place(Some("/x"), Some("/h")), Some("/x/manent".into()));
        assert_eq!(place(Some("rel"), Some("/h")), Some("/h/.local/share/manent".into()));
        assert_eq!(place(Some(""), Some("/h")), Some("/h/.local/share/manent".into()));
        assert_eq!(place(None, Some("")), None);
        assert_eq!(place(None, None), None);
    }
}
