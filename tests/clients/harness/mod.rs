//! What every test needs: an origin that logs what it saw, the proxy, commands with an end, and the store's answers.

mod command;
mod http2;
mod onward;
mod origin;
mod png;
mod proxy;
mod record;
mod server;
mod trust;

pub(crate) use command::{Program, clean, finish, mitmproxy, python, succeed, text};
pub(crate) use http2::{Pair, pairs};
pub(crate) use onward::Onward;
pub(crate) use origin::{GZIP_TEXT, Origin, Seen, binary, numbered};
pub(crate) use png::Picture;
pub(crate) use proxy::{Proxy, Store, manent};
pub(crate) use record::{Message, Record, assert_body, assert_exact, decoded};
pub(crate) use server::{OverHttp2, Server, ServerStage, script};
pub(crate) use trust::{Trust, spki_sha256_base64};

/// An origin over TLS, one in clear, and a proxy between them and whoever comes.
pub(crate) struct Stage {
    pub(crate) https: Origin,
    pub(crate) http: Origin,
    pub(crate) proxy: Proxy,
    pub(crate) dir: tempfile::TempDir,
}

impl Stage {
    /// Sets up everything and waits until the proxy listens.
    pub(crate) async fn new() -> Stage {
        Self::with(|_, _| Vec::new()).await
    }

    /// The same with more arguments for the proxy, which may depend on the origins: that over TLS, that in clear.
    pub(crate) async fn with(more: impl FnOnce(&Origin, &Origin) -> Vec<String>) -> Stage {
        Self::with_home(tempfile::tempdir().expect("a temporary directory"), more).await
    }

    /// The same in a home directory that a test has furnished: with a CA, in `ca`.
    pub(crate) async fn with_home(
        dir: tempfile::TempDir,
        more: impl FnOnce(&Origin, &Origin) -> Vec<String>,
    ) -> Stage {
        let trust = Trust::new(dir.path());
        let https = Origin::https(&trust).await;
        let http = Origin::http().await;
        let more = more(&https, &http);
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let proxy = Proxy::start(dir.path(), &trust, &more).await;
        Stage { https, http, proxy, dir }
    }

    /// Ends the proxy in order, and gives what the store then holds, oldest first.
    pub(crate) async fn records(&mut self) -> Vec<Record> {
        self.proxy.stop().await;
        self.proxy.store.records().await
    }

    /// Ends the proxy and checks that the store holds exactly what `origin` saw, in order and byte for byte.
    pub(crate) async fn assert_recorded(&mut self, seen: &[Seen]) -> Vec<Record> {
        let records = self.records().await;
        assert_eq!(records.len(), seen.len(), "records: {records:#?}\nseen: {seen:#?}");
        for (record, seen) in records.iter().zip(seen) {
            assert_exact(&self.proxy.store, record, seen).await;
        }
        records
    }
}
