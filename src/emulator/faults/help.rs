//! The help of `tagalong emulator --fault`: every kind of fault, with its parameters.

/// One line a kind. The brackets hold what may be left out.
pub const FAULTS_HELP: &str = "\
A fault in words, for example 'delay fixed=50ms path=/kv/* count=3'; may be repeated

The first word is the kind of fault; [brackets] hold what may be left out:
  delay fixed=50ms                         or uniform=10ms..50ms (from, to), or exponential=20ms..1s (mean, cap)
  throttle [quota=1000] [per=1h] [burst=20] [burst_per=1s] [retry_after=500ms] [policy=total-requests]
                                           429 beyond the quota; without one always. Other policies: total-bandwidth, storage
  unavailable [status=503] [retry_after=500ms]
  drop at=before-head [after_bytes=20]     cuts the connection; also at=within-head, at=within-body
  slow-body chunk_bytes=100 interval=10ms
  truncate after_bytes=20 [framing=declared]
                                           a body that is too short; with framing=consistent nothing shows it
  write answer=lost [delay=1s] [retry_after=500ms] [applied_after=2s]
                                           applied, but not answered; also answer=late (by delay), answer=unavailable
  no-link-on-304, weak-etags, no-sync-token, sync-token-lines
  malformed-sync-token value=x             answers with this Sync-Token
Any of them takes
  method=GET,HEAD path=/kv/app*            which requests; any, if not given. The path is percent-decoded
  skip=2 count=10 probability=0.5          not the first 2, at most 10, every second at random
retry_after=none leaves the field out. Faults can also be set while it runs: PUT /__emulator/faults on the admin port.";

#[cfg(test)]
mod tests {
    use super::super::document::PlanDocument;
    use super::*;

    /// What the help says of a kind, with the brackets taken off and what explains it left out.
    fn rules() -> Vec<String> {
        let kinds = FAULTS_HELP.split("left out:\n").nth(1).unwrap().split("Any of them").next().unwrap();
        let lines = kinds.lines().filter(|line| !line.starts_with("     "));
        let bare = lines.map(|line| line.trim().split("   ").next().unwrap().replace(['[', ']'], ""));
        bare.flat_map(|line| line.split(", ").map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    #[test]
    fn every_line_is_a_fault() {
        for rule in rules() {
            let rule = format!("{rule} method=GET,HEAD path=/kv/app* skip=2 count=10 probability=0.5");
            if let Err(error) = PlanDocument::from_words([&*rule]) {
                panic!("{rule}: {error}");
            }
        }
    }

    #[test]
    fn every_kind_has_a_line() {
        let refused = PlanDocument::from_words(["no-such-kind"]).unwrap_err().to_string();
        let kinds: Vec<&str> = refused.split('`').skip(3).step_by(2).collect();
        assert!(kinds.len() >= 12, "{refused}");
        for kind in kinds {
            let is_listed = rules().iter().any(|rule| rule.split(' ').next() == Some(kind));
            assert!(is_listed, "{kind} is not in the help");
        }
    }
}
