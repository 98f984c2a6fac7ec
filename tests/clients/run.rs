//! `manent run -- COMMAND`: the scene of all such tests, and what the command's environment looks like.

use std::path::{Path, PathBuf};
use std::process::Output;

use tokio::process::Command;

use crate::harness::{
    Onward, Origin, Program, Record, Store, Trust, assert_exact, finish, manent, python, succeed, text,
};

#[tokio::test]
async fn loopback_goes_through_the_proxy_as_well() {
    for (program, args) in [
        (Program::CURL.path(), vec!["-sS"]),
        (Program::WGET.path(), vec!["-q", "-O", "-"]),
        (python(), vec!["-c", "import requests, sys; print(requests.get(sys.argv[1]).text, end='')"]),
        (
            Program::NODE.path(),
            vec!["-e", "require('https').get(process.argv[1], r => r.pipe(process.stdout))"],
        ),
    ] {
        let scene = Scene::new().await;
        let url = scene.origin.url("/hello");
        let mut command = manent_run(scene.dir.path(), &scene.trust, &scene.store);
        let said = succeed(command.arg(program).args(args).arg(url)).await;
        assert_eq!(text(&said), "hello, world\n");
        assert_eq!(scene.assert_recorded().await.len(), 1);
    }
}

#[tokio::test]
async fn the_exit_code_is_the_commands() {
    let scene = Scene::new().await;
    let output = finish(scene.run().args(["/bin/sh", "-c", "exit 7"])).await;
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(scene.store.records().await.len(), 0);
}

/// An origin, the way to it, and a store. `https://origin.test/` exists behind the proxy alone.
pub(crate) struct Scene {
    pub(crate) origin: Origin,
    pub(crate) onward: Onward,
    pub(crate) store: Store,
    pub(crate) trust: Trust,
    pub(crate) dir: tempfile::TempDir,
}

impl Scene {
    pub(crate) async fn new() -> Scene {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let trust = Trust::new(dir.path());
        let origin = Origin::https(&trust).await;
        Scene::around(origin, trust, dir).await
    }

    /// With an origin that gives away what `fill` has put into a directory.
    pub(crate) async fn with_files(fill: impl AsyncFnOnce(&Path)) -> Scene {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let trust = Trust::new(dir.path());
        let files = dir.path().join("files");
        std::fs::create_dir(&files).expect("a directory");
        fill(&files).await;
        let origin = Origin::of_files(&trust, &files).await;
        Scene::around(origin, trust, dir).await
    }

    async fn around(origin: Origin, trust: Trust, dir: tempfile::TempDir) -> Scene {
        std::fs::create_dir(dir.path().join("tmp")).expect("a directory");
        let onward = Onward::to(origin.port).await;
        let store = Store::new(dir.path().join("flows.db"), dir.path());
        Scene { origin, onward, store, trust, dir }
    }

    /// `manent run … --`, behind whose proxy `origin.test` is.
    pub(crate) fn run(&self) -> Command {
        self.run_with(&[])
    }

    /// The same with more flags.
    pub(crate) fn run_with(&self, flags: &[&str]) -> Command {
        let mut command = manent_run_flags(self.dir.path(), &self.trust, &self.store);
        command.env("MANENT_VIA", self.onward.url()).current_dir(self.dir.path());
        command.env("TMPDIR", self.temporary());
        // Else the NO_PROXY that the command is not to see would be heard here.
        command.env("MANENT_NO_VIA", "nowhere.test");
        command.args(flags).arg("--");
        command
    }

    /// Where the command's temporary files are.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.dir.path().join("tmp")
    }

    /// Checks that the store holds what the origin saw, byte for byte, and that nothing else was asked for. Whose flows
    /// overlap are in no order.
    pub(crate) async fn assert_recorded(&self) -> Vec<Record> {
        let (records, mut seen) = (self.store.records().await, self.origin.seen());
        assert_eq!(self.onward.refused(), [""; 0], "nothing else was asked for");
        assert_eq!(records.len(), seen.len(), "{records:#?}\n{seen:#?}");
        for record in &records {
            let at =
                seen.iter().position(|seen| seen.target == record.path() && seen.method == record.method());
            let at = at.unwrap_or_else(|| panic!("the origin did not see {record:?}: {seen:#?}"));
            assert_exact(&self.store, record, &seen.remove(at)).await;
        }
        records
    }

    /// Checks that the command got the origin's answer, and that its requests are recorded: how many of them.
    pub(crate) async fn assert_captured(&self, command: &mut Command) -> usize {
        let output: Output = finish(command).await;
        assert!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
        assert_eq!(text(&output.stdout), "hello, world\n", "nothing but what the command prints");
        self.assert_recorded().await.len()
    }
}

/// Has a program get `https://origin.test/hello`, which is the last of its arguments, and checks that this was recorded.
pub(crate) async fn assert_captured(program: PathBuf, args: &[&str]) {
    let scene = Scene::new().await;
    let mut command = scene.run();
    command.arg(program).args(args).arg("https://origin.test/hello");
    assert_eq!(scene.assert_captured(&mut command).await, 1);
}

/// `manent run … --`, on a machine with settings of its own.
pub(crate) fn manent_run(home: &Path, trust: &Trust, store: &Store) -> Command {
    let mut command = manent_run_flags(home, trust, store);
    command.arg("--");
    command
}

fn manent_run_flags(home: &Path, trust: &Trust, store: &Store) -> Command {
    let mut command = manent(home);
    // Such settings are on many machines; `run` has to override them.
    for name in ["CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"]
    {
        command.env(name, "/nowhere");
    }
    for name in ["NO_PROXY", "no_proxy", "no_grpc_proxy"] {
        command.env(name, "localhost,.test,192.0.2.1");
    }
    command.env("grpc_proxy", "http://127.0.0.1:9");
    command.arg("run").arg("--store").arg(&store.path).arg("--ca-dir").arg(home.join("ca"));
    command.arg("--upstream-ca").arg(&trust.ca_path);
    command
}
