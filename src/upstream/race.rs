//! Happy eyeballs (RFC 8305): addresses of one name are tried one after the other without waiting for each to fail.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

/// The families take turns, in the order in which the resolver sorted them (RFC 8305 §4); each address once.
pub(super) fn interleave(addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut sorted: Vec<SocketAddr> = Vec::new();
    for address in addresses {
        if !sorted.contains(&address) && sorted.len() < ADDRESSES {
            sorted.push(address);
        }
    }
    let Some(first) = sorted.first().map(SocketAddr::is_ipv6) else { return sorted };
    let (mut leading, mut other): (Vec<_>, Vec<_>) = sorted.into_iter().partition(|a| a.is_ipv6() == first);
    let mut order = Vec::with_capacity(leading.len() + other.len());
    let (mut leading, mut other) = (leading.drain(..), other.drain(..));
    loop {
        let pair = [leading.next(), other.next()];
        if pair == [None, None] {
            return order;
        }
        order.extend(pair.into_iter().flatten());
    }
}

/// Connects to the first of `addresses` that answers. The next is begun when one failed, or when the last begun has
/// not answered for [`STAGGER`]. All attempts but the winner are dropped, also when this future is.
///
/// # Errors
/// When all failed: each address with its reason, in the order in which they failed.
pub(super) async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, Vec<(SocketAddr, io::Error)>> {
    let mut waiting = addresses.iter().copied();
    let mut attempts: Vec<(SocketAddr, Attempt)> = Vec::new();
    let mut failures = Vec::new();
    let mut begin_next = true;
    let mut next_at = Instant::now();
    loop {
        if begin_next && let Some(address) = waiting.next() {
            attempts.push((address, Box::pin(TcpStream::connect(address))));
            next_at = Instant::now() + STAGGER;
        }
        if attempts.is_empty() {
            return Err(failures);
        }
        tokio::select! {
            (address, outcome) = first_ready(&mut attempts) => match outcome {
                Ok(stream) => return Ok(stream),
                Err(error) => failures.push((address, error)),
            },
            () = sleep_until(next_at), if waiting.len() > 0 => {}
        }
        begin_next = true;
    }
}

type Attempt = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// Waits for any of `attempts` and takes it out.
async fn first_ready(attempts: &mut Vec<(SocketAddr, Attempt)>) -> (SocketAddr, io::Result<TcpStream>) {
    poll_fn(|cx| {
        for at in 0..attempts.len() {
            if let Poll::Ready(outcome) = attempts[at].1.as_mut().poll(cx) {
                return Poll::Ready((attempts.swap_remove(at).0, outcome));
            }
        }
        Poll::Pending
    })
    .await
}

/// The "connection attempt delay" that RFC 8305 §8 recommends.
const STAGGER: Duration = Duration::from_millis(250);

/// Of a name with more addresses than this, the rest is not tried: with [`STAGGER`], the time is up before.
const ADDRESSES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_nothing_is_tried_twice() {
        let resolved = addresses(&["[::1]:1", "[::2]:1", "[::1]:1", "[::3]:1", "127.0.0.1:1", "127.0.0.2:1"]);
        let order = addresses(&["[::1]:1", "127.0.0.1:1", "[::2]:1", "127.0.0.2:1", "[::3]:1"]);
        assert_eq!(interleave(resolved), order);
        assert_eq!(interleave(addresses(&["1.1.1.1:1", "[::1]:1"])), addresses(&["1.1.1.1:1", "[::1]:1"]));
        assert_eq!(interleave([]), []);
    }
}
