//! Names of the system's users, for messages.

/// The name of a user, or the number where the system has no name for it: `/etc/passwd` alone is asked, no directory server.
pub(super) fn name(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    find(&passwd, uid).unwrap_or_else(|| format!("user {uid}"))
}

/// The name that this process's user has.
pub(super) fn own_name() -> String {
    name(rustix::process::geteuid().as_raw())
}

/// A line is `name:password:uid:…` (passwd(5)).
fn find(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n#\n::7\nanna:x:1000:1000::/home/anna:/bin/sh\n";
        assert_eq!(find(passwd, 1000), Some("anna".into()));
        assert_eq!(find(passwd, 0), Some("root".into()));
        assert_eq!((find(passwd, 7), find(passwd, 2)), (None, None));
    }
}
