//! `cargo run --example export_and_import`
//!
//! Writes a flow of a store as a HAR file, reads it into another store, and shows that what comes back is the same. Any
//! other format goes the same way: `format::FORMATS` has them. It does not show bodies that are too large for the memory,
//! which are streamed, nor secrets masked (`format::redact`).

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::ops::ControlFlow;

use anyhow::Context as _;
use bytes::Bytes;
use manent::flow::{Body, Flow, Request, Response, Scheme, State, Target};
use manent::format;
use manent::format::transfer::EncodeOptions;
use manent::record::{Recorder, RecorderOptions};
use manent::store::Reader;
use manent::transfer::{ExportOptions, ImportOptions, export, import};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (from, into, file) =
        (dir.path().join("from.db"), dir.path().join("into.db"), dir.path().join("a.har"));
    let recorder = Recorder::open(&from, RecorderOptions::default()).await?;
    let mid = recorder.store(flow()).await?;
    recorder.close().await?;

    let har = format::by_extension("a.har").context("HAR is known by its ending")?;
    let mut encoder = har.encoder.context("it can be written")?(&EncodeOptions::default());
    let mut out = BufWriter::new(File::create(&file)?);
    let mut go_on = |_: manent::transfer::ExportEvent<'_>| ControlFlow::Continue(());
    let options = ExportOptions::default();
    let written = export(&Reader::open(&from)?, &[mid], options, &mut *encoder, &mut out, &mut go_on)?;
    encoder.finish(&mut out)?;
    out.flush()?;
    println!("{} flow, {} bytes of {}", written.flows, file.metadata()?.len(), har.name);

    let recorder = Recorder::open(&into, RecorderOptions::default()).await?;
    let make = har.decoder.context("it can be read")?;
    let input = Box::new(BufReader::new(File::open(&file)?));
    let done =
        import(&recorder, make, input, ImportOptions::default(), |_| ControlFlow::Continue(())).await?;
    recorder.close().await?;
    let again = Reader::open(&into)?.load(done.first.context("a mid")?, u64::MAX)?.context("a flow")?;
    let response = again.response.context("a response")?;
    println!(
        "{} {}: {:?}",
        response.status,
        String::from_utf8_lossy(&response.reason),
        response.body.as_inline()
    );
    Ok(())
}

fn flow() -> Flow {
    let request = Request {
        method: Bytes::from_static(b"GET"),
        target: Bytes::from_static(b"/hello?n=1"),
        headers: [("Host", "example.com"), ("X-Case", "kept")].into_iter().collect(),
        body: Body::inline(Bytes::new()),
        ..Request::default()
    };
    let response = Response {
        status: 200,
        reason: Bytes::from_static(b"Fine"),
        body: Body::inline(&b"\x00 and \xff stay as they are"[..]),
        ..Response::default()
    };
    Flow {
        state: State::Complete,
        target: Target { scheme: Scheme::Https, host: "example.com".into(), port: 443 },
        request: Some(request),
        response: Some(response),
        ..Flow::default()
    }
}
