//! The anchors of a collection, as the members of a fleet share them: members with the same ranges ask for the same pages, and each page is
//! asked for once for all. A member that starts loads the ranges that the others have, so that their records answer it.

use super::Mirror;
use super::collection::Collection;
use super::selector::Selector;
use crate::profile::app_configuration::key_value::KeyValueId;

/// The name of the note with the anchors of a selector.
fn note_name(selector: &Selector) -> String {
    format!("mirror anchors\0{}", selector.query)
}

impl Mirror {
    /// The anchors that other members have for a collection, in their order; none without a fleet.
    pub(super) async fn shared_anchors(&self, index: usize) -> Vec<KeyValueId> {
        let upstream = self.upstream();
        let Some((member, selector)) = upstream.fleet().zip(self.selectors.get(index)) else {
            return Vec::new();
        };
        let note = member.read_note(&note_name(selector)).await.unwrap_or_default();
        let texts: Vec<&str> = postcard::from_bytes(&note).unwrap_or_default();
        texts.into_iter().map(KeyValueId::from_text).collect()
    }

    /// Tells the others the anchors of each collection, where they know others.
    pub(super) async fn share_anchors(&self) {
        let upstream = self.upstream();
        let Some(member) = upstream.fleet() else { return };
        for (index, selector) in self.selectors.iter().enumerate() {
            let own = self.read().collections.get(index).filter(|it| it.is_loaded).map(anchors);
            let Some(own) = own else { continue };
            if own != self.shared_anchors(index).await {
                let texts: Vec<&str> = own.iter().map(KeyValueId::as_str).collect();
                if let Ok(note) = postcard::to_stdvec(&texts) {
                    member.leave_note(&note_name(selector), &note).await;
                }
            }
        }
    }
}

fn anchors(collection: &Collection) -> Vec<KeyValueId> {
    collection.ranges.iter().filter_map(|range| range.anchor.clone()).collect()
}
