//! The settings of a capture that runs, read again on SIGHUP.

use std::ffi::OsString;

use super::args::{Command, Global};
use super::errors;
use super::log::Log;
use super::output::Output;
use super::tree;
use crate::app::Proxy;
use crate::config::setting::Setting;
use crate::config::{CHANGEABLE, Config};

/// What is needed to read them again, and to tell what is new.
pub(super) struct Reload {
    args: Vec<OsString>,
    settings: Vec<Setting>,
    log: Log,
}

impl Reload {
    /// The command line that the process was started with, and what it came to.
    pub(super) fn new(args: Vec<OsString>, settings: Vec<Setting>, log: Log) -> Self {
        Self { args, settings, log }
    }

    /// Reads file and environment again, and has `proxy` go by what may change. If anything is wrong, all stays as it was.
    pub(super) fn again(&mut self, proxy: &Proxy, running: &mut Config, output: &Output) {
        let (global, settings, config) = match self.read(running) {
            Ok(read) => read,
            Err(error) => {
                // Told as at a start; but nothing ends.
                let _ = errors::report(&error, output);
                return output.say("warning: the settings could not be read again; they stay as they were");
            }
        };
        let changed: Vec<&Setting> = settings.iter().filter(|new| self.is_news(new)).collect();
        let (now, later): (Vec<_>, Vec<_>) = changed.into_iter().partition(|setting| applies(&setting.key));
        proxy.change(&config);
        self.log.change(&global);
        let told = now.iter().map(|setting| {
            format!("{} {}", setting.key, setting.shown().unwrap_or_else(|| "none".to_owned()))
        });
        let told = told.collect::<Vec<_>>().join("; ");
        let what = if told.is_empty() { "nothing new that applies now".to_owned() } else { told };
        output.say(&format!("settings read again: {what}"));
        if !later.is_empty() {
            let keys = later.iter().map(|setting| setting.key.as_str()).collect::<Vec<_>>().join(", ");
            output.say(&format!("warning: changed, but needs a restart: {keys}"));
        }
        *running = config;
        // What needs a restart stays news until there is one.
        for setting in settings.into_iter().filter(|setting| applies(&setting.key)) {
            if let Some(old) = self.settings.iter_mut().find(|old| old.key == setting.key) {
                *old = setting;
            }
        }
    }

    fn read(&self, running: &Config) -> anyhow::Result<(Global, Vec<Setting>, Config)> {
        let (cli, settings) = tree::parse(&self.args)?;
        let Command::Capture(args) = cli.command else {
            anyhow::bail!("the command line is not a capture's")
        };
        let config = running.changed(args.config(&cli.global)?);
        // By the addresses that are listened on, not by those that a restart would listen on.
        config.check()?;
        Ok((cli.global, settings, config))
    }

    fn is_news(&self, new: &Setting) -> bool {
        self.settings.iter().any(|old| old.key == new.key && !old.says_the_same(new))
    }
}

/// Whether a change of the setting holds at once.
fn applies(key: &str) -> bool {
    CHANGEABLE.contains(&key) || LOGGING.contains(&key)
}

/// What the log lets through. `quiet` is asked for that as well, but also where things are said.
const LOGGING: &[&str] = &["log", "verbose"];
