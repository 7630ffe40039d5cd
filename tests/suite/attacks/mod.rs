//! Attacks on the cache. In each test an attacker sends requests or runs an origin. A successful attack would give a
//! victim another caller's answer, or the origin a request that no caller sent.

mod deception;
mod key_confusion;
mod messages;
mod poisoning;
mod unkeyed;

use crate::support::caller::Response;
use crate::support::scene::Scene;

/// The origin's answer to the attacker. No other caller may get it.
const EVIL: &str = "200\nCache-Control: max-age=600\nETag: \"evil\"\n\nevil";
/// The origin's answer to other callers.
const GOOD: &str = "200\nCache-Control: max-age=600\nETag: \"good\"\n\ngood";

/// Sends an attack and then a victim's request. The origin answers the first request with [`EVIL`] and later ones with
/// [`GOOD`].
async fn attack(scene: &Scene, attack: &str, victim: &str) -> (Response, Response) {
    scene.origin.otherwise(EVIL);
    let attacked = scene.send(attack).await;
    scene.origin.otherwise(GOOD);
    (attacked, scene.send(victim).await)
}

/// Fails if the victim gets the answer to the attack.
async fn harmless(scene: &Scene, request: &str, victim: &str) {
    let (_, answer) = attack(scene, request, victim).await;
    assert_eq!((answer.status, answer.text()), (200, "good"), "{request:?} reached {victim:?}");
}

#[tokio::test]
async fn a_successful_attack_is_detected() {
    let scene = Scene::guarded().await;
    let (_, victim) = attack(&scene, "GET /a", "GET /a").await;
    assert_eq!(victim.text(), "evil", "the stored response answers the same target");
}
