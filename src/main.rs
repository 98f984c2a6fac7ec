//! The `manent` binary: everything is in the library's `cli`.

fn main() -> std::process::ExitCode {
    manent::cli::main()
}
