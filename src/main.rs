//! `tagalong`: arguments → configuration → run. Only this file sets exit codes: 0 for success, 1 for a failure, 2 for a
//! command that could not run (arguments, configuration, ports, files).

mod cli;
mod demo;
mod explain;
mod mint;
mod probe;
mod signals;
mod top;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(cli::CommandFailure::Failed(message)) => {
            eprintln!("tagalong: {}", tagalong::masked(&message));
            ExitCode::from(1)
        }
        Err(cli::CommandFailure::NotTried(message)) => {
            for line in message.lines() {
                eprintln!("tagalong: {}", tagalong::masked(line));
            }
            ExitCode::from(2)
        }
    }
}
