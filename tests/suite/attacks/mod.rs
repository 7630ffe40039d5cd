//! Attacks on the cache: each test is one way in which an attacker who can send requests, or who runs an origin, would get a
//! victim an answer that is not its own, or the origin a request that nobody sent.

mod deception;
mod key_confusion;
mod messages;
mod poisoning;
mod unkeyed;

use crate::support::caller::Response;
use crate::support::scene::Scene;

/// What the origin answers the attacker with, and what nobody else may see.
const EVIL: &str = "200\nCache-Control: max-age=600\nETag: \"evil\"\n\nevil";
/// What it answers everyone else with.
const GOOD: &str = "200\nCache-Control: max-age=600\nETag: \"good\"\n\ngood";

/// Sends an attack and then a victim's request; the origin would answer the first with [`EVIL`], the next with [`GOOD`].
async fn attack(scene: &Scene, attack: &str, victim: &str) -> (Response, Response) {
    scene.origin.otherwise(EVIL);
    let attacked = scene.send(attack).await;
    scene.origin.otherwise(GOOD);
    (attacked, scene.send(victim).await)
}

/// Fails if the victim was given what the attack brought.
async fn harmless(scene: &Scene, request: &str, victim: &str) {
    let (_, answer) = attack(scene, request, victim).await;
    assert_eq!((answer.status, answer.text()), (200, "good"), "{request:?} reached {victim:?}");
}

#[tokio::test]
async fn an_attack_that_worked_would_be_seen() {
    let scene = Scene::guarded().await;
    let (_, victim) = attack(&scene, "GET /a", "GET /a").await;
    assert_eq!(victim.text(), "evil", "what was stored for a target answers for that target");
}
