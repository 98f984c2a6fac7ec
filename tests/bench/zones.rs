//! What zones cost and save: `cargo bench --bench zones [-- FOLDER]`, with `FLOWS` flows (a million unless told).
//!
//! Fills a store with rows (2,000 hosts, most requests to few of them, in no order; URLs of 70 bytes on average, as assets,
//! APIs and trackers have them), makes its zones, and asks for pages of the newest 50 that match: by zones and rows of the
//! blocks that are left, and beside it by scanning the same table. Times are the best of three, with a warm cache.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::unwrap_used, reason = "a benchmark may stop at the first surprise")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "its numbers are small and positive"
)]

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use manent::flow::Mid;
use manent::store::{
    Durability, HostSet, Measure, Order, Reader, UrlPattern, Urls, Writer, WriterOptions, Zone,
};
use regex::bytes::RegexBuilder;
use rusqlite::{Connection, params};

fn main() {
    let folder = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let folder = folder.map_or_else(|| tempfile::tempdir().unwrap(), |f| tempfile::tempdir_in(f).unwrap());
    let flows: u64 = std::env::var("FLOWS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let path = folder.path().join("flows.db");
    let options = || WriterOptions {
        durability: Durability::Normal,
        queue_bytes: 1 << 20,
        label: String::new(),
        listen: String::new(),
    };
    Writer::open(&path, &options()).unwrap().close().unwrap();
    fill(&path, flows);
    let before = std::fs::metadata(&path).unwrap().len();

    let mut writer = Writer::open(&path, &options()).unwrap();
    let (cpu, started) = (cpu_time(), Instant::now());
    assert!(writer.make_zones(Duration::from_secs(600)).unwrap());
    let (cpu, wall) = (cpu_time() - cpu, started.elapsed());
    writer.close().unwrap();
    let bytes = std::fs::metadata(&path).unwrap().len() - before;
    println!(
        "making zones: {:.2} us of CPU a flow, {:.2} us in all; {:.0} bytes a flow beside {:.0} of rows",
        cpu.as_secs_f64() * 1e6 / flows as f64,
        wall.as_secs_f64() * 1e6 / flows as f64,
        bytes as f64 / flows as f64,
        before as f64 / flows as f64,
    );
    ask(&path, flows);
    println!("peak RSS {} MiB", peak_rss_kib() / 1024);
}

/// What a zone says to a question.
type Answer<'a> = Box<dyn Fn(&Zone, &HostSet) -> Option<bool> + 'a>;

/// A question, in SQL for rows, and to a zone.
struct Question<'a> {
    name: &'a str,
    rows: String,
    zone: Answer<'a>,
    url: Option<UrlPattern>,
    host: &'a str,
}

fn ask(path: &Path, flows: u64) {
    let reader = Reader::open(path).unwrap();
    let conn = Connection::open(path).unwrap();
    conn.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -2048").unwrap();
    let rare = rare_host();
    let of_host = |host: &str| format!("host IN (SELECT id FROM host WHERE name = '{host}')");
    let middle = START + i64::try_from(flows / 2).unwrap() * STEP;
    let simple = |name, rows: &str, zone: Answer<'static>| Question {
        name,
        rows: rows.to_owned(),
        zone,
        url: None,
        host: "",
    };
    let host = |name, host| Question {
        name,
        rows: of_host(host),
        zone: Box::new(|zone, hosts| zone.host(|id| hosts.contains(id))),
        url: None,
        host,
    };
    let url = |name, text: &str| Question {
        name,
        rows: format!("path LIKE '%{text}%'"),
        zone: Box::new(|_, _| None),
        url: Some(UrlPattern::new(RegexBuilder::new(text).case_insensitive(true).unicode(false)).unwrap()),
        host: "",
    };
    let from_middle = move |zone: &Zone| zone.measure(Measure::Started, &[(middle, middle + 60_000_000_000)]);
    let questions = [
        host("frequent host", "api0.example0.com"),
        host("middle host", "token700.example34.com"),
        host("rare host, 12 flows", &rare),
        host("host that does not occur", "none.example"),
        simple("status 500", "status = 500", Box::new(|zone, _| zone.status(|s| s == 500))),
        simple("status 418, 3 flows", "status = 418", Box::new(|zone, _| zone.status(|s| s == 418))),
        simple("status 599, none", "status = 599", Box::new(|zone, _| zone.status(|s| s == 599))),
        simple("method DELETE", "method = 'DELETE'", Box::new(|zone, _| zone.method(|m| m == b"DELETE"))),
        simple("method PURGE, none", "method = 'PURGE'", Box::new(|zone, _| zone.method(|m| m == b"PURGE"))),
        simple(
            "a minute in the middle",
            &format!("started_unix_ns BETWEEN {middle} AND {}", middle + 60_000_000_000),
            Box::new(move |zone, _| from_middle(zone)),
        ),
        url("URL text, none", "nosuchthing"),
        url("URL text, 5 flows", "verysecret"),
        url("URL text, frequent", "chunk"),
    ];
    println!("{:26} {:>9} {:>9} {:>6}  rows", "newest 50 of", "zones ms", "scan ms", "ratio");
    for question in questions {
        let (zones, found) = best(|| by_zones(&reader, &conn, &question, flows));
        let (scan, expected) = best(|| page(&conn, &question.rows, 0, i64::MAX, 50));
        assert_eq!(found, expected, "{}", question.name);
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let (zones, scan) = (ms(zones), ms(scan));
        println!("{:26} {zones:9.2} {scan:9.2} {:6.1}  {}", question.name, scan / zones, found.len());
    }
}

fn by_zones(reader: &Reader, conn: &Connection, question: &Question<'_>, flows: u64) -> Vec<i64> {
    let hosts = match question.host {
        "" => HostSet::default(),
        host => reader.hosts(|name| name == host.as_bytes()).unwrap(),
    };
    let mut blocks = reader.blocks(Mid(1), Mid(flows), Order::NewestFirst).unwrap();
    let (mut found, mut urls) = (Vec::new(), Urls::default());
    while let Some(block) = blocks.next().unwrap() {
        if block.zone.as_ref().is_some_and(|zone| (question.zone)(zone, &hosts) == Some(false)) {
            continue;
        }
        let first = block.first.0.cast_signed();
        let last = block.last.0.cast_signed();
        match &question.url {
            Some(pattern) if block.zone.is_some() && reader.urls(block.first, &mut urls).unwrap() => {
                let hits = urls.search(pattern);
                let mids = hits.mids().rev().take(50 - found.len());
                found.extend(
                    mids.flat_map(|mid| {
                        page(conn, &question.rows, mid.0.cast_signed(), mid.0.cast_signed(), 1)
                    }),
                );
            }
            _ => found.extend(page(conn, &question.rows, first, last, 50 - found.len())),
        }
        if found.len() == 50 {
            break;
        }
    }
    found
}

/// The rows that match, as a list reads them.
fn page(conn: &Connection, condition: &str, first: i64, last: i64, limit: usize) -> Vec<i64> {
    let sql = format!(
        "SELECT mid, started_unix_ns, duration_us, method, host, path, status, response_type, response_len FROM flow
         WHERE mid BETWEEN ?1 AND ?2 AND {condition} ORDER BY mid DESC LIMIT ?3"
    );
    let mut statement = conn.prepare_cached(&sql).unwrap();
    let rows = statement.query_map(params![first, last, limit as i64], |row| {
        std::hint::black_box(row.get_ref(5)?);
        row.get(0)
    });
    rows.unwrap().map(Result::unwrap).collect()
}

fn best<T>(mut run: impl FnMut() -> T) -> (Duration, T) {
    let mut timed = || {
        let started = Instant::now();
        let result = run();
        (started.elapsed(), result)
    };
    let (first, _) = timed();
    let (second, _) = timed();
    let (third, result) = timed();
    (first.min(second).min(third), result)
}

/// 1 ms between two flows.
const STEP: i64 = 1_000_000;
const START: i64 = 1_795_000_000_000_000_000;

fn rare_host() -> String {
    "rare.example.net".to_owned()
}

fn fill(path: &Path, flows: u64) {
    let mut conn = Connection::open(path).unwrap();
    conn.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF").unwrap();
    let mut random = Random(88_172_645_463_325_252);
    let tx = conn.transaction().unwrap();
    for host in 0..2000_u64 {
        let name = format!("{}{host}.example{}.com", WORDS[(host % 26) as usize], host % 37);
        tx.execute("INSERT INTO host VALUES (?1, ?2)", params![host as i64 + 1, name]).unwrap();
    }
    tx.execute("INSERT INTO host VALUES (2001, ?1)", [rare_host()]).unwrap();
    let mut insert = tx
        .prepare(
            "INSERT INTO flow (mid, session, started_unix_ns, duration_us, kind, state, method, scheme, host, port, path,
             status, request_type, response_type, request_len, response_len, client_conn, server_conn)
             VALUES (?1, 1, ?2, ?3, 0, 1, ?4, 1, ?5, 443, ?6, ?7, NULL, ?8, 0, ?9, ?10, ?11)",
        )
        .unwrap();
    let mut path = String::new();
    for mid in 1..=flows {
        path.clear();
        random.path(&mut path);
        if mid % (flows / 5) == 77 {
            path.push_str("&token=VerySecret");
        }
        let method = match random.below(10_000) {
            0 => "DELETE",
            1..800 => "POST",
            _ => "GET",
        };
        let status = match random.below(20_000) {
            _ if mid % (flows / 3) == 5 => 418,
            0 => 500,
            1..400 => 404,
            400..2000 => 304,
            _ => 200,
        };
        let host = if mid % (flows / 12) == 99 { 2001 } else { random.skewed(2000) + 1 };
        let name = TYPES[random.below(TYPES.len() as u64) as usize];
        insert
            .execute(params![
                mid as i64,
                START + mid as i64 * STEP,
                random.below(900_000) as i64,
                method,
                host as i64,
                path,
                status,
                name,
                random.skewed(1_000_000) as i64,
                (mid / 20) as i64 + 1,
                (mid / 10) as i64 + 1,
            ])
            .unwrap();
    }
    drop(insert);
    tx.execute("INSERT OR REPLACE INTO meta VALUES ('next_mid', ?1)", [flows as i64 + 1]).unwrap();
    tx.commit().unwrap();
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
}

const WORDS: [&str; 26] = [
    "api", "v1", "v2", "users", "items", "search", "static", "assets", "img", "js", "css", "collect",
    "track", "events", "products", "cart", "session", "config", "feed", "media", "thumb", "player",
    "graphql", "auth", "token", "profile",
];

const TYPES: [&str; 8] = [
    "application/json",
    "application/json; charset=utf-8",
    "text/html; charset=utf-8",
    "application/javascript",
    "text/css",
    "image/png",
    "image/webp",
    "font/woff2",
];

/// Numbers that are the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }

    /// Below `n`, small ones far more often (Zipf's law).
    fn skewed(&mut self, n: u64) -> u64 {
        let part = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        (n as f64).powf(part) as u64 - 1
    }

    fn word(&mut self) -> &'static str {
        WORDS[self.below(26) as usize]
    }

    fn path(&mut self, path: &mut String) {
        // Writing to a String cannot fail.
        let _ = match self.below(10) {
            0..3 => write!(path, "/{}/{}/{}", self.word(), self.word(), self.below(1_000_000)),
            3..5 => {
                write!(path, "/static/{}/{}.{:016x}.chunk.js", self.word(), self.word(), self.next())
            }
            5..7 => write!(
                path,
                "/{}/{}?id={}&page={}&lang=en-US&sort=desc",
                self.word(),
                self.word(),
                self.below(100_000),
                self.below(30)
            ),
            7 => write!(
                path,
                "/collect?v=2&tid=G-{:08X}&cid={}&t=pageview&dl=https%3A%2F%2Fwww.example.com%2F{}&z={}",
                self.below(1 << 32),
                self.below(2_000_000_000),
                self.word(),
                self.below(2_000_000_000)
            ),
            8 => write!(path, "/img/{:02x}/{:016x}{:016x}.jpg", self.below(256), self.next(), self.next()),
            _ => write!(path, "/"),
        };
    }
}

/// Processor time of this process, user and system, to 10 ms.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn peak_rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
