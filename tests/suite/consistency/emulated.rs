//! The emulator of this crate in place of the simulated origin's own log and replicas; delays and faults stay the same.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use tagalong::internals::clock::Clock;
use tagalong::internals::emulator::tokens::TokenMode;
use tagalong::internals::emulator::{Emulator, EmulatorSettings};

use super::history::Value;
use super::issued_tokens::Tokens;
use super::origin_answers::put_value;

/// An emulator with three replicas. Without tokens that tell states apart it is consistent by itself.
pub(crate) fn emulator(
    tokens: Tokens,
    page_size: usize,
    settle: Duration,
    clock: Clock,
    seed: u64,
) -> Emulator {
    let token_mode = match tokens {
        Tokens::OfState => TokenMode::Shown,
        Tokens::OfFrontEnd | Tokens::Newest | Tokens::TwoIds => TokenMode::Newest,
        Tokens::Absent => TokenMode::None,
        Tokens::Constant => TokenMode::Constant,
    };
    let settle = if tokens.tell_states_apart() { settle } else { Duration::ZERO };
    let settings =
        EmulatorSettings { replicas: 3, settle, token_mode, page_size, ..EmulatorSettings::default() };
    Emulator::new(settings, clock, seed)
}

/// The newest token as clients present it.
pub(crate) fn newest_token(emulator: &Emulator) -> String {
    let token = emulator.sync_token_of(emulator.sequence_number());
    token.split(',').filter_map(|token| Some(token.rsplit_once(";sn=")?.0)).collect::<Vec<_>>().join(",")
}

/// What the answer to a write says was committed; `None` if nothing was.
pub(crate) fn committed(method: &Method, body: &[u8], answer: &Response<Bytes>) -> Option<Option<Value>> {
    if answer.status() != StatusCode::OK {
        return None;
    }
    Some((method == Method::PUT).then(|| put_value(body)))
}

/// Answers one request.
pub(crate) async fn respond(emulator: &Emulator, request: Request<Bytes>) -> Response<Bytes> {
    emulator.respond(request.map(http_body_util::Full::new)).await
}
