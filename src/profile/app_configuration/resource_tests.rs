//! The spellings of real clients give one canonical form; different meanings give different ones.

use super::*;
use proptest::prelude::*;

fn text(target: &str) -> Option<String> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    canonicalize(path, query).map(|canonical| canonical.text)
}

fn resource(target: &str) -> Resource {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    canonicalize(path, query).unwrap().resource
}

#[test]
fn the_spellings_of_the_sdks_are_one() {
    for spellings in [
        &[
            "/kv?%24select=key%2Cvalue&api-version=2026-04-01&key=app%3A%2A&label=prod%2Cdev",
            "/kv?$select=key,value&api-version=2026-04-01&key=app:*&label=prod,dev",
            "/kv?api-version=2026-04-01&key=app%3A*&label=prod%2Cdev&$Select=key,value",
            "/kv?key=app:*&label=prod,dev&api-version=2026-04-01&$Select=value,Key",
        ][..],
        &[
            "/kv/app%3Akey1?api-version=2026-04-01",
            "/kv/app:key1?api-version=2026-04-01&label=%00",
            "/kv/app%3akey1?label=&api-version=2026-04-01",
            "/kv/%61pp:key1?API-Version=2026-04-01&label",
        ],
        &["/kv/x%2Fy%20z?api-version=1.0", "/kv/x/y%20z?api-version=1.0"],
        &[
            "/kv?api-version=1.0&after=YQ",
            "/kv?After=YQ&api-version=1.0",
            "/kv?key=*&label=*&after=YQ&api-version=1.0",
            "/kv?key=&label=&after=YQ&api-version=1.0&&",
        ],
        &[
            "/kv?tags=a%3Db%20c&api-version=1.0",
            "/kv?api-version=1.0&tags=a%3Db+c",
            "/kv?api-version=1.0&tags=a=b%20c",
        ],
        &["/labels?name=*&api-version=1.0", "/labels?api-version=1.0"],
    ] {
        let first = text(spellings[0]).unwrap();
        for spelling in spellings {
            assert_eq!(text(spelling).as_deref(), Some(first.as_str()), "{spelling}");
        }
    }
}

#[test]
fn different_meanings_stay_apart() {
    let targets = [
        "/kv/a?api-version=1.0",
        "/kv/a?api-version=2023-10-01",
        "/kv/a?api-version=1.0&label=b",
        "/kv/A?api-version=1.0",
        "/kv/a%20?api-version=1.0",
        "/kv/a+?api-version=1.0",
        "/kv/a?api-version=1.0&new=1",
        "/kv?api-version=1.0",
        "/kv?api-version=1.0&label=%00",
        "/kv?api-version=1.0&label=a",
        "/kv?api-version=1.0&key=a",
        "/kv?api-version=1.0&key=a*",
        "/kv?api-version=1.0&key=a%5C*",
        "/kv?api-version=1.0&snapshot=a",
        "/kv?api-version=1.0&tags=a%3Db&tags=c%3Dd",
        "/kv?api-version=1.0&tags=c%3Dd&tags=a%3Db",
        "/kv?api-version=1.0&$select=key",
        "/kv?api-version=1.0&$select=nonsense",
        "/locks/a?api-version=1.0",
        "/snapshots/a?api-version=1.0",
        "/keys?api-version=1.0",
        "/labels?api-version=1.0",
        "/labels?api-version=1.0&name=%00",
        "/revisions?api-version=1.0",
        "/snapshots?api-version=1.0",
        "/snapshots?api-version=1.0&status=ready",
        "/kv/a%26label%3Db?api-version=1.0",
        "/kv/a%3Fapi-version=1.0",
    ];
    let texts: std::collections::HashSet<String> =
        targets.iter().map(|target| text(target).unwrap()).collect();
    assert_eq!(texts.len(), targets.len());
}

#[test]
fn what_is_uncertain_has_no_canonical_form() {
    for target in [
        "/kv/a/b%20c%d*?%c3%a9=&api-version=2026-04-01&label=L,*%5Cx",
        "/kv/a?label=%",
        "/kv/%ff",
        "/kv/a?label=x&label=y",
        "/kv?key=a&key=b",
        "/kv?key=a*b",
        "/kv?tags=nonsense",
        "/kv/",
        "/KV/a",
        "/",
        "",
        "/featureflags",
        "/kv2",
    ] {
        assert_eq!(text(target), None, "{target}");
    }
}

#[test]
fn resources_are_understood() {
    assert_eq!(
        resource("/kv/.appconfig.featureflag%2FBeta%20%C3%A9?label=%00&tags=a%3Db"),
        Resource::KeyValue {
            key: ".appconfig.featureflag/Beta é".into(),
            label: None,
            tags: vec![TagFilter { name: "a".into(), value: Some("b".into()) }]
        }
    );
    assert_eq!(resource("/locks/a/b?label=l"), Resource::Lock { key: "a/b".into(), label: Some("l".into()) });
    assert_eq!(resource("/kv?snapshot=s&key=x*"), Resource::SnapshotKeyValues { snapshot: "s".into() });
    assert_eq!(
        resource("/kv?key=a*&label=%00,b"),
        Resource::KeyValues(KeyValueFilter {
            key: TextFilter::Prefix("a".into()),
            label: TextFilter::OneOf(vec![None, Some("b".into())]),
            tags: vec![]
        })
    );
    assert_eq!(resource("/revisions"), Resource::Revisions(KeyValueFilter::default()));
    assert_eq!(resource("/snapshots/s%20t"), Resource::Snapshot { name: "s t".into() });
    assert_eq!(resource("/operations?snapshot=s"), Resource::Operations);
}

proptest! {
    #[test]
    fn no_target_panics(path in "/(kv|locks|keys|snapshots)?/?[a-c%0-9*\\\\/]{0,12}", query in "[a-z$&=%0-9*,\\\\+-]{0,40}") {
        let _canonical = canonicalize(&path, Some(&query));
    }

    #[test]
    fn a_canonical_form_is_its_own(query in "(key|label|tags|after|\\$select|x)=[a-c%3D0*,]{0,6}(&(key|label|name|api-version)=[a-c*]{0,4}){0,3}") {
        if let Some(canonical) = canonicalize("/kv", Some(&query)) {
            let query = canonical.text.split_once('?').map(|(_, query)| query.to_owned());
            prop_assert_eq!(canonicalize("/kv", query.as_deref()), Some(canonical));
        }
    }

    #[test]
    fn keys_are_never_confused(one in "\\PC{1,8}", other in "\\PC{1,8}") {
        let form = |key: &str| text(&format!("/kv/{}", utf8_percent_encode(key, NON_ALPHANUMERIC))).unwrap();
        prop_assert_eq!(form(&one) == form(&other), one == other);
    }
}
