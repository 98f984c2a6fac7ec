//! Who is in the way: the process that listens on a port, by what `/proc` tells.
//!
//! A courtesy of an error message: on other systems, and for processes of other users, there is no answer.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A running process.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) name: String,
    /// Whose it is.
    pub(super) uid: Option<u32>,
    /// When it began, nanoseconds since 1970.
    pub(super) started_unix_ns: Option<i64>,
}

/// The process that listens where `addr` would.
pub(super) fn listener(addr: SocketAddr) -> Option<Process> {
    let sockets: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|table| table.lines().filter_map(|line| socket(line, addr)).collect::<Vec<_>>())
        .collect();
    let pid = std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        holds(&entry.path().join("fd"), &sockets).then_some(pid)
    })?;
    let uid = std::fs::metadata(format!("/proc/{pid}")).ok().map(|found| found.uid());
    Some(Process { pid, name: name_of(pid)?, uid, started_unix_ns: started(pid) })
}

/// Whether anybody listens where `addr` would; `None` where it cannot be told.
pub(super) fn is_listening(addr: SocketAddr) -> Option<bool> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let tables: Vec<String> = tables.iter().filter_map(|table| std::fs::read_to_string(table).ok()).collect();
    let found = || tables.iter().flat_map(|table| table.lines()).any(|line| socket(line, addr).is_some());
    (!tables.is_empty()).then(found)
}

/// Where the process that writes to the store at `path` listens: the one that the store's lock file names, if it has that file
/// open, and its sockets. Nothing, where it cannot be told.
///
/// `/proc/locks` would tell the same, but took 7 to 11 ms to be read where that was measured.
pub(super) fn writers_listeners(path: &Path) -> Vec<SocketAddr> {
    // It lies beside the store itself, not beside a link to it.
    let mut lock = path.canonicalize().unwrap_or_else(|_| path.to_owned()).into_os_string();
    lock.push("-lock");
    let lock = Path::new(&lock);
    let Some(pid) = named_in(lock).filter(|pid| *pid != std::process::id()) else { return Vec::new() };
    if has_open(pid, lock) { listening_at(pid) } else { Vec::new() }
}

/// The process that a lock file names, whether it lives or not.
fn named_in(lock: &Path) -> Option<u32> {
    let mut text = String::new();
    File::open(lock).ok()?.take(64).read_to_string(&mut text).ok()?;
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// Whether a process has this file open.
fn has_open(pid: u32, path: &Path) -> bool {
    let key = |found: Metadata| (found.dev(), found.ino());
    let Ok(wanted) = std::fs::metadata(path).map(key) else { return false };
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    fds.filter_map(|fd| std::fs::metadata(fd.path()).ok()).any(|found| key(found) == wanted)
}

/// The addresses at which a process listens.
fn listening_at(pid: u32) -> Vec<SocketAddr> {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let held: Vec<PathBuf> = fds.filter_map(|fd| std::fs::read_link(fd.path()).ok()).collect();
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|table| table.lines().filter_map(listening).collect::<Vec<_>>())
        .filter(|(_, socket)| held.iter().any(|link| link.as_os_str() == socket.as_str()))
        .map(|(addr, _)| addr)
        .collect()
}

/// When a process began (proc_pid_stat(5)): in ticks after the machine did.
fn started(pid: u32) -> Option<i64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let machine = std::fs::read_to_string("/proc/stat").ok()?;
    let machine: i64 = machine.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    // Behind the name, which may hold anything: the 22nd field of all, the 20th from there.
    let ticks: i64 = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()?;
    machine.checked_mul(1_000_000_000)?.checked_add(ticks.checked_mul(1_000_000_000 / TICKS)?)
}

/// The name of a running process.
pub(super) fn name_of(pid: u32) -> Option<String> {
    Some(std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned())
}

fn holds(fds: &Path, sockets: &[String]) -> bool {
    let Ok(fds) = std::fs::read_dir(fds) else { return false };
    fds.flatten()
        .filter_map(|fd| std::fs::read_link(fd.path()).ok())
        .any(|link| sockets.iter().any(|socket| link.as_os_str() == socket.as_str()))
}

/// The socket of a line of `/proc/net/tcp` (proc_net(5)), as `/proc/PID/fd` names it, if it is a listener in the way
/// of `addr`.
fn socket(line: &str, addr: SocketAddr) -> Option<String> {
    let (found, socket) = listening(line)?;
    let ip = found.ip();
    let in_the_way = ip.is_unspecified() || addr.ip().is_unspecified() || ip == addr.ip().to_canonical();
    (found.port() == addr.port() && in_the_way).then_some(socket)
}

/// A listener of a line of `/proc/net/tcp`: its address, and its socket's name.
fn listening(line: &str) -> Option<(SocketAddr, String)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, _peer, state) = (fields.next()?, fields.next()?, fields.next()?);
    let (ip, port) = local.split_once(':')?;
    let addr = SocketAddr::new(parse_ip(ip)?, u16::from_str_radix(port, 16).ok()?);
    (state == LISTEN).then(|| fields.nth(5).map(|inode| (addr, format!("socket:[{inode}]")))).flatten()
}

/// The kernel prints an address as 32-bit words, each in the machine's byte order.
fn parse_ip(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut bytes = [0; 16];
            for (i, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(i * 8)?);
            }
            Some(Ipv6Addr::from(bytes).to_canonical())
        }
        _ => None,
    }
}

/// A second, as Linux counts for programs (`USER_HZ`) on every machine that Rust's standard library runs on.
const TICKS: i64 = 100;

/// `TCP_LISTEN` in hexadecimal.
const LISTEN: &str = "0A";

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn our_own_listener_is_found() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
        let found = listener(socket.local_addr().expect("bound")).expect("this process");
        let addr = socket.local_addr().expect("bound");
        assert_eq!((found.pid, found.uid), (std::process::id(), Some(rustix::process::geteuid().as_raw())));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let age =
            i64::try_from(now.as_nanos()).expect("before 2262") - found.started_unix_ns.expect("it is known");
        // The machine's own start is told in whole seconds.
        assert!((-2_000_000_000..86_400_000_000_000).contains(&age), "{age}");
        assert_eq!(is_listening(addr), Some(true));
        drop(socket);
        assert_eq!(is_listening(addr), Some(false));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_listeners_of_a_process_are_found() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
        let addr = socket.local_addr().expect("bound");
        assert!(listening_at(std::process::id()).contains(&addr));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_writer_is_the_process_that_its_lock_file_names_while_it_has_it_open() {
        use std::io::Write as _;

        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("f.db-lock");
        let mut file = File::create(&path).expect("a file");
        writeln!(file, "{} 1700000000000000000", std::process::id()).expect("room");
        assert_eq!(named_in(&path), Some(std::process::id()));
        assert!(has_open(std::process::id(), &path));
        drop(file);
        assert!(!has_open(std::process::id(), &path));
        for odd in ["", "x", "-1 2", "99999999999 1"] {
            std::fs::write(&path, odd).expect("room");
            assert_eq!(named_in(&path), None, "{odd}");
        }
    }

    #[test]
    fn odd_lines_are_no_listeners() {
        let addr = "127.0.0.1:8080".parse().expect("an address");
        for line in ["", "  sl  local_address", "0: zz:zz 0 0A", "0: 0100007F 0 0A", "0: 0100007é:1F90 x 0A"]
        {
            assert_eq!(socket(line, addr), None, "{line}");
        }
    }
}
