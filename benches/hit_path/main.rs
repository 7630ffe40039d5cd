//! What a hit costs over loopback, beside a bare hyper server that answers the same bytes, in the same run.
//!
//! ```text
//! cargo bench --bench hit_path                      CPU time a request
//! cargo bench --bench hit_path -- --syscalls        system calls a request (needs strace)
//! cargo bench --bench hit_path -- --instructions    user instructions a request (needs valgrind)
//! cargo bench --bench hit_path -- --passed          CPU time of requests that no cache answers, beside nginx
//! cargo bench --bench hit_path -- --passed --instructions
//! ```
//!
//! Each server is a process of its own: `bare` is hyper and nothing else, `acceptor` the same service behind this crate's accept
//! stage, `sidecar` the binary itself in front of the emulator with its drift, asked as the Python SDK asks: every request has its
//! own id and signature and returns the sync tokens that its caller was given last. `repeated` is the same with heads that are all
//! alike, `unsigned` with requests that no caller signed (compared with `bare-unsigned`, given the same), `generic` with the generic profile. nginx and haproxy, where they are installed, answer the same from their caches.
//!
//! All are given the same requests and send the same answers. In each round the origin is asked once, so that its tokens move. CPU time
//! is measured on one processor, which caller, server and origin share. On several, each wake-up of another processor is charged to
//! whoever causes it, and where the scheduler places the three decides: one load gave 1.3 and 1.9 times nginx's time within minutes.
//! `--passed` asks over one connection for what is passed on: a write, an answer that may not be stored, one that is stored. Beside
//! them stands `bare-passer`, hyper's server before hyper-util's client: what a proxy built on these two costs at least.
//! `CALLGRIND_OUT_FILE=/tmp/out.%p` keeps the profiles of `--instructions`.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench prints, and stops at the first surprise"
)]

mod caller;
mod others;
mod passing;
mod server;

use std::process::{Command, ExitCode, Stdio};

use passing::Load;
use server::{Kind, Server, Wrapper};

/// Requests a round. Servers are compared round by round, a moment apart: a disturbance affects both. The
/// median of many such ratios is more exact than a ratio of two totals.
const REQUESTS: usize = 2_000;
const ROUNDS: usize = 151;
const CONNECTIONS: usize = 8;
const PASSED_REQUESTS: usize = 500;
const PASSED_ROUNDS: usize = 41;

/// The CPU time that a hit may cost beside another server.
const TARGETS: [(Kind, Kind, f64); 5] = [
    (Kind::Sidecar, Kind::Bare, 1.15),
    (Kind::Unsigned, Kind::BareUnsigned, 1.15),
    (Kind::Repeated, Kind::Bare, 1.15),
    (Kind::Sidecar, Kind::Nginx, 0.90),
    (Kind::Sidecar, Kind::Haproxy, 1.0),
];
/// User instructions that a hit may cost beyond what the bare server costs for the same bytes.
const TARGET_INSTRUCTIONS_BEYOND_BARE: f64 = 5_500.0;
/// User instructions that a hit may cost whose request is not signed.
const TARGET_INSTRUCTIONS_UNSIGNED: f64 = 18_500.0;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(serving) = server::serve_if_asked(&arguments) {
        return serving;
    }
    let asked = |name: &str| arguments.iter().any(|argument| argument == name);
    if asked("--passed") {
        if asked("--instructions") { count_passed_instructions() } else { measure_passed() }
    } else if asked("--syscalls") {
        count_system_calls()
    } else if asked("--instructions") {
        count_instructions()
    } else {
        measure_cpu_time()
    }
}

/// Moves this process, and with it all that it starts, to one processor.
fn stay_on_one_processor() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
    let first: String = allowed.trim().chars().take_while(char::is_ascii_digit).collect();
    let this = std::process::id().to_string();
    let moved = Command::new("taskset").args(["-apc", &first, &this]).stdout(Stdio::null()).status();
    if !moved.is_ok_and(|status| status.success()) {
        println!(
            "taskset (util-linux) did not work: the scheduler places the processes, and the figures vary"
        );
    }
}

fn measure_cpu_time() -> ExitCode {
    stay_on_one_processor();
    let origin = server::Origin::start();
    let servers: Vec<Server> =
        Kind::ALL.into_iter().filter_map(|kind| Server::start(kind, &origin, Wrapper::None)).collect();
    let mut micros = vec![Vec::new(); servers.len()];
    for _ in 0..ROUNDS {
        for (server, micros) in servers.iter().zip(&mut micros) {
            let before = server.cpu_nanos();
            caller::load(server.port(), server.kind(), CONNECTIONS, REQUESTS);
            let nanos = server.cpu_nanos() - before;
            micros.push(nanos as f64 / REQUESTS as f64 / 1_000.0);
        }
    }
    println!("CPU time a request, median of {ROUNDS} rounds of {REQUESTS} over {CONNECTIONS} connections:");
    let of = |kind| servers.iter().zip(&micros).find(|(server, _)| server.kind() == kind);
    let ratio = |kind, to| -> Option<f64> {
        let ((_, these), (_, those)) = (of(kind)?, of(to)?);
        Some(quartiles(these.iter().zip(those).map(|(this, that)| this / that).collect())[1])
    };
    for (server, micros) in servers.iter().zip(&micros) {
        let [lower, median, upper] = quartiles(micros.clone());
        let (name, beside) =
            (server.kind().name(), ratio(server.kind(), server.kind().bare()).unwrap_or(f64::NAN));
        println!("  {name:13} {median:6.2} µs (half between {lower:.2} and {upper:.2}), {beside:.3} × bare");
    }
    let mut within_targets = true;
    for (kind, to, target) in TARGETS {
        let Some(found) = ratio(kind, to) else { continue };
        within_targets &= found <= target;
        println!("target: {} at most {target} × {}, found {found:.3}", kind.name(), to.name());
    }
    verdict(within_targets)
}

/// What is passed on, at one connection.
fn measure_passed() -> ExitCode {
    stay_on_one_processor();
    let origin = server::Origin::start();
    let servers: Vec<Server> =
        Kind::PASSING.into_iter().filter_map(|kind| Server::start(kind, &origin, Wrapper::None)).collect();
    println!(
        "CPU time a request over one connection, median of {PASSED_ROUNDS} rounds of {PASSED_REQUESTS}:"
    );
    let mut within_targets = true;
    for load in Load::ALL {
        let mut micros = vec![Vec::new(); servers.len()];
        for _ in 0..PASSED_ROUNDS {
            for (server, micros) in servers.iter().zip(&mut micros) {
                let before = server.cpu_nanos();
                load.send(server.port(), PASSED_REQUESTS);
                let nanos = server.cpu_nanos() - before;
                micros.push(nanos as f64 / PASSED_REQUESTS as f64 / 1_000.0);
            }
        }
        let of = |kind| servers.iter().zip(&micros).find(|(server, _)| server.kind() == kind);
        let beside_nginx = |kind| -> Option<f64> {
            let ((_, these), (_, those)) = (of(kind)?, of(Kind::NginxPasser)?);
            Some(quartiles(these.iter().zip(those).map(|(this, that)| this / that).collect())[1])
        };
        for (server, micros) in servers.iter().zip(&micros) {
            let [lower, median, upper] = quartiles(micros.clone());
            let (what, name) = (load.name(), server.kind().name());
            let beside = beside_nginx(server.kind()).unwrap_or(f64::NAN);
            println!(
                "  {what:13} {name:11} {median:6.2} µs (half between {lower:.2} and {upper:.2}), {beside:.3} × nginx"
            );
        }
        let Some(found) = beside_nginx(Kind::Passer) else { continue };
        within_targets &= found <= load.target();
        println!("target: {} at most {} × nginx, found {found:.3}", load.name(), load.target());
    }
    verdict(within_targets)
}

fn count_passed_instructions() -> ExitCode {
    let origin = server::Origin::start();
    println!("user instructions a request over one connection, under callgrind:");
    for load in Load::ALL {
        for kind in Kind::PASSING {
            let each = count_each(kind, &origin, Wrapper::Callgrind, |port, count| load.send(port, count));
            if let Some([(_, each)]) = each.as_deref() {
                println!("  {:13} {:11} {each:8.0}", load.name(), kind.name());
            }
        }
    }
    ExitCode::SUCCESS
}

/// The three quartiles.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}

fn count_instructions() -> ExitCode {
    let origin = server::Origin::start();
    println!("user instructions a request over {CONNECTIONS} connections, under callgrind:");
    let mut counts = Vec::new();
    for kind in Kind::ALL {
        let Some(instructions) = per_request(kind, &origin, Wrapper::Callgrind) else { continue };
        let [("instructions", each)] = instructions[..] else { continue };
        println!("  {:13} {each:8.0}", kind.name());
        counts.push((kind, each));
    }
    let of = |kind| counts.iter().find(|(counted, _)| *counted == kind).map_or(f64::NAN, |(_, each)| *each);
    let (beyond, unsigned) = (of(Kind::Sidecar) - of(Kind::Bare), of(Kind::Unsigned));
    println!("target: sidecar at most {TARGET_INSTRUCTIONS_BEYOND_BARE} more than bare, found {beyond:.0}");
    println!("target: unsigned at most {TARGET_INSTRUCTIONS_UNSIGNED}, found {unsigned:.0}");
    verdict(beyond <= TARGET_INSTRUCTIONS_BEYOND_BARE && unsigned <= TARGET_INSTRUCTIONS_UNSIGNED)
}

fn count_system_calls() -> ExitCode {
    let origin = server::Origin::start();
    println!("system calls a request over {CONNECTIONS} kept-alive connections, under strace:");
    let mut within_target = true;
    for kind in Kind::ALL {
        let Some(calls) = per_request(kind, &origin, Wrapper::Strace) else { continue };
        let listed: Vec<_> = calls.iter().map(|(name, each)| format!("{name} {each:.3}")).collect();
        println!("  {:10} {}", kind.name(), listed.join(", "));
        let each = |names: [&str; 4]| -> f64 {
            calls.iter().filter(|(name, _)| names.contains(name)).map(|(_, each)| each).sum()
        };
        let reads = each(["read", "readv", "recvfrom", "recvmsg"]);
        let writes = each(["write", "writev", "sendto", "sendmsg"]);
        within_target &= !kind.is_sidecar() || ((reads - 1.0).abs() < 0.01 && (writes - 1.0).abs() < 0.01);
    }
    println!("target: one read and one write");
    verdict(within_target)
}

fn per_request(kind: Kind, origin: &server::Origin, wrapper: Wrapper) -> Option<Vec<(&'static str, f64)>> {
    count_each(kind, origin, wrapper, |port, requests| {
        caller::load_in_step(port, kind, CONNECTIONS, requests)
    })
}

/// What one request more costs: the difference between a long and a short run, so that starting and stopping do not count.
fn count_each(
    kind: Kind,
    origin: &server::Origin,
    wrapper: Wrapper,
    load: impl Fn(u16, usize),
) -> Option<Vec<(&'static str, f64)>> {
    const SHORT: usize = 200;
    const LONG: usize = 2_200;
    let mut counts = Vec::new();
    for requests in [SHORT, LONG] {
        let server = Server::start(kind, origin, wrapper)?;
        load(server.port(), requests);
        counts.push(server.stop_and_count());
    }
    let (long, short) = (counts.pop()?, counts.pop()?);
    let of = |counts: &[(String, u64)], name: &str| {
        counts.iter().find(|(each, _)| each == name).map_or(0, |(_, count)| *count)
    };
    let each = long.iter().map(|(name, count)| {
        let more = count.saturating_sub(of(&short, name));
        (name.clone().leak() as &'static str, more as f64 / (LONG - SHORT) as f64)
    });
    Some(each.filter(|(_, each)| *each > 0.001).collect())
}

fn verdict(within_target: bool) -> ExitCode {
    if within_target { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
