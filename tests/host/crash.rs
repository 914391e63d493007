//! SIGKILL at any instant, amid everything that clients change: what was answered is there after the next start, and
//! nothing half made.
//!
//! `CENOTE_CRASH_ROUNDS` says how often the daemon is killed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_host::SecretValue;
use cenote_model::{Domain, Error, Uuid};
use cenote_rpc::procedures::{SecretId, calls};
use cenote_test_support::{Cenote, Cenoted, Mounted, Outcome, Possible, Session, am_root, have, run_any};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const CENOTED: &str = env!("CARGO_BIN_EXE_cenoted");
const CLIENTS: usize = 6;
const POOLS: [&str; 2] = ["p0", "p1"];
const MIB: u64 = 1 << 20;
/// What is uploaded: a number, so many times.
const STAMPS: usize = 16 << 10;
/// The daemon is killed within this time, in microseconds.
const LIFE: u64 = 60_000;

fn rounds() -> u32 {
    std::env::var("CENOTE_CRASH_ROUNDS").map_or(40, |rounds| rounds.parse().expect("a number"))
}

/// What a client knows of a volume of its own.
#[derive(Clone)]
struct Volume {
    capacity: Possible<Option<u64>>,
    /// What was uploaded last, if that is known.
    stamp: Option<u32>,
}

/// What a client changes, and nobody else.
struct Client {
    number: usize,
    variant: Possible<Option<u32>>,
    volumes: BTreeMap<(&'static str, String), Volume>,
    secret: Possible<Option<Option<u32>>>,
    /// How many calls came to which end: done, refused, broken off.
    calls: [u64; 3],
}

/// What came of a call: without an answer nobody knows.
fn outcome<T>(result: &Result<T, Error>) -> Outcome {
    match result {
        Ok(_) => Outcome::Done,
        Err(error) if error.domain == Domain::Rpc => Outcome::Unknown,
        Err(_) => Outcome::Refused,
    }
}

impl Client {
    fn new(number: usize) -> Client {
        Client {
            number,
            variant: Possible::only(None),
            volumes: BTreeMap::new(),
            secret: Possible::only(None),
            calls: [0; 3],
        }
    }

    fn pool_name(&self) -> String {
        format!("d{}", self.number)
    }

    fn pool_xml(&self, variant: u32) -> String {
        format!(
            "<pool type='dir'><name>{}</name><uuid>{}</uuid><target><path>/nowhere/{0}-{variant}</path></target></pool>",
            self.pool_name(),
            self.uuid("d")
        )
    }

    fn uuid(&self, kind: &str) -> Uuid {
        let kind = if kind == "d" { 0xd } else { 0x5 };
        Uuid::parse(&format!("00000000-0000-0000-000{kind:x}-{:012x}", self.number)).unwrap()
    }

    fn secret(&self) -> SecretId {
        SecretId { uuid: self.uuid("s"), usage_type: 0, usage_id: String::new() }
    }

    /// Does one thing after another until the daemon is gone.
    fn act(&mut self, socket: &Path) {
        let Ok(session) = Session::open(socket) else { return };
        loop {
            let outcome = self.one_thing(&session);
            self.calls[outcome as usize] += 1;
            if outcome == Outcome::Unknown {
                return;
            }
        }
    }

    fn one_thing(&mut self, session: &Session) -> Outcome {
        let pool = POOLS[fastrand::usize(0..POOLS.len())];
        let kind = fastrand::usize(0..4);
        let (name, format) = (self.name(kind), format(kind));
        let capacity = MIB * fastrand::u64(1..8);
        match fastrand::u32(0..14) {
            0 => {
                let variant = fastrand::u32(0..9);
                let defined = session.define_pool(self.pool_xml(variant));
                let outcome = outcome(&defined);
                self.variant.change(Some(variant), outcome);
                outcome
            }
            1 => {
                let pool = self.pool_name();
                let outcome = outcome(&session.pool(&pool).and_then(|pool| session.undefine_pool(&pool)));
                self.variant.change(None, outcome);
                outcome
            }
            2 => {
                let xml = format!("<secret><uuid>{}</uuid></secret>", self.uuid("s"));
                let outcome = outcome(&session.define_secret(xml));
                if self.secret.found(&None, "").is_ok() {
                    self.secret.change(Some(None), outcome);
                }
                outcome
            }
            3 => {
                let value = fastrand::u32(..);
                let args = (self.secret(), SecretValue::copy_of(&value.to_le_bytes()), 0);
                let outcome = outcome(&session.0.call::<calls::SecretSetValue>(&args));
                self.secret.change(Some(Some(value)), outcome);
                outcome
            }
            4 => {
                let outcome = outcome(&session.0.call::<calls::SecretUndefine>(&(self.secret(),)));
                self.secret.change(None, outcome);
                outcome
            }
            5..=7 => {
                let made = session.pool(pool).and_then(|pool| session.create(&pool, &name, format, capacity));
                self.changed(pool, &name, Some(capacity), None, outcome(&made))
            }
            8 => {
                let deleted = session
                    .pool(pool)
                    .and_then(|pool| session.volume(&pool, &name))
                    .and_then(|volume| session.delete(&volume));
                self.changed(pool, &name, None, None, outcome(&deleted))
            }
            9 => {
                let resized = session
                    .pool(pool)
                    .and_then(|pool| session.volume(&pool, &name))
                    .and_then(|volume| session.resize(&volume, capacity));
                let stamp = self.known(pool, &name).stamp;
                self.changed(pool, &name, Some(capacity), stamp, outcome(&resized))
            }
            10 | 11 => {
                let raw = self.name(0);
                let stamp = fastrand::u32(1..);
                let volume = session.pool(pool).and_then(|pool| session.volume(&pool, &raw));
                let Ok(volume) = volume else { return outcome(&volume) };
                // From now on it may be half of it.
                self.known(pool, &raw).stamp = None;
                let uploaded = session.upload(&volume, &stamp.to_le_bytes().repeat(STAMPS));
                let outcome = outcome(&uploaded);
                if outcome == Outcome::Done {
                    self.known(pool, &raw).stamp = Some(stamp);
                }
                outcome
            }
            _ => {
                // The copy's format is its own, its capacity that of the source.
                let (from, to) = (self.name(0), self.name(2 + kind % 2));
                let source = self.known(pool, &from).clone();
                let copied = session.pool(pool).and_then(|pool| {
                    let volume = session.volume(&pool, &from)?;
                    session.copy(&pool, &to, self::format(2 + kind % 2), &volume)
                });
                let outcome = outcome(&copied);
                let copy = self.known(pool, &to);
                if outcome != Outcome::Refused {
                    copy.capacity = match outcome {
                        Outcome::Done => source.capacity,
                        _ => source.capacity.or(&copy.capacity),
                    };
                    copy.stamp = if kind.is_multiple_of(2) {
                        source.stamp.filter(|_| outcome == Outcome::Done)
                    } else {
                        None
                    };
                }
                outcome
            }
        }
    }

    fn name(&self, kind: usize) -> String {
        format!("c{}-{kind}", self.number)
    }

    fn known(&mut self, pool: &'static str, name: &str) -> &mut Volume {
        let nothing = Volume { capacity: Possible::only(None), stamp: None };
        self.volumes.entry((pool, name.to_owned())).or_insert(nothing)
    }

    fn changed(
        &mut self,
        pool: &'static str,
        name: &str,
        capacity: Option<u64>,
        stamp: Option<u32>,
        outcome: Outcome,
    ) -> Outcome {
        let known = self.known(pool, name);
        known.capacity.change(capacity, outcome);
        if outcome != Outcome::Refused {
            known.stamp = stamp;
        }
        outcome
    }

    /// After the next start everything is as it may be.
    fn check(&mut self, session: &Session, folder: &dyn Fn(&str) -> PathBuf) {
        let pool = session.pool(&self.pool_name()).ok();
        let variant = pool.map(|pool| {
            let xml = session.pool_xml(&pool).unwrap();
            xml.split("/nowhere/").nth(1).unwrap().split(['-', '<']).nth(1).unwrap().parse().unwrap()
        });
        self.variant.found(&variant, &self.pool_name()).unwrap();
        self.variant.settle(variant);

        let secret = session.0.call::<calls::SecretLookupByUuid>(&(self.uuid("s"),)).ok().map(|(secret,)| {
            let value = session.0.call::<calls::SecretGetValue>(&(secret, 0)).ok();
            value.map(|(value,)| u32::from_le_bytes(value.expose().try_into().unwrap()))
        });
        self.secret.found(&secret, &format!("the secret of client {}", self.number)).unwrap();
        self.secret.settle(secret);

        for pool in POOLS {
            let id = session.pool(pool).unwrap();
            let volumes = session.volumes(&id).unwrap();
            for kind in 0..4 {
                let name = self.name(kind);
                let capacity = volumes.contains(&name).then(|| {
                    let xml = session.volume_xml(&session.volume(&id, &name).unwrap()).unwrap();
                    let text = xml.split("<capacity unit='bytes'>").nth(1).unwrap();
                    text.split('<').next().unwrap().parse().unwrap()
                });
                let known = self.known(pool, &name);
                known.capacity.found(&capacity, &format!("{pool}/{name}")).unwrap();
                known.capacity.settle(capacity);
                let path = folder(pool).join(&name);
                assert_eq!(path.exists(), capacity.is_some(), "{}", path.display());
                if let (Some(_), Some(stamp)) = (capacity, known.stamp) {
                    let content = fs::read(&path).unwrap();
                    assert!(content.starts_with(&stamp.to_le_bytes().repeat(STAMPS)), "{}", path.display());
                }
                if capacity.is_some() {
                    let path = path.to_str().unwrap();
                    let checked = match format(kind) {
                        "qcow2" => run_any("qemu-img", &["check", "-q", "-f", "qcow2", path]),
                        format => run_any("qemu-img", &["info", "-f", format, path]),
                    };
                    assert!(checked.status.success(), "{path}: {}", String::from_utf8_lossy(&checked.stderr));
                }
            }
        }
    }
}

/// Those with an odd number are qcow2.
fn format(kind: usize) -> &'static str {
    if kind.is_multiple_of(2) { "raw" } else { "qcow2" }
}

/// Kills a daemon whose state and pools are under this folder, again and again.
fn killed_again_and_again(folder: &Path, rounds: u32) {
    let place = |pool: &str| folder.join(pool);
    let mut clients: Vec<_> = (0..CLIENTS).map(Client::new).collect();
    let mut daemon = Some(Cenoted::start(CENOTED, folder));
    let session = Session::open(&daemon.as_ref().unwrap().socket()).unwrap();
    for pool in POOLS {
        let target = place(pool);
        let xml = format!(
            "<pool type='dir'><name>{pool}</name><target><path>{}</path></target></pool>",
            target.display()
        );
        session.start_pool(&session.define_pool(xml).unwrap()).unwrap();
    }
    drop(session);
    for round in 0..rounds {
        let running = daemon.take().unwrap();
        let socket = running.socket();
        std::thread::scope(|scope| {
            for client in &mut clients {
                let socket = socket.clone();
                scope.spawn(move || client.act(&socket));
            }
            std::thread::sleep(Duration::from_micros(fastrand::u64(0..LIFE)));
            running.kill();
        });
        let next = Cenoted::start(CENOTED, folder);
        let session = Session::open(&next.socket()).unwrap();
        for pool in POOLS {
            session
                .refresh_pool(&session.pool(pool).unwrap())
                .unwrap_or_else(|error| panic!("{pool}: {error}"));
            // A tool that was killed with its daemon may take a moment to die.
            let started = Instant::now();
            while let Some(name) = Cenote::names(&place(pool)).iter().find(|name| name.starts_with(".cenote"))
            {
                assert!(started.elapsed() < Duration::from_secs(10), "round {round}: {pool}/{name} is left");
                std::thread::sleep(Duration::from_millis(20));
                session.refresh_pool(&session.pool(pool).unwrap()).unwrap();
            }
        }
        for state in ["etc/libvirt/storage", "etc/libvirt/secrets", "run/libvirt/storage"] {
            let names = fs::read_dir(folder.join(state))
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.file_name());
            let left =
                names.map(|name| name.to_string_lossy().into_owned()).find(|name| name.ends_with(".new"));
            assert_eq!(left, None, "round {round}: in {state}");
        }
        clients.iter_mut().for_each(|client| client.check(&session, &place));
        daemon = Some(next);
    }
    let count = |outcome: Outcome| clients.iter().map(|client| client.calls[outcome as usize]).sum::<u64>();
    let [done, refused, broken] = [Outcome::Done, Outcome::Refused, Outcome::Unknown].map(count);
    assert!(done > u64::from(rounds), "next to nothing was done");
    println!("killed {rounds} times: {done} calls done, {refused} refused, {broken} broken off");
}

#[test]
fn what_was_answered_is_there_and_nothing_half_made() {
    if !have("qemu-img") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    killed_again_and_again(folder.path(), rounds());
}

#[test]
fn the_same_on_a_disk_that_is_full() {
    if !am_root() || !have("qemu-img") {
        return;
    }
    let disk = Mounted::tmpfs(6 << 20);
    killed_again_and_again(&disk.path, rounds() / 4);
}
