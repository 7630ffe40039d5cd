//! One mirrored collection: its items in the order of the service, cut into ranges that are validated one by one.
//!
//! ```text
//! anchors     none            80th            160th
//!               │  own items   │  own items    │  own items
//!             ──┴──────────────┴───────────────┴──────────────▶ order of keys and labels
//! page of 1   ─────────────────────┤ 100 items, so it overlaps the items of the next range
//! page of 2                   ─────────────────────┤
//! ```
//!
//! A range begins after its anchor and owns the items up to the next anchor. Validated is its page: the items after the anchor, as
//! many as the origin puts on a page (100), with the entity tag that they make. The overlap leaves room: one inserted item changes
//! one range, not the boundaries of all that follow.
//!
//! # Invariants
//!
//! - Each item belongs to one range. A page that was asked for earlier than the owner of an item was last validated never
//!   replaces that item.
//! - The coverage of a range holds for each item that it owns: where items of two answers are mixed, it is the lesser.
//! - What a range shows may be a mix of states; [`Content`] says since when it is one state.

use std::ops::Range as Span;
use std::sync::Arc;

use super::give_up::GiveUpReason;
use super::item::{Item, ItemPage};
use super::selector::Selector;
use crate::clock::Timestamp;
use crate::decide::newer::replaces;
use crate::profile::app_configuration::key_value::KeyValueId;
use crate::profile::app_configuration::page::{ContinuationForms, PAGE_SIZE, after_key_value, page_etag};
use crate::stored_response::StoredResponse;
use crate::sync_token::clauses::Clauses;
use crate::sync_token::coverage::Coverage;

/// The bounds of all collections of a mirror together.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Items.
    pub items: usize,
    /// Bytes of their JSON and of what it takes to find them.
    pub bytes: usize,
}

/// When the items of a range became what they are, in the order of sending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// The request whose answer showed them all; 0 if they come from several answers.
    pub sent: u64,
    /// How many requests had been sent when the last of them arrived.
    pub arrived: u64,
}

/// The answer to a request for the page of a range.
#[derive(Clone, Debug)]
pub struct RangeAnswer {
    /// The response with its page.
    pub response: Arc<StoredResponse>,
    /// The number of requests that had been sent when it was taken in.
    pub arrived: u64,
}

/// One range.
#[derive(Clone, Debug)]
pub struct Range {
    /// After which key-value it begins; `None` is the beginning.
    pub anchor: Option<KeyValueId>,
    /// The items that it owns.
    pub items: Vec<Item>,
    /// What they are known to include.
    pub covers: Coverage,
    /// Since when they are what they are.
    pub content: Content,
    /// The last answer about it: its fields and times count, its body is not kept.
    pub answer: Arc<StoredResponse>,
    /// When its turn came last, whatever became of it.
    pub polled_at: Timestamp,
    /// The entity tag that came with the page, where it is not the one that the items make.
    pub received_tag: Option<Box<str>>,
}

/// What is known of the pages of a collection's origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollectionShape {
    /// How many items a page has, once one continued.
    pub page_size_seen: Option<usize>,
    /// Whether page tags are those that items make.
    pub computes_tags: bool,
    /// In which forms continuations are written.
    pub forms: ContinuationForms,
}

/// The page of a range as it is validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangePage<'a> {
    /// Its items.
    pub items: Vec<&'a Item>,
    /// The plain position of the next page.
    pub next: Option<String>,
    /// Its entity tag, without quotes; `None` where it is not known.
    pub entity_tag: Option<String>,
}

/// One collection.
#[derive(Clone, Debug)]
pub struct Collection {
    /// What it holds.
    pub selector: Selector,
    /// Its ranges in order. Empty until the first page has arrived.
    pub ranges: Vec<Range>,
    /// Every range has been read.
    pub is_loaded: bool,
    /// After which key-value the next page of a load begins.
    load_after: Option<KeyValueId>,
    /// How many items the origin puts on a page, once a page continued.
    page_size_seen: Option<usize>,
    /// Whether the origin's page tags are those that items make, as far as was seen.
    pub computes_tags: bool,
    /// In which forms the origin writes continuations.
    pub forms: ContinuationForms,
    bytes: usize,
    clauses: Clauses,
}

impl Collection {
    /// A collection that holds nothing yet.
    #[must_use]
    pub const fn new(selector: Selector, clauses: Clauses) -> Self {
        Self {
            selector,
            ranges: Vec::new(),
            is_loaded: false,
            load_after: None,
            page_size_seen: None,
            computes_tags: true,
            forms: ContinuationForms::all(),
            bytes: 0,
            clauses,
        }
    }

    /// A loaded collection from a snapshot, whose ranges cover nothing.
    #[must_use]
    pub fn restored(
        selector: Selector,
        clauses: Clauses,
        shape: CollectionShape,
        mut ranges: Vec<Range>,
        is_one_state: bool,
    ) -> Self {
        let content = if is_one_state { Content::RESTORED } else { Content::default() };
        ranges.iter_mut().for_each(|range| range.content = content);
        let CollectionShape { page_size_seen, computes_tags, forms } = shape;
        let mut restored = Self {
            ranges,
            is_loaded: true,
            page_size_seen,
            computes_tags,
            forms,
            ..Self::new(selector, clauses)
        };
        restored.weigh();
        restored
    }

    /// What is known of the origin's pages.
    #[must_use]
    pub const fn shape(&self) -> CollectionShape {
        let Self { page_size_seen, computes_tags, forms, .. } = *self;
        CollectionShape { page_size_seen, computes_tags, forms }
    }

    /// Number of items.
    #[must_use]
    pub fn items(&self) -> usize {
        self.ranges.iter().map(|range| range.items.len()).sum()
    }

    /// About what the items occupy.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// After which key-value the next page of a load begins; `None` when every page was read.
    #[must_use]
    pub fn load_position(&self) -> Option<Option<KeyValueId>> {
        if self.is_loaded {
            return None;
        }
        Some(self.load_after.clone())
    }

    /// Takes in the next page of a load. `anchors` are those of the members of a fleet, in their order: a page ends where one of their
    /// ranges ends.
    ///
    /// # Errors
    /// [`GiveUpReason`]
    pub fn load(&mut self, answer: &RangeAnswer, anchors: &[KeyValueId]) -> Result<(), GiveUpReason> {
        let anchor = self.load_position().flatten();
        let mut page = self.read(answer, anchor.as_ref())?;
        // Of the whole page, before it is cut.
        let received_tag = self.differing_tag(answer, &page);
        let last = page.items.last().map(|item| item.id.clone());
        let within = |it: &KeyValueId| {
            Some(it) < last.as_ref() && page.items.first().is_some_and(|first| first.id <= *it)
        };
        let cut = anchors.iter().find(|it| Some(*it) > anchor.as_ref() && within(it)).cloned();
        if let Some(cut) = &cut {
            page.items.retain(|item| item.id <= *cut);
        }
        self.is_loaded = !page.continues && cut.is_none();
        self.load_after = cut.or(last);
        self.bytes += page.items.iter().map(Item::bytes).sum::<usize>();
        self.ranges.push(Range {
            anchor,
            items: page.items,
            covers: answer.response.covers,
            content: Content { sent: answer.response.covers.sent_order, arrived: answer.arrived },
            answer: without_body(&answer.response),
            polled_at: Timestamp::default(),
            received_tag,
        });
        if self.is_loaded && self.computes_tags && anchors.is_empty() {
            self.set_anchors();
        }
        Ok(())
    }

    /// How many items the origin puts on a page.
    #[must_use]
    pub const fn page_size(&self) -> usize {
        match self.page_size_seen {
            Some(page_size) => page_size,
            None => PAGE_SIZE,
        }
    }

    /// How many items a range owns when anchors are set anew.
    const fn own_items(&self) -> usize {
        let own = self.page_size() * 4 / 5;
        if own == 0 { 1 } else { own }
    }

    /// Sets anchors anew, four fifths of a page apart.
    fn set_anchors(&mut self) {
        let own_items = self.own_items();
        let loaded = std::mem::take(&mut self.ranges);
        for range in loaded {
            let Range { covers, content, answer, .. } = range;
            for item in range.items {
                match self.ranges.last_mut() {
                    Some(last) if last.items.len() < own_items => {
                        last.covers = last.covers.intersection(covers);
                        last.content = last.content.with(content);
                        last.answer = older(&last.answer, &answer);
                        last.items.push(item);
                    }
                    last => {
                        let anchor = last.and_then(|last| last.items.last()).map(|item| item.id.clone());
                        self.ranges.push(Range {
                            anchor,
                            items: vec![item],
                            covers,
                            content,
                            answer: Arc::clone(&answer),
                            polled_at: Timestamp::default(),
                            received_tag: None,
                        });
                    }
                }
            }
            if self.ranges.is_empty() {
                // A collection without items is one range that shows that there are none.
                self.ranges.push(Range {
                    anchor: None,
                    items: Vec::new(),
                    covers,
                    content,
                    answer,
                    polled_at: Timestamp::default(),
                    received_tag: None,
                });
            }
        }
    }

    /// The page of a range.
    #[must_use]
    pub fn page(&self, index: usize) -> RangePage<'_> {
        let following = self.ranges.get(index..).unwrap_or_default();
        let mut rest = following.iter().flat_map(|range| &range.items);
        let items: Vec<&Item> = rest.by_ref().take(self.page_size()).collect();
        let next = rest.next().and_then(|_| items.last()).map(|last| after_key_value(&last.id));
        let computed = || page_etag(items.iter().map(|item| &*item.entity_tag), next.as_deref());
        let entity_tag = if self.computes_tags {
            Some(computed())
        } else {
            following.first().and_then(|range| range.received_tag.as_deref()).map(str::to_owned)
        };
        RangePage { entity_tag, next, items }
    }

    /// Takes in an answer about the page of the range with this anchor. Returns whether it showed other items than were held;
    /// `None` if no range has that anchor any more, or what is held is newer.
    ///
    /// # Errors
    /// [`GiveUpReason`]
    pub fn validate(
        &mut self,
        anchor: Option<&KeyValueId>,
        answer: &RangeAnswer,
    ) -> Result<Option<bool>, GiveUpReason> {
        let Some(index) = self.ranges.iter().position(|range| range.anchor.as_ref() == anchor) else {
            return Ok(None);
        };
        let covers = answer.response.covers;
        if !self.ranges.get(index).is_some_and(|range| replaces(range.covers, covers)) {
            return Ok(None);
        }
        let page = self.read(answer, anchor)?;
        let received_tag = self.differing_tag(answer, &page);
        let end = page.items.last().filter(|_| page.continues).map(|last| last.id.clone());
        let mut changed = self.own(index, &page, end.as_ref(), answer);
        if let Some(range) = self.ranges.get_mut(index) {
            range.received_tag = received_tag;
        }
        // Items of later ranges that the page shows too, where those ranges were validated earlier.
        let mut later = index + 1;
        while let Some(range) = self.ranges.get(later) {
            let starts_within = end.as_ref().is_none_or(|end| range.anchor.as_ref() < Some(end));
            if !starts_within {
                break;
            }
            changed |= self.overlap(later, &page, end.as_ref(), answer);
            later += 1;
        }
        self.balance(index);
        if changed {
            self.weigh();
        }
        Ok(Some(changed))
    }

    /// Gives a range the items of its own page.
    fn own(&mut self, index: usize, page: &ItemPage, end: Option<&KeyValueId>, answer: &RangeAnswer) -> bool {
        let next_anchor = self.ranges.get(index + 1).and_then(|next| next.anchor.clone());
        let Some(range) = self.ranges.get_mut(index) else { return false };
        let is_own = |id: &KeyValueId| next_anchor.as_ref().is_none_or(|next| id <= next);
        let items: Vec<Item> = page.items.iter().filter(|item| is_own(&item.id)).cloned().collect();
        // Where the page ends before the range does, what follows becomes a range of its own, which knows what it knew before: it
        // may have no items, and new ones may be there.
        let rest = end.filter(|end| next_anchor.as_ref().is_none_or(|next| *end < next)).map(|end| Range {
            anchor: Some(end.clone()),
            items: range.items.iter().filter(|item| item.id > *end).cloned().collect(),
            content: range.content.with(Content { sent: 0, arrived: answer.arrived }),
            received_tag: None,
            ..range.clone()
        });
        range.answer = without_body(&answer.response);
        range.covers = answer.response.covers;
        let changed = rest.is_some() || range.items != items;
        if changed {
            range.items = items;
            range.content = Content { sent: range.covers.sent_order, arrived: answer.arrived };
        }
        if let Some(rest) = rest {
            self.ranges.insert(index + 1, rest);
        }
        changed
    }

    /// Gives a later range what an earlier page shows of it, if that was asked for later than the range was validated. A range that
    /// is shown whole is as good as validated.
    fn overlap(
        &mut self,
        index: usize,
        page: &ItemPage,
        end: Option<&KeyValueId>,
        answer: &RangeAnswer,
    ) -> bool {
        let next_anchor = self.ranges.get(index + 1).and_then(|next| next.anchor.clone());
        let Some(range) = self.ranges.get_mut(index) else { return false };
        if !replaces(range.covers, answer.response.covers) {
            return false;
        }
        let begins = range.anchor.clone();
        let is_own = |id: &KeyValueId| {
            begins.as_ref().is_none_or(|begins| id > begins)
                && next_anchor.as_ref().is_none_or(|next| id <= next)
        };
        let shown = page.items.iter().filter(|item| is_own(&item.id)).cloned();
        let beyond = range.items.iter().filter(|item| end.is_some_and(|end| item.id > *end)).cloned();
        let items: Vec<Item> = shown.chain(beyond).collect();
        let is_whole = end.is_none_or(|end| next_anchor.as_ref().is_some_and(|next| next <= end));
        if is_whole {
            range.covers = answer.response.covers;
            range.answer = without_body(&answer.response);
        }
        if range.items == items {
            return false;
        }
        range.items = items;
        range.received_tag = None;
        range.content =
            Content { sent: if is_whole { range.covers.sent_order } else { 0 }, arrived: answer.arrived };
        true
    }

    /// Splits a range that owns nearly as many items as a page can show, and merges it with the next where one page shows both.
    fn balance(&mut self, index: usize) {
        if !self.computes_tags {
            return;
        }
        let own_items = self.own_items();
        // The page of a range must reach the next anchor, whatever is inserted meanwhile.
        let most_items = own_items.midpoint(self.page_size());
        let Some(range) = self.ranges.get_mut(index) else { return };
        if range.items.len() > most_items {
            let rest = range.items.split_off(range.items.len() / 2);
            let anchor = range.items.last().map(|item| item.id.clone());
            let split = Range { anchor, items: rest, received_tag: None, ..range.clone() };
            self.ranges.insert(index + 1, split);
        }
        while let Some([range, next]) = self.ranges.get(index..).and_then(<[Range]>::first_chunk)
            && range.covers == next.covers
            && range.items.len() + next.items.len() <= own_items
        {
            let next = self.ranges.remove(index + 1);
            if let Some(range) = self.ranges.get_mut(index) {
                range.content = range.content.with(next.content);
                range.items.extend(next.items);
            }
        }
    }

    /// Compares a page that was asked for without a condition with what is held, and takes it in. Returns whether it showed another
    /// value under the same entity tag.
    ///
    /// # Errors
    /// [`GiveUpReason`]
    pub fn audit(&mut self, anchor: Option<&KeyValueId>, answer: &RangeAnswer) -> Result<bool, GiveUpReason> {
        let Some(index) = self.ranges.iter().position(|range| range.anchor.as_ref() == anchor) else {
            return Ok(false);
        };
        let page = self.read(answer, anchor)?;
        let held = self.page(index).items;
        let has_other_value = |item: &Item| {
            let held = held.binary_search_by(|held| held.id.cmp(&item.id)).ok().and_then(|at| held.get(at));
            held.is_some_and(|held| held.entity_tag == item.entity_tag && held.json != item.json)
        };
        let differs = page.items.iter().any(has_other_value);
        self.validate(anchor, answer)?;
        Ok(differs)
    }

    /// The answer to our own write told of a new state of one key-value, or of its deletion: the next validation sends the tag that
    /// this makes, so that a 304 proves that nothing else has changed. The coverage stays: until then the write outdates the range.
    pub fn predict(&mut self, id: &KeyValueId, state: Option<Item>, now: &Coverage) {
        if !self.computes_tags || !self.is_loaded {
            return;
        }
        let index = self.range_of(id);
        let Some(range) = self.ranges.get_mut(index) else { return };
        match (range.items.binary_search_by(|item| item.id.cmp(id)), state) {
            (Ok(at), Some(item)) => range.items[at] = item,
            (Ok(at), None) => {
                range.items.remove(at);
            }
            (Err(at), Some(item)) => range.items.insert(at, item),
            (Err(_), None) => return,
        }
        range.content = Content { sent: 0, arrived: now.sent_order };
        if !self.clauses.prediction_keeps_coverage() {
            range.covers = *now;
        }
        self.weigh();
    }

    fn weigh(&mut self) {
        self.bytes = self.ranges.iter().flat_map(|range| &range.items).map(Item::bytes).sum();
    }

    /// The range that a key-value belongs to.
    #[must_use]
    pub fn range_of(&self, id: &KeyValueId) -> usize {
        self.ranges
            .partition_point(|range| range.anchor.as_ref().is_none_or(|anchor| anchor < id))
            .saturating_sub(1)
    }

    /// The ranges that can hold items after `from` whose keys begin with `prefix`.
    #[must_use]
    pub fn ranges_of(&self, prefix: &str, from: Option<&KeyValueId>) -> Span<usize> {
        let prefix_begins = KeyValueId::before_keys_with(prefix);
        let from = from.filter(|from| **from > prefix_begins).unwrap_or(&prefix_begins);
        let first = self.range_of(from);
        let end = self.ranges.partition_point(|range| {
            range
                .anchor
                .as_ref()
                .is_none_or(|anchor| *anchor <= prefix_begins || anchor.key().starts_with(prefix))
        });
        first..end.max(first + 1).min(self.ranges.len())
    }

    /// Whether these ranges together show one state. A range shows from its content's request on what it shows still at its last
    /// validation. So they show one state if each was validated after all of them had become what they are, or if the one that
    /// changed last was asked for after the others had. While the origin answers, the least coverage of several ranges already sees to
    /// that, since each change raises what is required; this holds when it does not answer, too.
    #[must_use]
    pub fn is_one_state(&self, ranges: Span<usize>) -> bool {
        let ranges = self.ranges.get(ranges).unwrap_or_default();
        let Some(last) = ranges.iter().max_by_key(|range| range.content.arrived) else { return false };
        if last.content == Content::RESTORED {
            // As they were when the snapshot was written, which knew that they show one state.
            return true;
        }
        let is_last = |range: &Range| std::ptr::eq(range, last);
        let others_before =
            ranges.iter().all(|range| is_last(range) || range.content.arrived < last.content.sent);
        ranges.iter().all(|range| {
            range.covers.sent_order > last.content.arrived
                || (is_last(range) && last.content.sent > 0 && others_before)
        })
    }

    /// What a response that is made of two ranges is known to include.
    #[must_use]
    pub fn covers_of_both(&self, one: Coverage, other: Coverage) -> Coverage {
        if self.clauses.mirrored_lists_cover_least() { one.intersection(other) } else { one.union(other) }
    }

    fn read(&mut self, answer: &RangeAnswer, anchor: Option<&KeyValueId>) -> Result<ItemPage, GiveUpReason> {
        let page = ItemPage::read(&answer.response.body, anchor)?;
        if page.continues {
            // Only a page that continues tells how many items a page has.
            let page_size = *self.page_size_seen.get_or_insert(page.items.len());
            if page.items.is_empty() || page.items.len() != page_size {
                return Err(GiveUpReason::Page);
            }
            self.forms &= page.forms;
            if self.forms.is_empty() {
                self.forms = page.forms;
            }
        }
        Ok(page)
    }

    /// The received tag, if it is not the one that the items make; then no tag of this origin is computed any more.
    fn differing_tag(&mut self, answer: &RangeAnswer, page: &ItemPage) -> Option<Box<str>> {
        let tag =
            answer.response.fields.get(&http::header::ETAG).and_then(|tag| std::str::from_utf8(tag).ok());
        let tag = tag.map(|tag| tag.trim_matches('"'))?;
        let next = page.items.last().filter(|_| page.continues).map(|last| after_key_value(&last.id));
        if page_etag(page.items.iter().map(|item| &*item.entity_tag), next.as_deref()) != tag {
            self.computes_tags = false;
        }
        (!self.computes_tags).then(|| tag.into())
    }
}

impl Range {
    /// A range from a snapshot.
    #[must_use]
    pub fn restored(
        anchor: Option<KeyValueId>,
        items: Vec<Item>,
        answer: StoredResponse,
        received_tag: Option<Box<str>>,
    ) -> Self {
        let (covers, content) = (Coverage::NOTHING, Content::RESTORED);
        let polled_at = Timestamp::default();
        Self { anchor, items, covers, content, answer: Arc::new(answer), polled_at, received_tag }
    }
}

impl Content {
    /// Of what a snapshot restored as one state: it was there before the first request of this process.
    const RESTORED: Self = Self { sent: u64::MAX, arrived: 0 };

    /// Of what consists of both.
    const fn with(self, other: Self) -> Self {
        let arrived = if self.arrived > other.arrived { self.arrived } else { other.arrived };
        Self { sent: if self.sent == other.sent { self.sent } else { 0 }, arrived }
    }
}

fn without_body(response: &StoredResponse) -> Arc<StoredResponse> {
    Arc::new(StoredResponse { body: bytes::Bytes::new(), share: Default::default(), ..response.clone() })
}

fn older(one: &Arc<StoredResponse>, other: &Arc<StoredResponse>) -> Arc<StoredResponse> {
    Arc::clone(if one.response_time <= other.response_time { one } else { other })
}

#[cfg(test)]
#[path = "collection_tests.rs"]
mod tests;
