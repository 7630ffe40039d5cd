//! The fields of a request as it goes upstream: those that may go, and the sidecar's own.

use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName,
    HeaderValue, RANGE, VIA,
};

use crate::headers::conditional::CONDITIONAL_FIELDS;
use crate::profile::Profile;
use crate::sync_token::session::SYNC_TOKEN;

/// What App Configuration's HMAC scheme signs beside the target and `Host`.
const SIGNED: [HeaderName; 2] =
    [HeaderName::from_static("x-ms-date"), HeaderName::from_static("x-ms-content-sha256")];

/// What the sidecar itself says in a request, beside what it passes on.
#[derive(Debug, Default)]
pub struct SidecarFields {
    /// Conditions made by `decide::validation`; they take the place of the caller's.
    pub conditions: Option<HeaderMap>,
    /// The one `Sync-Token` line, if there is any.
    pub sync_token: Option<HeaderValue>,
    /// Whether the caller's `Range` goes along.
    pub range: bool,
    /// Our member of `Via` (RFC 9110 §7.6.3).
    pub via: Option<HeaderValue>,
    /// Whether the caller's own `Authorization` goes along.
    pub callers_authorization: bool,
}

/// The fields to send for a caller's end-to-end `fields`.
#[must_use]
pub fn outgoing_fields(fields: HeaderMap, profile: &dyn Profile, own: SidecarFields) -> HeaderMap {
    let mut outgoing = fields;
    // Most pass: to take the others out costs less than a second map.
    let kept_here: Vec<HeaderName> =
        outgoing.keys().filter(|name| !passes(name, profile, &own)).cloned().collect();
    for name in &kept_here {
        outgoing.remove(name);
    }
    if let Some(accept) = profile.accept().filter(|_| own.conditions.is_some()) {
        outgoing.insert(ACCEPT, accept);
    }
    if let Some(conditions) = own.conditions {
        for (name, value) in &conditions {
            outgoing.append(name.clone(), value.clone());
        }
    }
    if let Some(value) = own.sync_token {
        outgoing.insert(SYNC_TOKEN, value);
    }
    if let Some(encoding) = profile.accept_encoding() {
        outgoing.insert(ACCEPT_ENCODING, encoding);
    }
    if let Some(value) = own.via {
        outgoing.append(VIA, value);
    }
    outgoing
}

fn passes(name: &HeaderName, profile: &dyn Profile, own: &SidecarFields) -> bool {
    // Framing, Connection and Host are the client's business; a caller's token does not go upstream as it is: a local caller could
    // poison the state of all others. The aggregate of all answers takes its place.
    if name == HOST || name == CONNECTION || name == CONTENT_LENGTH || name == SYNC_TOKEN {
        return false;
    }
    if name == AUTHORIZATION {
        return own.callers_authorization;
    }
    // Members of others, under every profile: without them no sidecar of a loop but the last would know that it is in one.
    if name == VIA {
        return true;
    }
    // Parts of a caller's own signature: without it they mean nothing, and the sidecar's credential makes its own.
    if SIGNED.contains(name) && !own.callers_authorization {
        return false;
    }
    if CONDITIONAL_FIELDS.contains(name) {
        return own.conditions.is_none();
    }
    if name == RANGE {
        return own.range && profile.forwards(name);
    }
    profile.forwards(name)
}

#[cfg(test)]
mod tests {
    use http::Uri;

    use super::*;
    use crate::config::caching::Sharing;
    use crate::profile::app_configuration::AppConfiguration;
    use crate::profile::generic::Generic;
    use crate::profile::keyed_fields::FieldRules;

    #[test]
    fn via_keeps_the_members_of_others_under_every_profile() {
        let fields = HeaderMap::from_iter([(VIA, HeaderValue::from_static("1.1 first"))]);
        let generic =
            Generic::new(&Uri::from_static("http://o.test"), Sharing::Guarded, FieldRules::default());
        let profiles: [&dyn Profile; 2] = [&generic, &AppConfiguration::new(Vec::new())];
        for profile in profiles {
            let own = SidecarFields {
                via: Some(HeaderValue::from_static("1.1 second")),
                ..SidecarFields::default()
            };
            let outgoing = outgoing_fields(fields.clone(), profile, own);
            let members: Vec<_> = outgoing.get_all(VIA).iter().collect();
            assert_eq!(members, ["1.1 first", "1.1 second"], "{}", profile.name());
        }
    }

    const CREDENTIALS: [&str; 3] = ["authorization", "x-ms-date", "x-ms-content-sha256"];

    /// What of a caller's credential goes upstream.
    fn credentials_sent(profile: &dyn Profile, callers_authorization: bool) -> Vec<String> {
        let fields =
            CREDENTIALS.map(|name| (HeaderName::from_static(name), HeaderValue::from_static("caller")));
        let own = SidecarFields { callers_authorization, ..SidecarFields::default() };
        let sent = outgoing_fields(fields.into_iter().collect(), profile, own);
        let mut names: Vec<_> = sent.keys().map(ToString::to_string).collect();
        names.retain(|name| CREDENTIALS.contains(&name.as_str()));
        names
    }

    #[test]
    fn a_callers_credential_goes_upstream_only_where_it_is_forwarded() {
        let generic = Generic::new(&Uri::from_static("http://o"), Sharing::Rfc9111, FieldRules::default());
        assert_eq!(credentials_sent(&generic, true), CREDENTIALS);
        assert!(credentials_sent(&generic, false).is_empty());
        let app_configuration = AppConfiguration::new(CREDENTIALS.map(HeaderName::from_static).to_vec());
        assert!(credentials_sent(&app_configuration, false).is_empty());
    }

    #[test]
    fn a_callers_token_never_goes_upstream_under_its_own_name() {
        let generic = Generic::new(&Uri::from_static("http://o"), Sharing::Rfc9111, FieldRules::default());
        let fields: HeaderMap = [(SYNC_TOKEN, HeaderValue::from_static("a=b"))].into_iter().collect();
        assert!(
            !outgoing_fields(fields.clone(), &generic, SidecarFields::default()).contains_key(SYNC_TOKEN)
        );
        let own =
            SidecarFields { sync_token: Some(HeaderValue::from_static("c=d")), ..SidecarFields::default() };
        assert_eq!(outgoing_fields(fields, &generic, own)[SYNC_TOKEN], "c=d");
    }
}
