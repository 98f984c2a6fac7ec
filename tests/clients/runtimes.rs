//! Runtimes and tools under `manent run`, each with nothing set up, and with settings of the user's that would lead it past
//! the proxy where it has such.

use std::path::Path;

use crate::harness::{Program, clean, finish, python, script, succeed, text};
use crate::run::{Scene, assert_captured};

#[tokio::test]
async fn curl_needs_no_setting_up() {
    assert_captured(Program::CURL.path(), &["-sS"]).await;
}

#[tokio::test]
async fn wget_needs_no_setting_up() {
    let scene = Scene::new().await;
    let settings = "https_proxy = http://127.0.0.1:9\nno-proxy = origin.test\nca_certificate = /nowhere\n";
    std::fs::write(scene.dir.path().join(".wgetrc"), settings).expect("writable");
    let mut command = scene.run();
    command.arg(Program::WGET.path()).args(["-q", "-O", "-", "https://origin.test/hello"]);
    assert_eq!(scene.assert_captured(&mut command).await, 1);
}

/// Over the protocol for web servers that know nothing of git, which takes a request an object.
#[tokio::test]
async fn git_needs_no_setting_up() {
    let scene = Scene::with_files(async |files| {
        let git = |args: &[&str]| {
            let mut command = Program::GIT.command(files);
            command.current_dir(files).args(args);
            command
        };
        succeed(&mut git(&["init", "-q", "work"])).await;
        std::fs::write(files.join("work/hello.txt"), "hello, world\n").expect("writable");
        succeed(&mut git(&["-C", "work", "add", "."])).await;
        let commit =
            ["-C", "work", "-c", "user.name=T", "-c", "user.email=t@origin.test", "commit", "-qm", "one"];
        succeed(&mut git(&commit)).await;
        succeed(&mut git(&["clone", "-q", "--bare", "work", "repo.git"])).await;
        succeed(&mut git(&["-C", "repo.git", "update-server-info"])).await;
    })
    .await;
    let settings = "[http]\n\tproxy = http://127.0.0.1:9\n\tsslCAInfo = /nowhere\n";
    std::fs::write(scene.dir.path().join(".gitconfig"), settings).expect("writable");
    let mut command = scene.run();
    command.arg(Program::GIT.path()).args(["clone", "-q", "https://origin.test/repo.git", "copy"]);
    succeed(&mut command).await;
    let copied = std::fs::read_to_string(scene.dir.path().join("copy/hello.txt"));
    assert_eq!(copied.expect("it was cloned"), "hello, world\n");
    assert!(scene.assert_recorded().await.len() > 3);
}

#[tokio::test]
async fn python_with_requests_needs_no_setting_up() {
    let get = "import requests, sys; print(requests.get(sys.argv[1], timeout=30).text, end='')";
    assert_captured(python(), &["-c", get]).await;
}

#[tokio::test]
async fn python_with_urllib_needs_no_setting_up() {
    let get =
        "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=30).read().decode(), end='')";
    assert_captured(python(), &["-c", get]).await;
}

#[tokio::test]
async fn python_with_httpx_needs_no_setting_up() {
    let get = "import httpx, sys; print(httpx.get(sys.argv[1], timeout=30).text, end='')";
    assert_captured(python(), &["-c", get]).await;
}

/// It looks at no variables by itself. What it does with a session that asks to be led by them stays as it is.
#[tokio::test]
async fn python_with_aiohttp_needs_no_setting_up() {
    for session in ["", "trust_env=True"] {
        let get = format!(
            "import aiohttp, asyncio, sys\n\
             async def get(url):\n  \
               async with aiohttp.ClientSession({session}) as session, session.get(url) as answer:\n    \
                 print(await answer.text(), end='')\n\
             asyncio.run(get(sys.argv[1]))"
        );
        assert_captured(python(), &["-c", &get]).await;
    }
}

/// What would have been loaded without us still is.
#[tokio::test]
async fn a_sitecustomize_that_is_there_is_not_lost() {
    let scene = Scene::new().await;
    let mine = scene.dir.path().join("mine");
    std::fs::create_dir(&mine).expect("a directory");
    std::fs::write(mine.join("sitecustomize.py"), "import sys\nsys.mine = 'here'\n").expect("writable");
    let mut command = scene.run();
    command.env("PYTHONPATH", &mine).arg(python()).args(["-c", "import sys; print(sys.mine)"]);
    assert_eq!(text(&succeed(&mut command).await), "here\n");
}

/// An index of packages with one in it, `hello`.
async fn wheel(files: &Path) {
    let index = files.join("simple/hello");
    std::fs::create_dir_all(&index).expect("a directory");
    let wheel = "hello-1.0-py3-none-any.whl";
    std::fs::write(index.join("index"), format!("<!doctype html><a href={wheel}>{wheel}</a>"))
        .expect("writable");
    let make = "import sys, zipfile\n\
        record = ''.join(f'hello-1.0.dist-info/{name},,\\n' for name in ('METADATA', 'WHEEL', 'RECORD'))\n\
        with zipfile.ZipFile(sys.argv[1], 'w') as wheel:\n  \
          for name, text in [('METADATA', 'Metadata-Version: 2.1\\nName: hello\\nVersion: 1.0\\n'),\n    \
            ('WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n'), ('RECORD', record)]:\n    \
            wheel.writestr('hello-1.0.dist-info/' + name, text)\n";
    succeed(clean(&python(), files).args(["-c", make]).arg(index.join(wheel))).await;
}

#[tokio::test]
async fn pip_needs_no_setting_up() {
    let scene = Scene::with_files(wheel).await;
    let settings = "[global]\nproxy = http://127.0.0.1:9\ncert = /nowhere\n";
    std::fs::write(scene.dir.path().join("pip.conf"), settings).expect("writable");
    let mut command = scene.run();
    command.env("PIP_CONFIG_FILE", scene.dir.path().join("pip.conf"));
    command.arg(python()).args(["-m", "pip", "download", "-q", "--no-deps", "--disable-pip-version-check"]);
    command.args(["--index-url", "https://origin.test/simple/", "hello"]);
    succeed(&mut command).await;
    assert!(scene.dir.path().join("hello-1.0-py3-none-any.whl").is_file());
    assert_eq!(scene.assert_recorded().await.len(), 2);
}

/// reqwest, of Rust, as the program uses it that most people have it from.
#[tokio::test]
async fn uv_needs_no_setting_up() {
    let scene = Scene::with_files(wheel).await;
    let settings = scene.dir.path().join("uv.toml");
    std::fs::write(&settings, "native-tls = false\n").expect("writable");
    let mut command = scene.run();
    command.env("UV_CONFIG_FILE", &settings).env("UV_CACHE_DIR", scene.dir.path().join("uv-cache"));
    command
        .arg(python().with_file_name("uv"))
        .args(["pip", "install", "-q", "--no-deps", "--python"])
        .arg(python());
    command.args(["--target", "installed", "--index-url", "https://origin.test/simple/", "hello"]);
    succeed(&mut command).await;
    assert!(scene.dir.path().join("installed/hello-1.0.dist-info").is_dir());
    assert!(scene.assert_recorded().await.len() >= 2);
}

/// botocore, below it, has a variable of its own for the certificate, which goes before the user's settings.
#[tokio::test]
async fn the_aws_cli_needs_no_setting_up() {
    let scene = Scene::with_files(async |files| {
        let buckets = "<?xml version=\"1.0\"?><ListAllMyBucketsResult><Buckets><Bucket><Name>hello, world</Name>\
            <CreationDate>2026-01-01T00:00:00.000Z</CreationDate></Bucket></Buckets></ListAllMyBucketsResult>";
        std::fs::write(files.join("index"), buckets).expect("writable");
    })
    .await;
    std::fs::create_dir(scene.dir.path().join(".aws")).expect("a directory");
    let settings = "[default]\nregion = us-east-1\nca_bundle = /nowhere\n";
    std::fs::write(scene.dir.path().join(".aws/config"), settings).expect("writable");
    let mut command = scene.run();
    command.env("AWS_ACCESS_KEY_ID", "nobody").env("AWS_SECRET_ACCESS_KEY", "nothing");
    command.env("AWS_EC2_METADATA_DISABLED", "true").env("AWS_PAGER", "");
    command.arg(Program::AWS.path()).args(["s3api", "list-buckets", "--output", "text"]);
    command.args(["--endpoint-url", "https://origin.test", "--query", "Buckets[0].Name"]);
    assert_eq!(scene.assert_captured(&mut command).await, 1);
}

#[tokio::test]
async fn node_with_fetch_needs_no_setting_up() {
    let get = "fetch(process.argv[1]).then(r => r.text()).then(t => process.stdout.write(t))";
    assert_captured(Program::NODE.path(), &["-e", get]).await;
}

#[tokio::test]
async fn node_with_https_needs_no_setting_up() {
    let get = "require('https').get(process.argv[1], r => r.pipe(process.stdout))";
    assert_captured(Program::NODE.path(), &["-e", get]).await;
}

/// The package of this name, not the one that is built in.
#[tokio::test]
async fn node_with_undici_needs_no_setting_up() {
    let get = format!(
        "require({:?}).request(process.argv[1]).then(async r => process.stdout.write(await r.body.text()))",
        script("node_modules/undici")
    );
    assert_captured(Program::NODE.path(), &["-e", &get]).await;
}

#[tokio::test]
async fn npm_needs_no_setting_up() {
    let scene = Scene::with_files(async |files| {
        let package = "{\"name\": \"hello\", \"dist-tags\": {\"latest\": \"1.0.0\"}, \"versions\": {\"1.0.0\": \
            {\"name\": \"hello\", \"version\": \"1.0.0\", \"description\": \"hello, world\", \
            \"dist\": {\"tarball\": \"https://origin.test/hello.tgz\", \"shasum\": \"\"}}}}";
        std::fs::write(files.join("hello"), package).expect("writable");
    })
    .await;
    let settings =
        "proxy=http://127.0.0.1:9\nhttps-proxy=http://127.0.0.1:9\nnoproxy=origin.test\ncafile=/nowhere\n";
    std::fs::write(scene.dir.path().join(".npmrc"), settings).expect("writable");
    let mut command = scene.run();
    command.arg(Program::NPM.path()).args(["view", "hello", "description"]);
    command.args(["--registry=https://origin.test/", "--no-update-notifier"]);
    assert_eq!(scene.assert_captured(&mut command).await, 1);
}

/// Both of Java's own clients, in a program that is compiled as it starts.
#[tokio::test]
async fn java_needs_no_setting_up() {
    for client in ["HttpClient", "HttpsURLConnection"] {
        let program = script("JavaClient.java").into_os_string().into_string().expect("UTF-8");
        assert_captured(Program::JAVA.path(), &[&program, client]).await;
    }
}

/// A program in Go that looks for names below a URL, and says which it found.
#[tokio::test]
async fn go_needs_no_setting_up() {
    let scene = Scene::new().await;
    let words = scene.dir.path().join("words");
    std::fs::write(&words, "hello\n").expect("writable");
    let mut command = scene.run();
    command.arg(Program::GOBUSTER.path()).args(["dir", "-q", "--no-progress", "-u", "https://origin.test/"]);
    let found = text(&succeed(command.arg("-w").arg(words)).await);
    assert!(found.contains("/hello") && found.contains("200"), "{found}");
    let records = scene.assert_recorded().await;
    assert!(records.iter().any(|record| record.path() == "/hello"), "{records:#?}");
}

/// It looks names up first, and asks no proxy for loopback.
#[tokio::test]
async fn ruby_needs_no_setting_up() {
    let scene = Scene::new().await;
    let get = "print Net::HTTP.get(URI('https://192.0.2.1/hello'))";
    let mut command = scene.run();
    command.arg(Program::RUBY.path()).args(["-rnet/http", "-e", get]);
    assert_eq!(scene.assert_captured(&mut command).await, 1);
}

#[tokio::test]
async fn php_needs_no_setting_up() {
    for get in [
        "$c = curl_init($argv[1]); curl_exec($c) || die(curl_error($c));",
        "echo file_get_contents($argv[1]);",
    ] {
        let scene = Scene::new().await;
        let file = scene.dir.path().join("get.php");
        std::fs::write(&file, format!("<?php {get}")).expect("writable");
        let mut command = scene.run();
        command.arg(Program::PHP.path()).arg(&file).arg("https://origin.test/hello");
        assert_eq!(scene.assert_captured(&mut command).await, 1);
    }
}

/// cargo asks a registry of its sparse protocol.
#[tokio::test]
async fn cargo_needs_no_setting_up() {
    let scene = Scene::with_files(async |files| {
        std::fs::write(files.join("config.json"), "{\"dl\": \"https://origin.test/crates\"}").expect("writable");
        std::fs::create_dir_all(files.join("he/ll")).expect("a directory");
        let entry = format!(
            "{{\"name\":\"hello\",\"vers\":\"1.0.0\",\"deps\":[],\"cksum\":\"{}\",\"features\":{{}},\"yanked\":false}}\n",
            "0".repeat(64)
        );
        std::fs::write(files.join("he/ll/hello"), entry).expect("writable");
    })
    .await;
    cargo_package(scene.dir.path());
    let mut command = scene.run();
    // The toolchain's manager looks below the home that this test has not.
    let rustup =
        std::env::var_os("HOME").map(|home| Path::new(&home).join(".rustup")).filter(|dir| dir.is_dir());
    if let Some(rustup) = std::env::var_os("RUSTUP_HOME").map(Into::into).or(rustup) {
        command.env("RUSTUP_HOME", rustup);
    }
    command.env("CARGO_HOME", scene.dir.path().join("cargo"));
    command.arg(Program::CARGO.path()).args(["generate-lockfile", "-q"]);
    succeed(&mut command).await;
    let lock = std::fs::read_to_string(scene.dir.path().join("Cargo.lock")).expect("it was made");
    assert!(lock.contains("origin.test"), "{lock}");
    assert_eq!(scene.assert_recorded().await.len(), 2);
}

/// A package that depends on one of the registry at `origin.test`.
fn cargo_package(dir: &Path) {
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().expect("below the directory")).expect("a directory");
        std::fs::write(path, text).expect("writable");
    };
    let package = "[package]\nname = \"a\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
        [dependencies]\nhello = { version = \"1\", registry = \"test\" }\n[workspace]\n";
    write("Cargo.toml", package);
    write("src/lib.rs", "");
    let settings = "[registries.test]\nindex = \"sparse+https://origin.test/\"\n\
        [http]\nproxy = \"http://127.0.0.1:9\"\ncainfo = \"/nowhere\"\n";
    write(".cargo/config.toml", settings);
}

#[tokio::test]
async fn nothing_is_loaded_if_so_told() {
    let scene = Scene::new().await;
    let mut command = scene.run_with(&["--no-preload"]);
    command.args([
        "/bin/sh",
        "-c",
        "echo ${NODE_OPTIONS-none} ${PYTHONPATH-none}; cat ${PHP_INI_SCAN_DIR#:}/*.ini",
    ]);
    let output = finish(&mut command).await;
    let said = text(&output.stdout);
    assert!(said.starts_with("none none\ncurl.cainfo="), "{said}");
    assert!(!said.contains("auto_prepend_file"), "{said}");
}
