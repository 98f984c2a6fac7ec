//! Flows as a browser makes them, any number, the same in each run.
//!
//! **URLs**: hosts by Zipf's law (see [`web`](crate::web)); paths with slugs, hashes and numbers, half of them with a query;
//! 20 to 300 bytes. **Heads**: 10 to 12 request fields and 9 to 11 response fields of the usual names, about 1.2 KB together.
//! **Methods**: GET 88 %, POST 9 %, OPTIONS 1.5 %, PUT, PATCH and HEAD, and DELETE once in 2,000. **Statuses**: 200 85 %,
//! 304 8 %, 204, 301, 302 and 404 1 to 2.5 % each, 403, 500 0.3 %, 502 once in 2,000. **Bodies** by [`Mix`]: text for pages,
//! scripts, styles and APIs, noise for the rest, none with 304, 204 and redirects. **Connections**: a pair for each 20 flows of
//! a host, with TLS facts and a chain of 2 KB. **Times**: a flow each 10 ms on average, which takes 5 ms to 5 s.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use manent::flow::{
    Addr, Body, BodyEnd, ClientConn, ConnId, Content, Flow, Framing, Headers, Request, Response, Scheme,
    ServerConn, State, Target, Timing, TlsInfo, Version,
};

use crate::web::{Chance, RARE_EVERY, RARE_HOST, RARE_PATH, Resource, Web};

/// How large bodies are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mix {
    /// A browser's: more than half below 2 KiB, one in a hundred above 512 KiB; 37 KB a flow on average, heads included.
    Browser,
    /// An API's: each body 2 KiB, which is kept in the record, on 64 kept connections.
    Small,
    /// For stores of many flows: half have none, the others up to 1 KiB.
    Tiny,
}

/// A flow as the recorder gets it: the response's body is handed over by itself.
pub(crate) struct Made {
    pub(crate) flow: Flow,
    pub(crate) body: Bytes,
}

/// Makes flows, one after the other.
pub(crate) struct Generator<'a> {
    web: &'a Web,
    mix: Mix,
    chance: Chance,
    conn_id: Box<dyn FnMut() -> ConnId + Send + 'a>,
    /// By rank of the host: its connections, and how many flows they still serve.
    conns: Vec<Option<(Pair, u32)>>,
    chain: Vec<Bytes>,
    count: u64,
    started_unix_ns: i64,
}

type Pair = (Arc<ClientConn>, Arc<ServerConn>);

impl<'a> Generator<'a> {
    /// `conn_id` gives the ids of connections, as [`manent::record::Recorder::next_conn_id`] does.
    pub(crate) fn new(web: &'a Web, mix: Mix, conn_id: impl FnMut() -> ConnId + Send + 'a) -> Self {
        let mut chance = Chance::new(7);
        let chain = [1100, 900].map(|len| web.body(Resource::Font, len, &mut chance)).into_iter().collect();
        Self {
            web,
            mix,
            chance,
            conn_id: Box::new(conn_id),
            conns: Vec::new(),
            chain,
            count: 0,
            started_unix_ns: 1_795_000_000_000_000_000,
        }
    }

    pub(crate) fn next(&mut self) -> Made {
        self.count += 1;
        self.started_unix_ns += i64::try_from(self.chance.below(20_000_000)).unwrap_or(0);
        let is_rare = self.count.is_multiple_of(RARE_EVERY);
        let resource = match self.mix {
            Mix::Small => Resource::Api,
            Mix::Browser | Mix::Tiny => Resource::draw(&mut self.chance),
        };
        let rank = self.web.draw_host(&mut self.chance);
        let host = if is_rare { RARE_HOST } else { self.web.host(rank) };
        let method = method(&mut self.chance, resource);
        let status = status(&mut self.chance);
        let path = if is_rare { RARE_PATH.into() } else { path(&mut self.chance, resource) };
        let len = if has_body(status, method) { self.body_len(resource) } else { 0 };
        let body = self.web.body(resource, len, &mut self.chance);
        let request = Request {
            method: Bytes::from_static(method.as_bytes()),
            target: Bytes::from(path),
            version: Version::Http11,
            headers: self.request_headers(host, resource),
            head_len: 640,
            ..Request::default()
        };
        let response = Response {
            status,
            reason: Bytes::from_static(b"OK"),
            headers: self.response_headers(resource, len),
            head_len: 560,
            body: Body {
                content: Content::Absent,
                len: len as u64,
                wire_len: len as u64,
                framing: Framing::Length,
                end: BodyEnd::Whole,
            },
            ..Response::default()
        };
        let (client, server) = self.conns(rank, host);
        let flow = Flow {
            state: State::Complete,
            target: Target { scheme: Scheme::Https, host: host.to_owned(), port: 443 },
            request: Some(request),
            response: Some(response),
            client,
            server: Some(server),
            server_reused: true,
            timing: self.timing(),
            ..Flow::default()
        };
        Made { flow, body }
    }

    fn body_len(&mut self, resource: Resource) -> usize {
        let chance = &mut self.chance;
        match self.mix {
            Mix::Small => 2048,
            Mix::Tiny if chance.below(2) == 0 => 0,
            Mix::Tiny => chance.log_uniform(40.0, 1024.0),
            Mix::Browser if resource == Resource::Beacon => 43,
            Mix::Browser => match chance.below(1000) {
                0..500 => chance.log_uniform(200.0, 2048.0),
                500..755 => chance.log_uniform(2048.0, 16_384.0),
                755..925 => chance.log_uniform(16_384.0, 131_072.0),
                925..985 => chance.log_uniform(131_072.0, 524_288.0),
                _ => chance.log_uniform(524_288.0, 2_097_152.0),
            },
        }
    }

    fn request_headers(&mut self, host: &str, resource: Resource) -> Headers {
        let mut cookie = String::with_capacity(96);
        let (one, two) = (self.chance.next(), self.chance.next());
        // Writing to a String cannot fail, here and below.
        let _ = write!(cookie, "session={one:016x}{two:016x}; theme=dark; consent=1");
        let referer = format!("https://{host}/some/page/or/other");
        let accept = match resource {
            Resource::Page => "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            Resource::Image | Resource::Beacon => "image/avif,image/webp,image/png,image/svg+xml,*/*;q=0.8",
            Resource::Style => "text/css,*/*;q=0.1",
            Resource::Api => "application/json, text/plain, */*",
            Resource::Script | Resource::Font => "*/*",
        };
        [
            ("Host", host),
            ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"),
            ("Accept", accept),
            ("Accept-Language", "en-US,en;q=0.5"),
            ("Accept-Encoding", "gzip, deflate, br, zstd"),
            ("Referer", &referer),
            ("Connection", "keep-alive"),
            ("Cookie", &cookie),
            ("Sec-Fetch-Dest", "empty"),
            ("Sec-Fetch-Mode", "cors"),
            ("Sec-Fetch-Site", "same-origin"),
        ]
        .into_iter()
        .collect()
    }

    fn response_headers(&mut self, resource: Resource, len: usize) -> Headers {
        let etag = format!("\"{:013x}\"", self.chance.next() >> 12);
        let (length, second) = (len.to_string(), self.count / 100 % 60);
        let date = format!("Sun, 22 Nov 2026 10:{:02}:{second:02} GMT", self.count / 6000 % 60);
        [
            ("Date", date.as_str()),
            ("Content-Type", resource.content_type()),
            ("Content-Length", &length),
            ("Connection", "keep-alive"),
            ("Server", "nginx/1.27.0"),
            ("Cache-Control", "public, max-age=31536000, immutable"),
            ("ETag", &etag),
            ("Vary", "Accept-Encoding"),
            ("Access-Control-Allow-Origin", "*"),
            ("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),
        ]
        .into_iter()
        .collect()
    }

    fn conns(&mut self, rank: usize, host: &str) -> Pair {
        // Kept connections of an API client, whatever the host.
        let (slot, life) = if self.mix == Mix::Small { (rank % 64, u32::MAX) } else { (rank, 20) };
        if self.conns.len() <= slot {
            self.conns.resize(slot + 1, None);
        }
        if let Some((pair, left)) = &mut self.conns[slot]
            && *left > 0
        {
            *left -= 1;
            return pair.clone();
        }
        let pair = self.connect(host);
        self.conns[slot] = Some((pair.clone(), life - 1));
        pair
    }

    fn connect(&mut self, host: &str) -> Pair {
        let addr = |host: &str, port| Some(Addr { host: host.into(), port, ..Addr::default() });
        let port = u16::try_from(self.chance.below(20_000)).unwrap_or(0) + 40_000;
        let tls = TlsInfo {
            sni: Some(host.into()),
            alpn_offers: vec![Bytes::from_static(b"h2"), Bytes::from_static(b"http/1.1")],
            version: Some("TLSv1.3".into()),
            cipher: Some("TLS13_AES_256_GCM_SHA384".into()),
            group: Some("X25519MLKEM768".into()),
            alpn: Some(Bytes::from_static(b"http/1.1")),
            verified: true,
            ..TlsInfo::default()
        };
        let client = ClientConn {
            id: (self.conn_id)(),
            peer: addr("127.0.0.1", port),
            local: addr("127.0.0.1", 8080),
            mode: "explicit".into(),
            started_unix_ns: self.started_unix_ns,
            tls: Some(tls.clone()),
            tls_start_us: Some(300),
            tls_end_us: Some(41_000),
            ..ClientConn::default()
        };
        let server = ServerConn {
            id: (self.conn_id)(),
            address: Addr { host: host.into(), port: 443, ..Addr::default() },
            peer: addr("192.0.2.7", 443),
            local: addr("192.0.2.1", port),
            started_unix_ns: self.started_unix_ns,
            dns_us: Some(2_000),
            connect_us: Some(12_000),
            tls_us: Some(25_000),
            tls: Some(TlsInfo { chain: self.chain.clone(), ..tls }),
            ..ServerConn::default()
        };
        (Arc::new(client), Arc::new(server))
    }

    fn timing(&mut self) -> Timing {
        let took = self.chance.log_uniform(5_000.0, 5_000_000.0) as u64 + 10;
        Timing {
            started_unix_ns: self.started_unix_ns,
            request_head_us: Some(40),
            request_end_us: Some(45),
            connected_us: Some(50),
            send_start_us: Some(60),
            send_end_us: Some(90),
            response_head_us: Some(took * 3 / 4),
            response_end_us: Some(took - 10),
            end_us: Some(took),
        }
    }
}

fn method(chance: &mut Chance, resource: Resource) -> &'static str {
    match chance.below(2000) {
        0 => "DELETE",
        1..11 => "HEAD",
        11..21 => "PUT",
        21..31 => "PATCH",
        31..61 => "OPTIONS",
        // Of APIs and beacons, which are 29 of 100 flows, 3 in 10.
        _ if matches!(resource, Resource::Api | Resource::Beacon) && chance.below(10) < 3 => "POST",
        _ => "GET",
    }
}

fn status(chance: &mut Chance) -> u16 {
    match chance.below(2000) {
        0 => 502,
        1..7 => 500,
        7..17 => 403,
        17..47 => 404,
        47..67 => 301,
        67..97 => 302,
        97..147 => 204,
        147..307 => 304,
        _ => 200,
    }
}

fn has_body(status: u16, method: &str) -> bool {
    !matches!(status, 204 | 301 | 302 | 304) && method != "HEAD"
}

fn path(chance: &mut Chance, resource: Resource) -> String {
    let mut path = String::with_capacity(192);
    let (id, other) = (chance.below(50_000), chance.next());
    let _ = match resource {
        Resource::Page => write!(path, "/articles/2026/11/{:02}/on-the-matter-of-{id}", id % 30 + 1),
        Resource::Script => write!(path, "/assets/js/chunk-{}.{:08x}.min.js", id % 700, id * 2_654_435),
        Resource::Style => write!(path, "/assets/css/theme-{}.{:08x}.css", id % 90, id * 2_654_435),
        Resource::Image => write!(path, "/media/{:02x}/{other:016x}.webp?w=640&q=75&v={id}", id % 256),
        Resource::Font => write!(path, "/assets/fonts/inter-v{}.woff2", id % 40),
        Resource::Api => write!(path, "/v1/things/{id}?fields=name,size,owner&page={}", other % 50),
        Resource::Beacon => write!(
            path,
            "/collect?v=2&tid=G-{id:06}&cid={other:016x}&dl=https%3A%2F%2Fwww.example%2Farticles%2F{id}&dr=&ul=en-us&sr=1920x1080\
             &en=page_view&_et={}&sid={other:x}&seg=1&epn.percent_scrolled={}",
            other % 60_000,
            other % 100
        ),
    };
    path
}
