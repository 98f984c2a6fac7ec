//! Compiles `proto/flow.proto` with protox, so that no `protoc` has to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/flow.proto");
    let files = protox::compile(["proto/flow.proto"], ["proto"])?;
    // `bytes` fields as `Bytes`: decoding a stored record then copies no body and no header.
    prost_build::Config::new().bytes(["."]).compile_fds(files)?;
    Ok(())
}
