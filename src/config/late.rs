//! Values that flags take as texts and that are read when everything else is known. On a command line that tells early enough; a
//! file and a variable are told here where they stand, whichever command reads them.

use super::ConfigError;
use crate::filter::Filter;
use crate::proxy::ProxyAuth;
use crate::rules::{RuleKind, Rules};
use crate::upstream::UpstreamProxy;

/// Whether the flag called `key` can make something of a text.
///
/// # Errors
/// Why not. It does not quote what may be a secret.
pub(super) fn judge(key: &str, text: &str) -> Result<(), String> {
    if let Some(kind) = rule(key) {
        return Rules::default().add(kind, text).map_err(|error| error.problem.to_string());
    }
    match key {
        "record" => {
            let filter = Filter::parse(text).map_err(|error| error.to_string())?;
            match filter.unanswerable_at_end() {
                Some((test, why)) => Err(ConfigError::RecordFilter { test, why }.to_string()),
                None => Ok(()),
            }
        }
        "via" => text.parse::<UpstreamProxy>().map(drop).map_err(|error| error.to_string()),
        // What stands in a file is looked for when it is needed.
        "proxy-auth" if !text.starts_with('@') => {
            text.parse::<ProxyAuth>().map(drop).map_err(|error| error.to_string())
        }
        _ => Ok(()),
    }
}

/// Where the form of such a value is told.
pub(super) fn hint(key: &str) -> Option<String> {
    match (rule(key), key) {
        (Some(_), _) => Some(format!(
            "manent help capture   tells the form of `{key}`; manent filter   the language of filters"
        )),
        (None, "record") => Some("manent filter   tells the language".to_owned()),
        (None, "via" | "proxy-auth") => Some(format!("manent help capture   tells the form of `{key}`")),
        _ => None,
    }
}

fn rule(key: &str) -> Option<RuleKind> {
    RuleKind::ALL.into_iter().find(|kind| kind.flag().strip_prefix("--") == Some(key))
}
