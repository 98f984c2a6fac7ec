//! The connections in `_manent`, as `extra.rs` wrote them: an archive has each as often as there are flows of it, and it is read
//! once.

use std::io::Read;
use std::sync::Arc;

use crate::flow::{Addr, ClientAuth, ClientConn, ConnId, ConnectHead, ServerConn, TlsInfo, Via};
use crate::format::json::JsonError;

use super::seen::Seen;
use super::typed::Typed;

type Result<T> = std::result::Result<T, JsonError>;

/// Connections whose facts were read.
#[derive(Debug, Default)]
pub(super) struct Conns {
    clients: Known<ClientConn>,
    servers: Known<ServerConn>,
}

impl Conns {
    /// The client's connection that comes next; `None` if it is larger than may be kept.
    ///
    /// # Errors
    /// If it is no JSON, or cannot be read.
    pub(super) fn client<R: Read>(&mut self, typed: &mut Typed<'_, R>) -> Result<Option<Arc<ClientConn>>> {
        self.clients.next(typed, client, |conn| (conn.id.0, conn.revision, conn.started_unix_ns))
    }

    /// The same of ours to an origin.
    ///
    /// # Errors
    /// As [`Conns::client`].
    pub(super) fn server<R: Read>(&mut self, typed: &mut Typed<'_, R>) -> Result<Option<Arc<ServerConn>>> {
        self.servers.next(typed, server, |conn| (conn.id.0, conn.revision, conn.started_unix_ns))
    }
}

/// Id, revision and beginning: flows of several stores may be in one archive, and each has ids of its own.
type Key = (u64, u32, i64);

#[derive(Debug)]
struct Known<T> {
    by_key: Seen<Key, Arc<T>>,
    /// By how it begins: what stands in the archive again need not be read.
    by_text: Seen<[u8; BEGINNING], AsItStood<T>>,
}

/// A connection, and its text in the archive.
#[derive(Debug)]
struct AsItStood<T> {
    text: Box<[u8]>,
    conn: Arc<T>,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self { by_key: Seen::default(), by_text: Seen::default() }
    }
}

impl<T> Known<T> {
    fn next<R: Read>(
        &mut self,
        typed: &mut Typed<'_, R>,
        read: impl FnOnce(&mut Typed<'_, R>) -> Result<T>,
        key: impl FnOnce(&T) -> Key,
    ) -> Result<Option<Arc<T>>> {
        typed.json().peek()?;
        let known = typed.json().at_hand().first_chunk().and_then(|beginning| self.by_text.get(beginning));
        if let Some(AsItStood { text, conn }) = known
            && typed.json().pass(text)
        {
            return Ok(Some(Arc::clone(conn)));
        }
        let begin = typed.json().position();
        let Some(conn) = typed.whole(read)? else { return Ok(None) };
        let key = key(&conn);
        if key.0 == 0 {
            return Ok(Some(Arc::new(conn)));
        }
        let text = typed.json().text_since(begin).unwrap_or_default();
        let conn = match self.by_key.get(&key) {
            // Its certificates stand in its first entry alone.
            Some(known) => Arc::clone(known),
            None => {
                let conn = Arc::new(conn);
                self.by_key.insert(key, Arc::clone(&conn), text.len());
                conn
            }
        };
        if let Some(beginning) = text.first_chunk() {
            let known = AsItStood { text: text.into(), conn: Arc::clone(&conn) };
            self.by_text.insert(*beginning, known, text.len());
        }
        Ok(Some(conn))
    }
}

fn client<R: Read>(typed: &mut Typed<'_, R>) -> Result<ClientConn> {
    let mut conn = ClientConn::default();
    typed.object(|typed, name| {
        match name {
            "id" => conn.id = ConnId(typed.count()?),
            "revision" => conn.revision = typed.count()?,
            "peer" => conn.peer = Some(addr(typed)?),
            "local" => conn.local = Some(addr(typed)?),
            "mode" => conn.mode = typed.text()?.unwrap_or_default(),
            "started_unix_ns" => conn.started_unix_ns = typed.count()?,
            "connect" => conn.connect = Some(connect(typed)?),
            "proxy_tls" => conn.proxy_tls = Some(tls(typed)?),
            "tls" => conn.tls = Some(tls(typed)?),
            "tls_start_us" => conn.tls_start_us = typed.int()?,
            "tls_end_us" => conn.tls_end_us = typed.int()?,
            "closed_us" => conn.closed_us = typed.int()?,
            "bytes_in" => conn.bytes_in = typed.count()?,
            "bytes_out" => conn.bytes_out = typed.count()?,
            "error" => conn.error = typed.text()?,
            _ => typed.skip()?,
        }
        Ok(())
    })?;
    Ok(conn)
}

fn connect<R: Read>(typed: &mut Typed<'_, R>) -> Result<ConnectHead> {
    let mut head = ConnectHead::default();
    typed.object(|typed, name| {
        match name {
            "authority" => head.authority = typed.bytes()?.unwrap_or_default(),
            "headers" => head.headers = typed.headers()?,
            _ => typed.skip()?,
        }
        Ok(())
    })?;
    Ok(head)
}

fn server<R: Read>(typed: &mut Typed<'_, R>) -> Result<ServerConn> {
    let mut conn = ServerConn::default();
    typed.object(|typed, name| {
        match name {
            "id" => conn.id = ConnId(typed.count()?),
            "revision" => conn.revision = typed.count()?,
            "address" => conn.address = addr(typed)?,
            "peer" => conn.peer = Some(addr(typed)?),
            "local" => conn.local = Some(addr(typed)?),
            "via" => conn.via = Some(via(typed)?),
            "started_unix_ns" => conn.started_unix_ns = typed.count()?,
            "dns_us" => conn.dns_us = typed.int()?,
            "connect_us" => conn.connect_us = typed.int()?,
            "tls_us" => conn.tls_us = typed.int()?,
            "tls" => conn.tls = Some(tls(typed)?),
            "closed_us" => conn.closed_us = typed.int()?,
            "error" => conn.error = typed.text()?,
            _ => typed.skip()?,
        }
        Ok(())
    })?;
    Ok(conn)
}

fn via<R: Read>(typed: &mut Typed<'_, R>) -> Result<Via> {
    let mut via = Via::default();
    typed.object(|typed, name| {
        match name {
            "scheme" => via.scheme = typed.text()?.unwrap_or_default(),
            "address" => via.address = addr(typed)?,
            _ => typed.skip()?,
        }
        Ok(())
    })?;
    Ok(via)
}

fn tls<R: Read>(typed: &mut Typed<'_, R>) -> Result<TlsInfo> {
    let mut tls = TlsInfo::default();
    typed.object(|typed, name| {
        match name {
            "sni" => tls.sni = typed.text()?,
            "alpn_offers" => tls.alpn_offers = typed.some(Typed::bytes)?,
            "cipher_offers" => tls.cipher_offers = typed.some(Typed::int)?,
            "version" => tls.version = typed.text()?,
            "cipher" => tls.cipher = typed.text()?,
            "group" => tls.group = typed.text()?,
            "alpn" => tls.alpn = typed.bytes()?,
            "resumed" => tls.resumed = typed.flag()?.unwrap_or(false),
            "chain_der" => tls.chain = typed.some(Typed::base64)?,
            "verified" => tls.verified = typed.flag()?.unwrap_or(false),
            "error" => tls.error = typed.text()?,
            "client_auth" => {
                tls.client_auth = typed.word(&ClientAuth::ALL, ClientAuth::as_str)?.unwrap_or_default();
            }
            _ => typed.skip()?,
        }
        Ok(())
    })?;
    Ok(tls)
}

fn addr<R: Read>(typed: &mut Typed<'_, R>) -> Result<Addr> {
    let mut addr = Addr::default();
    typed.object(|typed, name| {
        match name {
            "host" => addr.host = typed.text()?.unwrap_or_default(),
            "port" => addr.port = typed.count()?,
            "flowinfo" => addr.flowinfo = typed.int()?,
            "scope" => addr.scope = typed.int()?,
            _ => typed.skip()?,
        }
        Ok(())
    })?;
    Ok(addr)
}

/// As far as our own archives tell connections apart: `{"id":…,"revision":…,` and some more.
const BEGINNING: usize = 32;
