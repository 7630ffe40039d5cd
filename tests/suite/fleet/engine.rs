//! A model of an engine: late answers, partitions, entries twice, and failovers that lose what was acknowledged.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tagalong::internals::clock::instant;
use tagalong::internals::fleet::engine::{
    AnnouncedToken, ClockReading, EngineAnswer, EngineError, FleetEngine, FleetStream, Heard, Joined,
    LookedUp, MemberTurn, Publication, StreamEntry,
};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

/// The longest that a message takes to the engine or from it.
const LONGEST_WAY: Duration = Duration::from_millis(20);

/// The engine, as all members share it.
pub(crate) struct EngineModel {
    state: Mutex<EngineState>,
    changed: Notify,
    began: Instant,
}

#[derive(Default)]
struct EngineState {
    run: u64,
    /// Why it answers nothing.
    fails: Option<EngineError>,
    /// Members that cannot reach it.
    cut_off: HashSet<usize>,
    /// It takes no announcement.
    refuses_announcements: bool,
    /// Each entry is added twice with this chance, in percent.
    twice_percent: u8,
    streams: HashMap<String, StreamState>,
    operations: usize,
}

#[derive(Clone, Default)]
struct StreamState {
    number: u64,
    entries: Vec<StreamEntry>,
    tokens: BTreeMap<String, (u64, Vec<u8>)>,
    /// What each member has read, and when it took its last turn.
    members: HashMap<String, (u64, Option<Instant>)>,
    fence: u64,
    records: HashMap<String, Record>,
    leases: HashMap<String, (String, Option<Instant>)>,
    key: Option<String>,
    began: Option<Instant>,
}

#[derive(Clone, Default)]
struct Record {
    run: u64,
    fence: u64,
    head: Vec<u8>,
    body: Vec<u8>,
}

impl EngineModel {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changed: Notify::new(), began: instant() })
    }

    /// The engine as this member reaches it.
    pub(super) fn for_member(self: &Arc<Self>, member: usize) -> Arc<dyn FleetEngine> {
        Arc::new(MemberEngine { engine: Arc::clone(self), member })
    }

    /// From now on it answers nothing, for this reason; `None`: it answers again.
    pub(crate) fn fail(&self, why: Option<EngineError>) {
        self.state.lock().unwrap().fails = why;
        self.changed.notify_waiters();
    }

    /// From now on it takes no announcement, and answers everything else.
    pub(super) fn refuse_announcements(&self, refuses: bool) {
        self.state.lock().unwrap().refuses_announcements = refuses;
    }

    pub(super) fn cut_off(&self, member: usize, is_cut_off: bool) {
        let mut state = self.state.lock().unwrap();
        if is_cut_off {
            state.cut_off.insert(member);
        } else {
            state.cut_off.remove(&member);
        }
    }

    pub(super) fn add_twice(&self, percent: u8) {
        self.state.lock().unwrap().twice_percent = percent;
    }

    /// Another run, which lacks the last `lost` entries of each stream, and `lost_percent` of the records.
    pub(super) fn fail_over(&self, lost: u64, lost_percent: u8) {
        let mut state = self.state.lock().unwrap();
        state.run += 1;
        for stream in state.streams.values_mut() {
            stream.number = stream.number.saturating_sub(lost);
            let number = stream.number;
            stream.entries.retain(|entry| entry.number <= number);
            stream.records.retain(|_, _| fastrand::u8(..100) >= lost_percent);
            stream.members.clear();
            stream.leases.clear();
            stream.began = None;
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Changes a byte of the next entries' sealed bytes: whoever reads them must not believe them.
    pub(super) fn append_garbage(&self) {
        let mut state = self.state.lock().unwrap();
        for stream in state.streams.values_mut() {
            stream.number += 1;
            stream.entries.push(StreamEntry { number: stream.number, sealed: vec![7; 99] });
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Changes a byte of each record's head or body.
    pub(super) fn change_records(&self, head: bool) {
        let mut state = self.state.lock().unwrap();
        for record in state.streams.values_mut().flat_map(|stream| stream.records.values_mut()) {
            let sealed = if head { &mut record.head } else { &mut record.body };
            if let Some(byte) = sealed.last_mut() {
                *byte ^= 1;
            }
        }
    }

    /// Everything that the engine has, as bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let state = self.state.lock().unwrap();
        let mut bytes = Vec::new();
        for (name, stream) in &state.streams {
            bytes.extend_from_slice(name.as_bytes());
            stream.entries.iter().for_each(|entry| bytes.extend_from_slice(&entry.sealed));
            for (name, record) in &stream.records {
                bytes.extend_from_slice(name.as_bytes());
                bytes.extend_from_slice(&record.head);
                bytes.extend_from_slice(&record.body);
            }
            stream.tokens.values().for_each(|(_, sealed)| bytes.extend_from_slice(sealed));
        }
        bytes
    }

    pub(super) fn operations(&self) -> usize {
        self.state.lock().unwrap().operations
    }

    fn stream<T>(&self, name: &str, act: impl FnOnce(&mut StreamState, u64) -> T) -> T {
        let mut state = self.state.lock().unwrap();
        state.operations += 1;
        let run = state.run;
        act(state.streams.entry(name.to_owned()).or_default(), run)
    }

    fn check(&self, member: usize, joined: Option<u64>) -> Result<(), EngineError> {
        let state = self.state.lock().unwrap();
        match state.fails {
            Some(why) => Err(why),
            None if state.cut_off.contains(&member) => Err(EngineError::Slow),
            None if joined.is_some_and(|joined| joined != state.run) => Err(EngineError::Away),
            None => Ok(()),
        }
    }
}

struct MemberEngine {
    engine: Arc<EngineModel>,
    member: usize,
}

impl FleetEngine for MemberEngine {
    fn stream(&self, name: &str) -> Arc<dyn FleetStream> {
        Arc::new(MemberStream {
            engine: Arc::clone(&self.engine),
            member: self.member,
            name: name.to_owned(),
            joined: Mutex::new(None),
        })
    }
}

struct MemberStream {
    engine: Arc<EngineModel>,
    member: usize,
    name: String,
    joined: Mutex<Option<u64>>,
}

impl MemberStream {
    /// The way there and back, with what the engine does in between.
    async fn ask<T>(
        &self,
        act: impl FnOnce(&mut StreamState, u64) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let joined = *self.joined.lock().unwrap();
        way().await;
        self.reached(joined).await?;
        let answer = self.engine.stream(&self.name, act);
        way().await;
        self.reached(joined).await?;
        answer
    }

    /// A member that is cut off hears nothing at all.
    async fn reached(&self, joined: Option<u64>) -> Result<(), EngineError> {
        match self.engine.check(self.member, joined) {
            Err(EngineError::Slow) => std::future::pending().await,
            reached => reached,
        }
    }

    fn joined(&self) -> Result<u64, EngineError> {
        self.joined.lock().unwrap().ok_or(EngineError::Away)
    }
}

async fn way() {
    sleep(LONGEST_WAY.mul_f64(fastrand::f64().powi(3))).await;
}

impl FleetStream for MemberStream {
    fn join<'a>(&'a self, _: &'a str, key_id: &'a str) -> EngineAnswer<'a, Joined> {
        Box::pin(async move {
            *self.joined.lock().unwrap() = None;
            let (joined, run) = self
                .ask(|stream, run| {
                    if stream.key.get_or_insert_with(|| key_id.to_owned()) != key_id {
                        return Err(EngineError::Key);
                    }
                    let begins = stream.entries.len().saturating_sub(1_024);
                    let tokens = stream.tokens.values().map(|(_, sealed)| sealed.clone()).collect();
                    let history = stream.entries[begins..].to_vec();
                    let age = instant() - *stream.began.get_or_insert_with(instant);
                    Ok((Joined { run: format!("run {run}"), age, last: stream.number, history, tokens }, run))
                })
                .await?;
            *self.joined.lock().unwrap() = Some(run);
            Ok(joined)
        })
    }

    fn turn<'a>(&'a self, turn: MemberTurn<'a>) -> EngineAnswer<'a, Heard> {
        Box::pin(async move {
            let (joined, asked) = (Some(self.joined()?), instant());
            way().await;
            self.reached(joined).await?;
            let now = instant();
            let millis = 5_000_000 + u64::try_from((now - self.engine.began).as_millis()).unwrap();
            way().await;
            let clock = ClockReading { asked, answered: instant(), millis };
            let until = now + turn.wait;
            self.engine.stream(&self.name, |stream, _| {
                stream.members.insert(turn.member.to_owned(), (turn.read, Some(now)));
            });
            let entries = loop {
                let mut changed = std::pin::pin!(self.engine.changed.notified());
                changed.as_mut().enable();
                self.reached(joined).await?;
                let entries = self.engine.stream(&self.name, |stream, _| {
                    if stream.number < turn.read {
                        return Err(EngineError::Forgot);
                    }
                    let new = stream.entries.iter().filter(|entry| entry.number > turn.read);
                    Ok(new.take(256).cloned().collect::<Vec<_>>())
                })?;
                if !entries.is_empty() || timeout_at(until, changed).await.is_err() {
                    break entries;
                }
            };
            way().await;
            self.reached(joined).await?;
            Ok(Heard { clock, is_partial: entries.len() >= 256, entries })
        })
    }

    fn announce<'a>(&'a self, sealed: Vec<u8>, tokens: Vec<AnnouncedToken>) -> EngineAnswer<'a, u64> {
        Box::pin(async move {
            self.joined()?;
            let percent = {
                let state = self.engine.state.lock().unwrap();
                if state.refuses_announcements {
                    return Err(EngineError::Full);
                }
                state.twice_percent
            };
            let number = self
                .ask(|stream, _| {
                    for token in tokens {
                        let held = stream.tokens.entry(token.id).or_default();
                        if held.1.is_empty() || held.0 < token.sequence_number {
                            *held = (token.sequence_number, token.sealed);
                        }
                    }
                    for _ in 0..if fastrand::u8(..100) < percent { 2 } else { 1 } {
                        stream.number += 1;
                        stream.entries.push(StreamEntry { number: stream.number, sealed: sealed.clone() });
                    }
                    self.engine.changed.notify_waiters();
                    Ok(stream.number)
                })
                .await?;
            Ok(number)
        })
    }

    fn unconfirmed<'a>(&'a self, number: u64, lease: Duration) -> EngineAnswer<'a, u64> {
        Box::pin(async move {
            self.ask(|stream, _| {
                let now = instant();
                stream.members.retain(|_, (_, seen)| seen.is_some_and(|seen| now - seen < lease * 3));
                Ok(stream.members.values().filter(|(read, _)| *read < number).count() as u64)
            })
            .await
        })
    }

    fn look_up<'a>(
        &'a self,
        record: &'a str,
        member: &'a str,
        lease: Option<Duration>,
    ) -> EngineAnswer<'a, LookedUp> {
        Box::pin(async move {
            self.ask(|stream, run| {
                let now = instant();
                let head = stream.records.get(record).filter(|it| it.run == run).map(|it| it.head.clone());
                let is_held = stream
                    .leases
                    .get(record)
                    .is_some_and(|(_, until)| until.is_some_and(|until| until > now));
                let fence = lease.filter(|_| !is_held).map(|lease| {
                    stream.leases.insert(record.to_owned(), (member.to_owned(), Some(now + lease)));
                    stream.fence += 1;
                    stream.fence
                });
                Ok(LookedUp { head, fence })
            })
            .await
        })
    }

    fn body<'a>(&'a self, record: &'a str) -> EngineAnswer<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            self.ask(|stream, _| Ok(stream.records.get(record).map(|it| it.body.clone()))).await
        })
    }

    fn publish<'a>(&'a self, publication: Publication<'a>) -> EngineAnswer<'a, ()> {
        Box::pin(async move {
            let Publication { record, member, fence, head, body, .. } = publication;
            self.ask(|stream, run| {
                let held = stream.records.entry(record.to_owned()).or_default();
                if held.run == run && held.fence > fence {
                    return Ok(());
                }
                (held.run, held.fence, held.head) = (run, fence, head);
                if let Some(body) = body {
                    held.body = body;
                }
                if stream.leases.get(record).is_some_and(|(of, _)| of == member) {
                    stream.leases.remove(record);
                }
                Ok(())
            })
            .await
        })
    }

    fn release<'a>(&'a self, record: &'a str, member: &'a str) -> EngineAnswer<'a, ()> {
        Box::pin(async move {
            self.ask(|stream, _| {
                if stream.leases.get(record).is_some_and(|(of, _)| of == member) {
                    stream.leases.remove(record);
                }
                Ok(())
            })
            .await
        })
    }
}
