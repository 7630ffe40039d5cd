# One static binary in an empty image: no shell, no package manager, no user database. It runs as a user without a name,
# needs no writable file (mount a read-only root), and has subcommands for probes.
#
#   docker build -t tagalong .
#   docker run --read-only --cap-drop ALL --network host tagalong run --upstream https://NAME.azconfig.io

FROM rust:1.95-alpine AS build
# ring compiles some C and assembly.
RUN apk add --no-cache build-base
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY config/default.toml config/default.toml
# Cargo.toml names the tests and benches. They are not built, but cargo requires the files.
COPY benches benches
COPY tests/suite/main.rs tests/suite/main.rs
RUN cargo build --release --locked --bin tagalong && strip target/release/tagalong

FROM scratch
COPY --from=build /build/target/release/tagalong /tagalong
COPY LICENSE-MIT LICENSE-APACHE /
USER 65532:65532
EXPOSE 8484 8485
HEALTHCHECK --interval=10s --timeout=2s --start-period=2s CMD ["/tagalong", "live"]
ENTRYPOINT ["/tagalong"]
CMD ["run"]
