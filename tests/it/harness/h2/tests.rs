//! The harness is right before it judges others: HPACK against the examples of RFC 7541, both roles against another
//! implementation.

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};

use super::hpack::{Decoder, Field, encode, integer};
use super::{END_HEADERS, END_STREAM, Frame, H2, MORE, code, kind, setting};
use crate::harness::{Peer, soon};

fn block(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn fields(list: &[(&str, &str)]) -> Vec<Field> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// RFC 7541 §C.1.
#[test]
fn integers_are_those_of_the_rfc() {
    for (value, prefix, bytes) in
        [(10, 5, &[0x0a][..]), (1337, 5, &[0x1f, 0x9a, 0x0a]), (42, 8, &[0x2a]), (31, 5, &[0x1f, 0])]
    {
        let mut out = Vec::new();
        integer(&mut out, 0, prefix, value);
        assert_eq!(out, bytes);
    }
}

/// RFC 7541 §C.3 and §C.4: the same requests, without and with Huffman coding.
#[test]
fn requests_of_the_rfc_are_decoded() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let huffman = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    let authority = (":authority", "www.example.com");
    let wanted = [
        fields(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), authority]),
        fields(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            authority,
            ("cache-control", "no-cache"),
        ]),
        fields(&[
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            authority,
            ("custom-key", "custom-value"),
        ]),
    ];
    for blocks in [plain, huffman] {
        let mut decoder = Decoder::new();
        for ((hex, wanted), size) in blocks.iter().zip(&wanted).zip([57, 110, 164]) {
            assert_eq!(decoder.decode(&block(hex)).as_ref(), Ok(wanted));
            assert_eq!(decoder.size(), size);
        }
    }
}

/// RFC 7541 §C.6: responses, with a table of 256 bytes that throws entries out.
#[test]
fn responses_of_the_rfc_are_decoded() {
    let mut decoder = Decoder::new();
    // A change of the table's size to 256 (§6.3).
    assert_eq!(decoder.decode(&[0x3f, 0xe1, 0x01]), Ok(Vec::new()));
    let date = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
    let common = [("cache-control", "private"), date, ("location", "https://www.example.com")];
    let first = "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e \
                 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3";
    let third = "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 \
                 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed \
                 4ee5 b106 3d50 07";
    let with = |status| [&[(":status", status)][..], &common].concat();
    assert_eq!(decoder.decode(&block(first)), Ok(fields(&with("302"))));
    assert_eq!(decoder.size(), 222);
    assert_eq!(decoder.decode(&block("4883 640e ffc1 c0bf")), Ok(fields(&with("307"))));
    assert_eq!(decoder.size(), 222);
    let last = [
        (":status", "200"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
        ("location", "https://www.example.com"),
        ("content-encoding", "gzip"),
        ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
    ];
    assert_eq!(decoder.decode(&block(third)), Ok(fields(&last)));
    assert_eq!(decoder.size(), 215);
}

#[test]
fn what_is_no_hpack_is_refused() {
    for hex in ["80", "be", "ff8080808001", "41", "4103 6162", "4181 00", "4184 ffffffff", "4181 fe"] {
        assert!(Decoder::new().decode(&block(hex)).is_err(), "{hex}");
    }
}

#[test]
fn literals_survive_the_round_trip() {
    let list = [(":path", "/"), ("X-Caps", "a\u{e9}\u{0}b"), ("", ""), ("long", &*"x".repeat(300))];
    assert_eq!(Decoder::new().decode(&encode(&list)), Ok(fields(&list)));
}

#[test]
fn frames_survive_the_round_trip() {
    let frames = [
        Frame::headers(3, END_STREAM, encode(&[("a", "b")])).prioritized(1).padded(7),
        Frame::settings(&[(setting::ENABLE_PUSH, 0)]),
        Frame::data(5, MORE, "abc").padded(0),
    ];
    let mut bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
    let rest = bytes.split_off(bytes.len() - 1);
    assert_eq!(Frame::take(&mut bytes).as_ref(), Some(&frames[0]));
    assert_eq!(Frame::take(&mut bytes).as_ref(), Some(&frames[1]));
    assert_eq!(Frame::take(&mut bytes), None);
    bytes.extend(rest);
    assert_eq!(Frame::take(&mut bytes).unwrap().content(), b"abc");
    assert_eq!(frames[0].content(), encode(&[("a", "b")]));
    assert!(bytes.is_empty() && frames[0].has(END_HEADERS) && frames[1].kind == kind::SETTINGS);
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, server) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (client.unwrap(), server.unwrap().0)
}

/// Our client against the crate's server: a request with body and trailers, a response with an interim one, a body larger
/// than the window, and trailers.
#[tokio::test]
async fn a_server_of_others_understands_our_client() {
    const LEN: usize = 200_000;
    let (client, server) = pair().await;
    let serving = tokio::spawn(async move {
        let mut connection = h2::server::handshake(server).await.unwrap();
        let (request, mut respond) = connection.accept().await.unwrap().unwrap();
        let driving = tokio::spawn(async move { while connection.accept().await.is_some() {} });
        let (parts, mut body) = request.into_parts();
        let mut len = 0;
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            len += data.len();
            body.flow_control().release_capacity(data.len()).unwrap();
        }
        let trailers = body.trailers().await.unwrap().unwrap();
        assert_eq!((len, trailers["t"].as_bytes(), parts.uri.path()), (LEN, &b"1"[..], "/a"));
        respond.send_informational(http::Response::builder().status(103).body(()).unwrap()).unwrap();
        let mut sending = respond.send_response(http::Response::new(()), false).unwrap();
        sending.send_data(Bytes::from(vec![b'x'; LEN]), false).unwrap();
        sending.send_trailers([("t".parse().unwrap(), "2".parse().unwrap())].into_iter().collect()).unwrap();
        driving.await.unwrap();
    });
    let mut client = H2::client(Peer::new(client)).await;
    client.origin = ("http", "origin.test".into());
    client.ask(1, MORE, ("POST", "/a"), &[("x", "y")]).await;
    client.body(1, MORE, &vec![b'y'; LEN]).await;
    client.head(1, END_STREAM, &[("t", "1")]).await;
    client.expect_status(1, "103").await;
    client.expect_status(1, "200").await;
    let (data, trailers) = client.rest_of(1).await;
    assert_eq!((data.len(), trailers.unwrap().get("t")), (LEN, "2"));
    client.fence().await;
    client.data(1, MORE, "after the end").await;
    client.expect_rst(1, &[code::STREAM_CLOSED]).await;
    drop(client);
    soon("the server", serving).await.unwrap();
}

/// Our origin against the crate's client.
#[tokio::test]
async fn a_client_of_others_understands_our_origin() {
    const LEN: usize = 200_000;
    let (client, server) = pair().await;
    let asking = tokio::spawn(async move {
        let (mut requests, connection) = h2::client::handshake(client).await.unwrap();
        let driving = tokio::spawn(connection);
        let request = http::Request::post("https://origin.test/a").body(()).unwrap();
        let (response, mut sending) = requests.send_request(request, false).unwrap();
        sending.send_data(Bytes::from(vec![b'y'; LEN]), true).unwrap();
        let (parts, mut body) = response.await.unwrap().into_parts();
        let mut len = 0;
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            len += data.len();
            body.flow_control().release_capacity(data.len()).unwrap();
        }
        assert_eq!((len, parts.headers["x"].as_bytes()), (LEN, &b"y"[..]));
        assert_eq!(body.trailers().await.unwrap().unwrap()["t"].as_bytes(), b"1");
        drop((requests, body, sending));
        assert!(driving.await.unwrap().is_ok());
    });
    let mut server = H2::server(Peer::new(server)).await;
    let head = server.request().await;
    assert_eq!((head.get(":path"), head.get(":authority"), head.end), ("/a", "origin.test", false));
    assert_eq!(server.rest_of(head.stream).await.0.len(), LEN);
    server.head(head.stream, MORE, &[(":status", "200"), ("x", "y")]).await;
    server.body(head.stream, MORE, &vec![b'x'; LEN]).await;
    server.head(head.stream, END_STREAM, &[("t", "1")]).await;
    server.ended().await;
    soon("the client", asking).await.unwrap();
}
