//! `--body-limit` cuts the record of each body, never the traffic, and the record says so (pitfall 47).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

use manent::flow::{Body, BodyEnd, Flow, Framing, State};
use manent::store::{ListQuery, Reader, Row};

use crate::harness::{GET, Origin, PATIENCE, Peer, Setup, chunked};

async fn limited(limit: u64) -> (Setup, Origin) {
    (Setup::with(|config| config.body_limit = Some(limit)).await, Origin::listen().await)
}

/// Bytes that are different at each place.
fn data(len: u32) -> Vec<u8> {
    (0..len).map(|n| n.to_le_bytes()[(n % 3) as usize]).collect()
}

/// Uploads `data` in the framing and has it sent back in it; fails unless both arrive whole.
async fn echo(setup: &mut Setup, origin: &Origin, framing: Framing, data: &[u8]) -> Flow {
    let (field, wire) = match framing {
        Framing::Length => (format!("Content-Length: {}\r\n", data.len()), data.to_vec()),
        _ => ("Transfer-Encoding: chunked\r\n".to_owned(), chunked(data, 10_007)),
    };
    let head = format!("POST / HTTP/1.1\r\nHost: {{addr}}\r\n{field}\r\n");
    let (mut client, mut server) = setup.asked(origin, head).await;
    let uploaded = async {
        if framing == Framing::Length { server.read(data.len()).await } else { server.read_chunked().await }
    };
    let ((), uploaded) = tokio::join!(client.send(&wire), uploaded);
    assert!(uploaded == data);
    let field = if framing == Framing::Close { String::new() } else { field };
    let wire = if framing == Framing::Close { data.to_vec() } else { wire };
    let answer = [format!("HTTP/1.1 200 OK\r\n{field}\r\n").as_bytes(), &wire].concat();
    let respond = async {
        server.send(&answer).await;
        drop(server);
    };
    let ((), downloaded) = tokio::join!(respond, receive(&mut client, framing, data.len()));
    assert!(downloaded == data);
    setup.flow().await
}

async fn receive(client: &mut Peer, framing: Framing, len: usize) -> Vec<u8> {
    client.head().await;
    match framing {
        Framing::Chunked => client.read_chunked().await,
        Framing::Close => {
            let (all, end) = client.rest().await;
            end.unwrap();
            all
        }
        _ => client.read(len).await,
    }
}

/// Fails unless the record has exactly the first `limit` bytes of `data`, and says whether that is all.
fn expect_capped(body: &Body, data: &[u8], limit: u64) {
    let kept = data.len().min(usize::try_from(limit).unwrap());
    assert!(body.as_inline().unwrap() == &data[..kept], "{limit}: {} bytes", body.recorded_len());
    let end = if kept < data.len() { BodyEnd::Capped } else { BodyEnd::Whole };
    assert_eq!((body.len, body.end, body.is_truncated()), (data.len() as u64, end, kept < data.len()));
    assert!(body.wire_len >= body.len);
}

fn newest_row(setup: &Setup) -> Row {
    let reader = Reader::open(&setup.config.store).unwrap();
    reader.list(&ListQuery::default()).unwrap().remove(0)
}

/// Limits on either side of what is kept inline (2048), and bodies on either side of the limit; each framing, both ways.
#[tokio::test]
async fn record_is_cut_at_the_limit_and_the_traffic_is_whole() {
    for limit in [0, 1, 2047, 2048, 2049, 70_000] {
        let (mut setup, origin) = limited(limit).await;
        for len in [1, 2049, 100_003] {
            for framing in [Framing::Length, Framing::Chunked, Framing::Close] {
                let data = data(len);
                let flow = echo(&mut setup, &origin, framing, &data).await;
                assert_eq!(flow.state, State::Complete);
                expect_capped(&flow.request.unwrap().body, &data, limit);
                let body = flow.response.unwrap().body;
                assert_eq!(body.framing, framing);
                expect_capped(&body, &data, limit);
                let (row, cut) = (newest_row(&setup), u64::from(len) > limit);
                assert_eq!((row.request_truncated, row.response_truncated), (cut, cut));
                assert_eq!((row.request_len, row.response_len), (len.into(), len.into()));
            }
        }
    }
}

/// A limit that lies inside of the first read, at its end, and in the next one.
#[tokio::test]
async fn limit_holds_wherever_a_piece_ends() {
    let (mut setup, origin) = limited(5).await;
    for pieces in [&["abcde", "fgh"][..], &["abc", "de", "f"], &["ab", "cdefg", "h"], &["abcdefgh"]] {
        let all = pieces.concat();
        let (mut client, mut server) = setup.asked(&origin, GET).await;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", all.len());
        server.send(&head).await;
        client.expect(&head).await;
        for piece in pieces {
            server.send(piece).await;
            client.expect(piece).await;
        }
        expect_capped(&setup.flow().await.response.unwrap().body, all.as_bytes(), 5);
    }
}

/// Each direction of a tunnel by itself.
#[tokio::test]
async fn tunnels_are_capped_each_way() {
    let (mut setup, origin) = limited(3).await;
    let mut client = setup.tunnel(&origin.addr().to_string()).await;
    client.send("\0hello").await;
    let mut server = origin.accept().await;
    server.expect("\0hello").await;
    server.send("ok").await;
    client.expect("ok").await;
    client.half_close().await;
    server.half_close().await;
    client.expect_end().await;
    let flow = setup.flow().await;
    assert_eq!(flow.state, State::Complete);
    let tunnel = flow.tunnel.unwrap();
    expect_capped(&tunnel.from_client, b"\0hello", 3);
    expect_capped(&tunnel.from_server, b"ok", 3);
    let row = newest_row(&setup);
    assert_eq!((row.request_truncated, row.response_truncated), (true, false));
}

/// A body that is cut off beyond the cap tells both: it ended early, and the record holds less than what passed.
#[tokio::test]
async fn capped_body_that_is_cut_off_tells_both() {
    let (mut setup, origin) = limited(2).await;
    let (mut client, mut server) = setup.asked(&origin, GET).await;
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").await;
    client.head().await;
    client.expect("abc").await;
    drop(server);
    client.expect_break().await;
    let flow = setup.flow().await;
    assert_eq!(flow.state, State::ServerAborted);
    let body = flow.response.unwrap().body;
    assert_eq!((body.end, body.is_truncated(), body.len), (BodyEnd::CutOff, true, 3));
    assert_eq!(body.as_inline().unwrap(), "ab");
    assert!(newest_row(&setup).response_truncated);
}

/// "No body is stored" means our own, too.
#[tokio::test]
async fn error_page_is_capped_as_well() {
    let (mut setup, origin) = limited(0).await;
    let (mut client, server) = setup.asked(&origin, GET).await;
    drop(server);
    client.expect_error("502 Bad Gateway\r\n").await;
    let body = setup.flow().await.response.unwrap().body;
    assert!(body.len > 0 && body.is_truncated());
    assert_eq!((body.recorded_len(), body.end), (0, BodyEnd::Capped));
}

/// The setting by its variable and its flag, and what the reading commands say.
#[test]
fn flag_and_variable_cap_the_record_and_every_command_tells() {
    for (flag, variable) in [(&["--body-limit", "3"][..], "none"), (&[], "3B")] {
        let dir = tempfile::tempdir().unwrap();
        let manent = |args: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_manent"));
            command.args(args).args(["-s", "f.db", "--ca-dir", "ca"]).current_dir(dir.path());
            command.env("MANENT_BODY_LIMIT", variable).stdin(Stdio::null());
            command
        };
        let proxy = manent(&[&["-p", "0"], flag].concat()).stderr(Stdio::piped()).spawn().unwrap();
        let mut proxy = Running(proxy);
        let (mut line, mut talk) = (String::new(), BufReader::new(proxy.0.stderr.take().unwrap()));
        talk.read_line(&mut line).unwrap();
        let addr = line.split_once("listening on ").unwrap().1.split_whitespace().next().unwrap();
        assert!(get(addr).ends_with("\r\n\r\nhello"));
        let id = rustix::process::Pid::from_child(&proxy.0);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        talk.read_to_string(&mut line).unwrap();
        assert!(proxy.0.wait().unwrap().success());

        let cat = manent(&["cat", "1"]).output().unwrap();
        assert_eq!((cat.status.code(), &cat.stdout[..]), (Some(1), &b"hel"[..]));
        let told = String::from_utf8(cat.stderr).unwrap();
        assert!(
            told.contains("error[E206]") && told.contains("the first 3 of the 5 bytes that passed"),
            "{told}"
        );
        let show = String::from_utf8(manent(&["show", "1"]).output().unwrap().stdout).unwrap();
        assert!(
            show.contains("\nhel\n(body of 5 bytes: The record holds the first 3 of the 5 bytes"),
            "{show}"
        );
        let json = |args: &[&str]| -> serde_json::Value {
            serde_json::from_slice(&manent(args).output().unwrap().stdout).unwrap()
        };
        let body = &json(&["show", "1", "--json"])["response"]["body"];
        assert_eq!((&body["end"], &body["text"]), (&"capped".into(), &"hel".into()));
        assert_eq!(
            (&body["truncated"], &body["recorded_len"], &body["len"]),
            (&true.into(), &3.into(), &5.into())
        );
        let row = json(&["ls", "--json"]);
        assert_eq!(
            (&row["response_truncated"], &row["request_truncated"], &row["response_len"]),
            (&true.into(), &false.into(), &5.into())
        );
    }
}

/// A process that does not outlive its test.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// A whole exchange through the proxy at `addr`, with an origin that answers `hello`; gives the answer.
fn get(addr: &str) -> String {
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(addr).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let to = origin.local_addr().unwrap();
    write!(client, "GET http://{to}/ HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n").unwrap();
    let (mut server, _) = origin.accept().unwrap();
    let mut head = BufReader::new(&mut server).lines();
    while head.next().unwrap().unwrap() != "" {}
    server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}
