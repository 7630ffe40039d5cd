//! nginx and haproxy as caches before the same answer, each with one thread. One that is not installed is reported and left out.

use std::path::{Path, PathBuf};

use crate::server::Kind;

/// The program and its arguments; `None` if it is not installed.
pub(crate) fn command(
    kind: Kind,
    port: u16,
    origin_port: u16,
    directory: &Path,
) -> Option<(PathBuf, Vec<String>)> {
    let name = kind.name();
    let installed = ["/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/usr/bin"];
    let Some(program) = installed.map(|at| Path::new(at).join(name)).into_iter().find(|path| path.exists())
    else {
        println!(
            "  SKIPPED: {name} is not installed (Debian: apt-get install nginx-light haproxy); nothing is compared with it"
        );
        return None;
    };
    let at = directory.to_str().expect("text");
    let (text, before) = match kind {
        Kind::Nginx | Kind::NginxPasser => {
            // Of what it passes on the origin says whether it may be stored.
            let rules = if kind == Kind::Nginx {
                "proxy_cache_valid 200 1h; proxy_ignore_headers Cache-Control Expires Vary;"
            } else {
                ""
            };
            (nginx(port, origin_port, at, rules), vec!["-p", at, "-e", "stderr", "-c"])
        }
        _ => (haproxy(port, origin_port), vec!["-db", "-f"]),
    };
    let file = directory.join("configuration");
    std::fs::write(&file, text).expect("writable");
    let mut arguments: Vec<String> = before.into_iter().map(str::to_owned).collect();
    arguments.push(file.to_str().expect("text").to_owned());
    Some((program, arguments))
}

/// One process, no log, cached files held open and read.
fn nginx(port: u16, origin_port: u16, at: &str, rules: &str) -> String {
    format!(
        "daemon off; master_process off; worker_processes 1; pid {at}/pid; error_log stderr crit;
         events {{ worker_connections 256; }}
         http {{
             access_log off; sendfile off; tcp_nodelay on; keepalive_requests 1000000000;
             client_body_temp_path {at}/body; proxy_temp_path {at}/temporary; fastcgi_temp_path {at}/fastcgi;
             uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
             open_file_cache max=1000 inactive=1h;
             proxy_cache_path {at}/cache levels=1:2 keys_zone=one:10m inactive=1h;
             upstream origin {{ server 127.0.0.1:{origin_port}; keepalive 16; }}
             server {{
                 listen 127.0.0.1:{port};
                 location / {{
                     proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection \"\";
                     proxy_cache one; proxy_cache_key $request_uri; {rules}
                 }}
             }}
         }}
"
    )
}

/// Requests are made such that haproxy may answer them from its cache: it never does with `Authorization`.
fn haproxy(port: u16, origin_port: u16) -> String {
    format!(
        "global
    nbthread 1
    maxconn 256
cache one
    total-max-size 16
    max-age 3600
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
frontend callers
    bind 127.0.0.1:{port}
    http-request del-header authorization
    http-request del-header cache-control
    http-request cache-use one
    http-response set-header cache-control max-age=3600
    http-response cache-store one
    default_backend origin
backend origin
    server origin 127.0.0.1:{origin_port}
"
    )
}
