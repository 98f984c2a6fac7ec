//! curl in every way to come in, and through an upstream proxy.

use tokio::process::Command;

use crate::harness::{Program, Proxy, Stage, Trust, finish, succeed, text};

const HELLO: &str = "hello, world\n";

/// curl without a configuration file, which trusts the proxy.
fn curl(stage: &Stage) -> Command {
    let mut curl = Program::CURL.command(stage.dir.path());
    curl.args(["-q", "-sS", "--max-time", "30", "--cacert"]).arg(&stage.proxy.ca);
    curl
}

/// `--socks5-hostname` and `--socks5`, with user and password: the names that are recorded are the request's in both.
#[tokio::test]
async fn curl_speaks_socks5() {
    let listen = ["--listen", "socks5@127.0.0.1:0", "--proxy-auth", "user:pa:ss"];
    let mut stage = Stage::with(|_, _| listen.map(str::to_owned).to_vec()).await;
    let proxy = format!("127.0.0.1:{}", stage.proxy.ports[1]);
    let mut seen = Vec::new();
    for how in ["--socks5-hostname", "--socks5"] {
        for origin in [&stage.https, &stage.http] {
            let before = origin.seen().len();
            let mut command = curl(&stage);
            command.args([how, &proxy, "--proxy-user", "user:pa:ss"]).arg(origin.url("/hello"));
            assert_eq!(text(&succeed(&mut command).await), HELLO);
            seen.extend(origin.seen().split_off(before));
        }
    }
    for wrong in [&["--proxy-user", "user:no"][..], &[]] {
        let mut command = curl(&stage);
        command.args(["--socks5-hostname", &proxy]).args(wrong).arg(stage.http.url("/hello"));
        assert!(!finish(&mut command).await.status.success());
    }
    let records = stage.records().await;
    let (refused, served): (Vec<_>, Vec<_>) =
        records.iter().partition(|record| record.row["state"] == "refused");
    assert_eq!((served.len(), refused.len()), (4, 2), "{records:#?}");
    assert!(served.iter().all(|record| record.host() == "localhost"), "{served:#?}");
    assert_eq!(seen.len(), 4);
}

/// curl asks without credentials first, is asked for them, and says them on the same connection.
#[tokio::test]
async fn curl_is_asked_for_user_and_password() {
    let auth = ["--proxy-auth", "user:pa:ss"];
    let mut stage = Stage::with(|_, _| auth.map(str::to_owned).to_vec()).await;
    for origin in [&stage.https, &stage.http] {
        let mut command = curl(&stage);
        command.args(["--proxy", &stage.proxy.url(), "--proxy-anyauth", "--proxy-user", "user:pa:ss"]);
        command.args(["-w", "%{num_connects}"]).arg(origin.url("/hello"));
        assert_eq!(text(&succeed(&mut command).await), format!("{HELLO}1"));
        let seen = origin.seen();
        assert_eq!((seen.len(), seen[0].header("proxy-authorization")), (1, None));
    }
    let mut command = curl(&stage);
    command.args(["--proxy", &stage.proxy.url(), "-o", "/dev/null", "-w", "%{http_code}"]);
    command.arg(stage.http.url("/hello"));
    assert_eq!(text(&succeed(&mut command).await), "407");
    let records = stage.records().await;
    let states: Vec<_> = records.iter().map(|record| record.row["state"].as_str().unwrap_or("")).collect();
    assert_eq!(states, ["refused", "complete", "refused", "complete", "refused"]);
    // `user:pa:ss` in base64.
    assert!(!format!("{records:?}").contains("dXNlcjpwYTpzcw"));
}

/// A reverse proxy in TLS for an origin in TLS, and in clear for the same.
#[tokio::test]
async fn curl_takes_the_reverse_proxy_for_the_origin() {
    let mut stage = Stage::with(|https, _| {
        vec!["--listen".to_owned(), format!("reverse:https://localhost:{}@127.0.0.1:0", https.port)]
    })
    .await;
    let port = stage.proxy.ports[1];
    for url in [format!("https://localhost:{port}/hello"), format!("http://127.0.0.1:{port}/hello")] {
        assert_eq!(text(&succeed(curl(&stage).arg(url)).await), HELLO);
    }
    let seen = stage.https.seen();
    let own = format!("localhost:{}", stage.https.port);
    assert_eq!(seen.len(), 2);
    for one in &seen {
        assert_eq!(one.header("host"), Some(&*own));
    }
    for record in stage.records().await {
        assert_eq!((record.host(), &record.row["scheme"]), ("localhost", &"https".into()));
    }
}

/// One manent through another, by HTTP and by SOCKS5, with credentials.
#[tokio::test]
async fn curl_goes_through_two_proxies() {
    let listen = ["--listen", "socks5@127.0.0.1:0", "--proxy-auth", "user:pass"];
    let mut stage = Stage::with(|_, _| listen.map(str::to_owned).to_vec()).await;
    let mut both = Vec::new();
    for (scheme, port) in [("http", stage.proxy.ports[0]), ("socks5", stage.proxy.ports[1])] {
        let dir = stage.dir.path().join(scheme);
        std::fs::create_dir(&dir).expect("a directory");
        // It has to trust what the other one makes of the origin's certificate.
        let trust = Trust { ca_path: stage.proxy.ca.clone(), ..Trust::new(&dir) };
        let via = format!("{scheme}://user:pass@127.0.0.1:{port}");
        let mut near = Proxy::start(&dir, &trust, &["--via", &via]).await;
        for origin in [&stage.https, &stage.http] {
            let mut command = Program::CURL.command(&dir);
            command.args(["-q", "-sS", "--max-time", "30", "--proxy", &near.url(), "--cacert"]).arg(&near.ca);
            assert_eq!(text(&succeed(command.arg(origin.url("/hello"))).await), HELLO);
        }
        near.stop().await;
        for record in near.store.records().await {
            assert_eq!(record.shown["server"]["via"]["scheme"], *scheme);
            assert!(!format!("{record:?}").contains("user:pass"));
            both.push(record);
        }
    }
    assert_eq!(both.len(), 4);
    assert_eq!(stage.records().await.len(), 4);
}
