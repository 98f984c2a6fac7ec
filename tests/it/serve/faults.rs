//! Faults on purpose.

use manent::replay::serve::{Fault, Faults, ServeOptions};

use super::{get, ok};
use crate::harness::{Origin, Setup, expect_cut};

/// All fail, and no answer is spent on them.
#[tokio::test]
async fn requests_fail_as_they_are_told_to() {
    for fault in [Fault::Status(503), Fault::Reset] {
        let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
        setup.record(&origin, &get("/"), &ok("one")).await;
        let faults = Faults { rate: 1.0, kinds: vec![fault], seed: 1 };
        let (serving, answers) = setup.serve(ServeOptions { faults, ..ServeOptions::default() }).await;
        let mut client = serving.client().await;
        client.send(origin.fill(get("/"))).await;
        match fault {
            Fault::Status(_) => {
                assert!(client.head().await.starts_with("HTTP/1.1 503 Service Unavailable\r\n"))
            }
            Fault::Reset => expect_cut(&mut client).await,
        }
        assert_eq!((answers.counts().faults, answers.counts().unused), (1, 1));
    }
}

/// The same seed, the same requests.
#[tokio::test]
async fn a_seed_makes_the_same_requests_fail() {
    let mut runs = Vec::new();
    for seed in [7, 7, 8] {
        let (mut setup, origin) = (Setup::start().await, Origin::listen().await);
        setup.record(&origin, &get("/"), &ok("one")).await;
        let faults = Faults { rate: 0.5, seed, ..Faults::default() };
        let (serving, _) = setup.serve(ServeOptions { faults, reuse: true, ..ServeOptions::default() }).await;
        let mut run = Vec::new();
        for _ in 0..40 {
            run.push(serving.answer(&origin, &get("/")).await.starts_with("HTTP/1.1 503"));
        }
        runs.push(run);
    }
    assert!(runs[0] == runs[1] && runs[0] != runs[2]);
}
