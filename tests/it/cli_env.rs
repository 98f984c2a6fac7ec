//! `manent env` without the shells that `tests/clients` has: what it prints, and what it refuses.

use std::net::TcpListener;

use crate::cli::{Home, text};

#[test]
fn statements_come_first_and_how_to_run_them_last() {
    let home = Home::new();
    let output =
        home.command(&["env", "-q", "--shell", "sh", "-p", "9000"]).env("no_proxy", "it's").output().unwrap();
    let printed = text(&output.stdout);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    for line in [
        "export HTTPS_PROXY='http://127.0.0.1:9000';",
        "unset no_proxy;",
        "export _MANENT_SAVED_no_proxy='it'\\''s';",
        "export _MANENT_ENV='127.0.0.1:9000';",
    ] {
        assert!(printed.lines().any(|have| have == line), "{line} is not in {printed}");
    }
    let last = printed.lines().last();
    assert_eq!(last, Some("# Run it with: eval \"$(manent env -q --shell sh -p 9000)\""));
    let other = home.run(&["env", "-q", "--shell", "pwsh", "-l", "0.0.0.0:9000", "--proxy-auth", "me:p'w"]);
    assert!(
        text(&other.stdout).contains("\n$env:HTTPS_PROXY = 'http://me:p%27w@127.0.0.1:9000'\n"),
        "{other:?}"
    );
    let mut other = home.command(&["env", "-q"]);
    other.env("MANENT_LISTEN", "socks5@1080 7000").env("SHELL", "/bin/fish");
    assert!(text(&other.output().unwrap().stdout).contains("\nset -gx ALL_PROXY 'http://127.0.0.1:7000';\n"));
}

#[test]
fn a_proxy_that_is_not_there_yet_is_told_of() {
    let home = Home::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let said = |home: &Home| text(&home.run(&["env", "--shell", "sh", "-p", &port]).stderr);
    assert!(said(&home).starts_with("made a new certificate authority in "));
    assert_eq!(said(&home), "");
    drop(listener);
    assert_eq!(
        said(&home),
        format!("nothing listens on 127.0.0.1:{port} yet: start the proxy with `manent -p {port}`\n")
    );
}

#[test]
fn what_cannot_be_led_to_is_refused() {
    let home = Home::new();
    home.refuses(&["env", "--shell", "tcsh"], 2, "--shell");
    home.refuses(&["env", "-l", "0"], 2, "port 0 is any free one");
    home.refuses(&["env", "-p", "0"], 2, "a port from 1 to 65535 was expected, such as 8080");
    home.refuses(&["env", "-l", "socks5@1080"], 2, "-l explicit@8080");
    home.refuses(&["env", "--proxy-auth", "@users"], 2, "USER:PASS");
    home.refuses(&["env", "--ca-cert", "/no/such.pem"], 6, "error[E601]");
    let output = home.command(&["env"]).env("SHELL", "/bin/tcsh").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("$SHELL is tcsh"), "{output:?}");
    let nothing = home.run(&["env", "--unset", "--json"]);
    assert!(nothing.status.success() && nothing.stdout.is_empty());
    assert!(text(&nothing.stderr).contains("nothing to undo"));
}
