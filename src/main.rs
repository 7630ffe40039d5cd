//! `tagalong`: arguments → configuration → run. Exit codes are decided here and nowhere else: 0 when all went well, 1 when
//! it did not, 2 when it could not be tried (arguments, configuration, ports, files).

mod cli;
mod demo;
mod mint;
mod probe;
mod signals;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(cli::Failure::Failed(message)) => {
            eprintln!("tagalong: {message}");
            ExitCode::from(1)
        }
        Err(cli::Failure::NotTried(message)) => {
            for line in message.lines() {
                eprintln!("tagalong: {line}");
            }
            ExitCode::from(2)
        }
    }
}
