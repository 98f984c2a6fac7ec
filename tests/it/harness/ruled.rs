//! Proxies with rules.

use manent::rules::{RuleKind, Rules};

use super::h2::Speaks;
use super::{Setup, TestCa, TlsOrigin};

/// These rules.
pub(crate) fn rules(list: &[(RuleKind, &str)]) -> Rules {
    let mut rules = Rules::default();
    for (kind, text) in list {
        rules.add(*kind, text).unwrap();
    }
    rules
}

impl Setup {
    /// A proxy with these rules.
    pub(crate) async fn ruled(list: &[(RuleKind, &str)]) -> Self {
        Self::with(|config| config.rules = rules(list)).await
    }

    /// The same, and an origin that it trusts and that speaks HTTP/2.
    pub(crate) async fn h2_ruled(list: &[(RuleKind, &str)]) -> (Self, TlsOrigin) {
        let ca = TestCa::new();
        let change = |config: &mut manent::config::Config| {
            ca.trusted_by(config);
            config.rules = rules(list);
        };
        let setup = Self::with(change).await;
        (setup, TlsOrigin::speaking(&ca, Speaks::Http2).await)
    }
}
