//! The command; everything it does is in `keys::cli`.

fn main() -> std::process::ExitCode {
    keys::cli::main().into()
}
