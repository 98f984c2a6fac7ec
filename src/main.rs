//! The `manent` binary: everything is in the library's `cli`.

/// Flows are built on the runtime's threads and freed on the store's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    manent::cli::main()
}
