//! Bodies larger than all memory that may be used for them: whole at the other end, whole in the record (ST-10, ST-14).
//!
//! Three hashes of each body must be one: of what was sent, of what arrived, and of what the store gives.

use std::io::Read;

use manent::flow::{BodyEnd, State};
use manent::store::Reader;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::harness::{Origin, PATIENCE, Setup, is_alone, memory};

const LEN: u64 = 256 << 20;

/// Sends `LEN` bytes, no two MiB of them alike, and gives their hash.
async fn send(to: &mut (dyn AsyncWrite + Unpin + Send)) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let mut block = vec![0xa5; 1 << 20];
    for at in 0..LEN >> 20 {
        block[..8].copy_from_slice(&at.to_le_bytes());
        hasher.update(&block);
        to.write_all(&block).await.unwrap();
    }
    hasher.finalize()
}

/// Reads `LEN` bytes, and gives their hash.
async fn receive(from: &mut (dyn AsyncRead + Unpin + Send)) -> blake3::Hash {
    let (mut hasher, mut left, mut buf) = (blake3::Hasher::new(), LEN, vec![0; 1 << 18]);
    while left > 0 {
        let n = from.read(&mut buf).await.unwrap();
        assert!(n > 0, "{left} bytes are missing");
        hasher.update(&buf[..n]);
        left -= n as u64;
    }
    hasher.finalize()
}

fn recorded(reader: &Reader, body: &manent::flow::Body) -> blake3::Hash {
    assert_eq!((body.len, body.end), (LEN, BodyEnd::Whole));
    assert!(body.as_inline().is_none());
    let (mut hasher, mut buf) = (blake3::Hasher::new(), vec![0; 1 << 18]);
    let mut stored = reader.body(body).unwrap();
    loop {
        match stored.read(&mut buf).unwrap() {
            0 => return hasher.finalize(),
            n => hasher.update(&buf[..n]),
        };
    }
}

/// Issue item 4, with a length that a test can wait for; `tests/bench/large/` does it with 10 GiB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_pass_and_are_recorded_in_constant_memory() {
    if !is_alone("large_bodies::large_bodies_pass_and_are_recorded_in_constant_memory") {
        return;
    }
    let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
    setup.expect_alive().await;
    let before = memory("VmRSS:");
    let put = format!("PUT / HTTP/1.1\r\nHost: {{addr}}\r\nContent-Length: {LEN}\r\n\r\n");
    let (client, server) = setup.asked(&origin, put).await;
    let (mut client, mut server) = (client.into_io(), server.into_io());
    let work = async {
        let up = tokio::join!(send(&mut client), receive(&mut server));
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n");
        server.write_all(head.as_bytes()).await.unwrap();
        client.read_exact(&mut vec![0; head.len()]).await.unwrap();
        (up, tokio::join!(send(&mut server), receive(&mut client)))
    };
    let ((up, up_there), (down, down_there)) =
        tokio::time::timeout(PATIENCE * 6, work).await.expect("half a GiB in a minute");
    assert_eq!((up, down), (up_there, down_there));
    let mid = setup.ended().await;
    let reader = Reader::open(&setup.config.store).unwrap();
    let flow = reader.flow(mid).unwrap().unwrap();
    assert_eq!(flow.state, State::Complete);
    assert_eq!(recorded(&reader, &flow.request.unwrap().body), up);
    assert_eq!(recorded(&reader, &flow.response.unwrap().body), down);
    let most = memory("VmHWM:") - before;
    assert!(most < 64 << 20, "{most} bytes for bodies of {LEN}, each way");
}
