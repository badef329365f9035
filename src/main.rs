//! The thin program: everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    journal_relay::cli::main()
}
