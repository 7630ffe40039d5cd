//! Origins that do not keep to the contract: the mirror gives up with a named reason, and nothing wrong is answered.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use tagalong::internals::emulator::{Emulator, EmulatorSettings};
use tagalong::internals::mirror::give_up::GiveUpReason;

use super::super::scene::{Scene, Spoil, pass, straight, told, write};

const V: &str = "api-version=2026-04-01";

async fn fill(emulator: &Emulator) {
    for number in 0..25 {
        write(emulator, &format!("/kv/k{number:03}?{V}"), &format!(r#"{{"value":"{number}"}}"#)).await;
    }
}

fn settings() -> EmulatorSettings {
    EmulatorSettings { page_size: 10, ..EmulatorSettings::default() }
}

/// Changes the body of the pages of lists.
fn pages(change: impl Fn(&str, String) -> String + Send + Sync + 'static) -> Box<Spoil> {
    Box::new(move |target, answer| {
        if !target.starts_with("/kv?") || answer.status() != 200 {
            return answer;
        }
        let (mut head, body) = answer.into_parts();
        head.headers.remove("content-length");
        let text = change(target, String::from_utf8(body.to_vec()).unwrap());
        Response::from_parts(head, Bytes::from(text))
    })
}

/// Keys are answered as by the origin, and say why the mirror does not answer.
async fn gives_up(scene: &Scene, reason: GiveUpReason) {
    // Long enough for a load and a pass.
    pass(Duration::from_secs(40)).await;
    assert_eq!(scene.sidecar.mirror().gave_up(), Some(reason));
    let mut caller = scene.caller().await;
    for target in ["/kv/k007", "/kv/none"] {
        let request = format!("GET {target}?{V}");
        let answer = caller.send(&request).await;
        let expected = straight(&scene.origin.emulator, &request).await;
        assert_eq!(answer.status, expected.status().as_u16());
        assert_eq!(&answer.body[..], &expected.body()[..]);
        assert_eq!(told(&answer), (false, Some(reason.as_str().to_owned())), "{target}");
        let again = caller.send(&request).await;
        assert_eq!(told(&again), (true, None), "cached by itself: {again:?}");
    }
}

async fn ends_with(reason: GiveUpReason, spoil: Box<Spoil>) {
    let scene = Scene::spoiled(settings(), fill, &[], Some(spoil)).await;
    gives_up(&scene, reason).await;
}

#[tokio::test(start_paused = true)]
async fn pages_out_of_order_end_it() {
    ends_with(GiveUpReason::Order, pages(|_, text| text.replace("\"k003\"", "\"k999\""))).await;
}

#[tokio::test(start_paused = true)]
async fn a_repeated_page_ends_it() {
    let spoil: Box<Spoil> = Box::new(|target, answer| {
        let body = String::from_utf8(answer.body().to_vec()).unwrap();
        if !target.contains("after=") || answer.status() != 200 {
            return answer;
        }
        // The items of the first page again.
        let (mut head, _) = answer.into_parts();
        head.headers.remove("content-length");
        Response::from_parts(head, body.replace("\"k01", "\"k00").into())
    });
    ends_with(GiveUpReason::Order, spoil).await;
}

#[tokio::test(start_paused = true)]
async fn pages_that_never_end_end_it() {
    let spoil = pages(|_, text| {
        if text.contains("@nextLink") {
            text
        } else {
            text.replace("]}", "],\"@nextLink\":\"/kv?api-version=2026-04-01&after=azAwMAo\"}")
        }
    });
    ends_with(GiveUpReason::Page, spoil).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_no_page_ends_it() {
    ends_with(GiveUpReason::Page, pages(|_, _| "{}".to_owned())).await;
}

#[tokio::test(start_paused = true)]
async fn names_with_control_characters_end_it() {
    ends_with(GiveUpReason::Name, pages(|_, text| text.replace("\"k003\"", "\"k0\\n03\""))).await;
}

#[tokio::test(start_paused = true)]
async fn more_than_the_bounds_ends_it() {
    for bound in ["upstream.mirror.items_limit=20"] {
        let scene = Scene::started(settings(), fill, &[bound]).await;
        gives_up(&scene, GiveUpReason::Bound).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_ignores_conditions_ends_it() {
    let scene = Scene::started(settings(), fill, &[]).await;
    scene.origin.ignores_conditions.store(true, Ordering::Relaxed);
    gives_up(&scene, GiveUpReason::Condition).await;
}

#[tokio::test(start_paused = true)]
async fn it_loads_again_when_the_origin_keeps_to_the_contract() {
    let scene = Scene::spoiled(settings(), fill, &[], Some(pages(|_, _| "{}".to_owned()))).await;
    gives_up(&scene, GiveUpReason::Page).await;
    scene.origin.behave();
    scene.sidecar.mirror().loaded().await;
    let answer = scene.caller().await.send(&format!("GET /kv/k011?{V}")).await;
    assert_eq!(told(&answer), (true, Some("mirror".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_reason_that_a_caller_finds_ends_it_and_it_loads_again() {
    let scene = Scene::loaded(settings(), fill, &[]).await;
    scene.origin.spoil(pages(|_, text| text.replace("\"k003\"", "\"k999\"")));
    write(&scene.origin.emulator, &format!("/kv/k004?{V}"), r#"{"value":"new"}"#).await;
    let mut caller = scene.caller().await;
    caller.send(&format!("PUT /kv/k005?{V}\nContent-Type: application/json\n\n{{\"value\":\"own\"}}")).await;
    let answer = caller.send(&format!("GET /kv/k005?{V}")).await;
    assert!(String::from_utf8_lossy(&answer.body).contains("own"), "{answer:?}");
    assert_eq!(scene.sidecar.mirror().gave_up(), Some(GiveUpReason::Order));
    scene.origin.behave();
    scene.sidecar.mirror().loaded().await;
    assert_eq!(scene.sidecar.mirror().gave_up(), None);
}

#[tokio::test(start_paused = true)]
async fn a_failing_origin_is_asked_again() {
    let scene = Scene::spoiled(
        settings(),
        fill,
        &[],
        Some(Box::new(|_, _| Response::builder().status(503).body(Bytes::new()).unwrap())),
    )
    .await;
    pass(Duration::from_secs(100)).await;
    assert_eq!(scene.sidecar.mirror().gave_up(), None);
    scene.origin.behave();
    scene.sidecar.mirror().loaded().await;
}

#[tokio::test(start_paused = true)]
async fn with_other_tags_keys_are_answered_and_lists_passed_on() {
    // The tag in the head stays: it is not the one that these items make.
    let spoil = pages(|_, text| text.replace("\"etag\":\"", "\"etag\":\"x"));
    let scene = Scene::spoiled(settings(), fill, &[], Some(spoil)).await;
    scene.sidecar.mirror().loaded().await;
    let mut caller = scene.caller().await;
    let answer = caller.send(&format!("GET /kv/k011?{V}")).await;
    assert_eq!(told(&answer), (true, Some("mirror".to_owned())));
    let answer = caller.send(&format!("GET /kv?key=k011&{V}")).await;
    assert_eq!(told(&answer), (false, None), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn items_that_change_while_a_load_is_under_way_are_read_again() {
    let scene = Scene::started(settings(), fill, &[]).await;
    // Before the load has begun: its task runs when this one waits.
    write(&scene.origin.emulator, &format!("/kv/k003?{V}"), r#"{"value":"new"}"#).await;
    scene.sidecar.mirror().loaded().await;
    let mut caller = scene.caller().await;
    let mut target = format!("/kv?{V}");
    let mut shown = 0;
    loop {
        let request = format!("GET {target}");
        let answer = caller.send(&request).await;
        let expected = straight(&scene.origin.emulator, &request).await;
        assert_eq!(&answer.body[..], &expected.body()[..], "{request}");
        shown += 1;
        let Some(link) = answer.field("link") else { break };
        target = link.trim_start_matches('<').split('>').next().unwrap().to_owned();
    }
    assert_eq!(shown, 3);
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_breaks_off_is_no_success() {
    let scene = Scene::loaded(settings(), fill, &[]).await;
    scene.origin.breaks_answers_to_writes.store(true, Ordering::Relaxed);
    let put = format!("PUT /kv/k005?{V}\nContent-Type: application/json\n\n{{\"value\":\"own\"}}");
    let answer = scene.caller().await.send(&put).await;
    assert_eq!(answer.status, 502, "{answer:?}");
}
