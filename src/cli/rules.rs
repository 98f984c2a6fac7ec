//! `--block`, `--delay`, `--set-header` and the rules on WebSockets.

use clap::Args;

use super::errors::CliError;
use crate::rules::{RuleKind, Rules};

/// All are repeatable, and those of a kind act in their order.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Rules")]
pub(super) struct RuleFlags {
    /// Answer requests that match with 403, or with STATUS; kill: cut the connection, or reset the stream. Nothing of them is
    /// sent on. Here and below: any sign may stand for the /; FILTER is asked when the head of a request has come, and an
    /// empty one is every flow; all are repeatable. `manent filter` tells the language
    #[arg(long, value_name = "FILTER|/FILTER/STATUS|/FILTER/kill", env = "MANENT_BLOCK")]
    block: Vec<String>,
    /// Hold requests, all or those that match, before they are sent on
    #[arg(long, value_name = "TIME|/FILTER/TIME", env = "MANENT_DELAY")]
    delay: Vec<String>,
    /// Set a field of requests on their way to the origin
    #[arg(long, value_name = "NAME: VALUE|/FILTER/NAME: VALUE", env = "MANENT_SET_HEADER")]
    set_header: Vec<String>,
    /// Remove the fields of a name
    #[arg(long, value_name = "NAME|/FILTER/NAME", env = "MANENT_REMOVE_HEADER")]
    remove_header: Vec<String>,
    /// Change what is found in text messages of WebSockets; WHO sent them: client, server, any. $1 in TEXT is what the first
    /// parentheses found, $$ a dollar
    #[arg(long, value_name = "/FILTER/WHO/REGEX/TEXT", env = "MANENT_WS_REPLACE")]
    ws_replace: Vec<String>,
    /// Do not send on messages in which something is found
    #[arg(long, value_name = "/FILTER/WHO/REGEX", env = "MANENT_WS_DROP")]
    ws_drop: Vec<String>,
    /// Send a message to client or server, after each in which something is found; where REGEX is empty, as soon as the
    /// WebSocket is open
    #[arg(long, value_name = "/FILTER/TO/REGEX/TEXT", env = "MANENT_WS_INJECT")]
    ws_inject: Vec<String>,
}

impl RuleFlags {
    /// What they come to.
    ///
    /// # Errors
    /// If one is no rule.
    pub(super) fn rules(&self) -> Result<Rules, CliError> {
        let mut rules = Rules::default();
        for (kind, texts) in [
            (RuleKind::Block, &self.block),
            (RuleKind::Delay, &self.delay),
            (RuleKind::RemoveHeader, &self.remove_header),
            (RuleKind::SetHeader, &self.set_header),
            (RuleKind::WsReplace, &self.ws_replace),
            (RuleKind::WsDrop, &self.ws_drop),
            (RuleKind::WsInject, &self.ws_inject),
        ] {
            for text in texts {
                rules.add(kind, text).map_err(CliError::Rule)?;
            }
        }
        Ok(rules)
    }
}
