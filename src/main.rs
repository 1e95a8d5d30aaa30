//! The binary: runs the verb, turns an error into one line and an exit code.

use std::process::ExitCode;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match bascule::cli::main() {
        Ok(code) => code,
        Err(error) => {
            bascule::cli::say(&error);
            ExitCode::FAILURE
        }
    }
}
