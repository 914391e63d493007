//! The engine on a machine that is made up, with clients that do what they like, calls that fail, and ends at any moment.
//!
//! `CENOTE_SIM_STEPS` says how many steps are made, `CENOTE_SIM_SEED` with which seed it begins. A failure names its
//! seed, which is then kept in `seeds.txt`; with `CENOTE_SIM_TRACE` it is told what the clients do.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod machine;
mod model;
mod pool;

use cenote_engine::{Access, Engine, Jobs, Layout, NoSecrets, Noticing, PoolRun, SecretStore, Setup};
use cenote_host::{Host, SecretValue};
use cenote_model::flags::{BuildFirst, CreateOptions, DeleteOptions, Overwrite, ResizeOptions, Validate};
use cenote_model::{Code, Error, Name, PoolRef, Result, Uuid, VolumeRef};
use cenote_test_support::{Outcome, Possible};
use machine::{Dangers, End, Machine, Shared};
use model::Model;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

const CLIENTS: u32 = 4;
/// What each client does in a run.
const ACTIONS: u32 = 14;
/// The runs of a machine: each ends in its own way.
const RUNS: u32 = 3;
const STEPS: u64 = 1_000_000;
const SECRET: &str = "00000000-0000-0000-0000-0000000000aa";
const BUILD: BuildFirst = BuildFirst::Yes(Overwrite::Default);

#[test]
fn what_must_hold_holds() {
    let steps: u64 = number("CENOTE_SIM_STEPS").unwrap_or(STEPS);
    let first = number("CENOTE_SIM_SEED");
    // Those that have failed before come first.
    let kept =
        include_str!("seeds.txt").lines().filter_map(|line| line.split('#').next()?.trim().parse().ok());
    let kept: Vec<u64> = if first.is_some() { Vec::new() } else { kept.collect() };
    let (mut made, mut seeds, mut ends) = (0, 0, 0);
    for seed in kept.into_iter().chain(first.unwrap_or(1_000_000)..) {
        let mut world = World::new(seed);
        if let Err(what) = world.live() {
            panic!(
                "seed {seed}: {what}\nTo see it again: CENOTE_SIM_SEED={seed} CENOTE_SIM_STEPS=1 cargo test -p cenote-engine --test simulator"
            );
        }
        made += world.machine.steps();
        seeds += 1;
        ends += world.ends;
        if made >= steps {
            break;
        }
    }
    println!("{made} steps: {seeds} machines, {} runs, {ends} of which ended in the middle", seeds * RUNS);
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().expect("a number"))
}

/// A machine, and what is known of it.
struct World {
    machine: Arc<Machine>,
    model: Arc<Mutex<Model>>,
    ends: u32,
}

/// The daemon, as clients see it.
#[derive(Clone)]
struct Daemon {
    engine: Arc<Engine>,
    secrets: Arc<SecretStore>,
}

fn layout() -> Layout {
    Layout::under(Path::new("/sim")).without_default_pool()
}

fn target(pool: &str) -> PathBuf {
    Path::new("/sim/pools").join(pool)
}

fn names(kind: char) -> impl Iterator<Item = String> {
    (0..CLIENTS).map(move |number| format!("{kind}{number}"))
}

impl World {
    fn new(seed: u64) -> World {
        World { machine: Machine::new(seed), model: Arc::default(), ends: 0 }
    }

    /// Lives through several runs of the daemon.
    fn live(&mut self) -> std::result::Result<(), String> {
        for _ in 0..RUNS {
            let fault = [0, 0, 300, 60][self.machine.below(4) as usize];
            let end = (self.machine.below(4) > 0).then(|| 1 + self.machine.below(500));
            self.run(Dangers { fault, end })?;
            let how = if self.machine.below(2) == 0 { End::Killed } else { End::PowerLoss };
            if self.machine.has_ended() {
                self.ends += 1;
            }
            // Even one that has not ended in the middle ends without a word.
            self.machine.restart(how);
            self.check(how)?;
        }
        Ok(())
    }

    /// Starts the daemon, unless the end comes before.
    fn start(&self, dangers: Dangers) -> std::result::Result<Option<Daemon>, String> {
        pool::RUN.fetch_add(1, Ordering::Relaxed);
        let started = Arc::new(Mutex::new(None));
        let (slot, machine) = (Arc::clone(&started), Arc::clone(&self.machine));
        let start = move || *slot.lock().unwrap() = Some(open(&machine));
        self.machine.run(dangers, vec![Box::new(start)])?;
        let started = started.lock().unwrap().take().ok_or("the start broke off")?;
        match started {
            Ok(daemon) => Ok(Some(daemon)),
            Err(_) if dangers.fault > 0 || self.machine.has_ended() => Ok(None),
            Err(error) => Err(format!("the daemon does not start: {error}")),
        }
    }

    /// A run of the daemon with clients.
    fn run(&self, dangers: Dangers) -> std::result::Result<(), String> {
        let Some(daemon) = self.start(Dangers { fault: 0, ..dangers })? else { return Ok(()) };
        let faults = self.machine.faults();
        let wrong: Arc<Mutex<Vec<String>>> = Arc::default();
        let clients = (0..CLIENTS).map(|number| {
            let client = Client {
                number,
                daemon: daemon.clone(),
                machine: Arc::clone(&self.machine),
                model: Arc::clone(&self.model),
                wrong: Arc::clone(&wrong),
            };
            Box::new(move || client.act()) as Box<dyn FnOnce() + Send>
        });
        self.machine.run(dangers, clients.collect())?;
        if let Some(wrong) = wrong.lock().unwrap().first() {
            return Err(wrong.clone());
        }
        // Where nothing has failed, nothing is out of step.
        if self.machine.faults() == faults && !self.machine.has_ended() {
            if let Some(wrong) = self.machine.look(Path::new(pool::WRONG)) {
                return Err(String::from_utf8_lossy(&wrong).into_owned());
            }
            self.check_activity(&daemon)?;
        }
        Ok(())
    }

    /// The daemon says that a pool is active if it is.
    fn check_activity(&self, daemon: &Daemon) -> std::result::Result<(), String> {
        for pool in names('p').chain(names('t')) {
            let known =
                daemon.engine.pool_by_name(&pool).and_then(|pool| daemon.engine.known_pool_info(&pool));
            let is_said = known.is_ok_and(|info| info.run == PoolRun::Active);
            let is_so = self.machine.look(&pool::mark(&target(&pool))).is_some();
            if is_said != is_so {
                return Err(format!("pool '{pool}' is said to be active: {is_said}, and is: {is_so}"));
            }
        }
        Ok(())
    }

    /// After an end: the daemon starts again, and everything is in a state that it may be in.
    fn check(&self, end: End) -> std::result::Result<(), String> {
        let daemon = self.start(Dangers::NONE)?.ok_or("the daemon does not start")?;
        let model = &mut *self.model.lock().unwrap();
        for folder in ["/sim/etc/libvirt/storage", "/sim/run/libvirt/storage", "/sim/etc/libvirt/secrets"] {
            if let Some(name) =
                self.machine.list(Path::new(folder)).iter().find(|name| name.ends_with(".new"))
            {
                return Err(format!("{folder}/{name} is left over"));
            }
        }
        for pool in names('p') {
            let known = daemon.engine.pool_by_name(&pool).ok();
            let info = known.as_ref().and_then(|pool| daemon.engine.known_pool_info(pool).ok());
            let persistent = info.as_ref().is_some_and(|info| info.persistent);
            let variant = known.as_ref().filter(|_| persistent).map(|pool| variant(&daemon.engine, pool));
            found(model.pool(&pool), variant, end, &format!("the definition of pool '{pool}'"))?;
            let autostart = info.is_some_and(|info| info.autostart);
            found(model.autostart(&pool), autostart, end, &format!("the autostart of pool '{pool}'"))?;
        }
        self.check_activity(&daemon)?;
        for pool in names('p').chain(names('t')) {
            let folder = target(&pool);
            let names = self.machine.list(&folder);
            for name in names.iter().filter(|name| !name.starts_with(pool::HALF)) {
                let bytes = self.machine.look(&folder.join(name)).unwrap_or_default();
                let capacity = pool::capacity(name, &bytes);
                let capacity =
                    capacity.ok_or_else(|| format!("volume '{name}' of pool '{pool}' is not whole"))?;
                found(
                    model.volume(&pool, name),
                    Some(capacity),
                    end,
                    &format!("volume '{name}' of pool '{pool}'"),
                )?;
            }
            let known: Vec<_> = model.volumes.keys().filter(|(of, _)| *of == pool).cloned().collect();
            for (_, name) in known.into_iter().filter(|(_, name)| !names.contains(name)) {
                found(model.volume(&pool, &name), None, end, &format!("volume '{name}' of pool '{pool}'"))?;
            }
        }
        let uuid = Uuid::parse(SECRET).unwrap();
        let secret = daemon.secrets.def(&uuid).ok().map(|_| {
            let value = daemon.secrets.value(&uuid, cenote_engine::Asker::Machine).ok();
            value.map(|value| u32::from_le_bytes(value.expose().try_into().unwrap_or_default()))
        });
        found(model.secret(), secret, end, "the secret")
    }
}

/// It was found in this state. What a killed daemon left may still be lost with the machine, if it was not done.
fn found<T: Clone + PartialEq + Debug>(
    possible: &mut Possible<T>,
    state: T,
    end: End,
    what: &str,
) -> std::result::Result<(), String> {
    possible.found(&state, what)?;
    if end == End::PowerLoss {
        possible.settle(state);
    }
    Ok(())
}

fn open(machine: &Arc<Machine>) -> Result<Daemon> {
    let host = Host::made_up(Arc::new(Shared(Arc::clone(machine))));
    let secrets = Arc::new(SecretStore::open(&layout(), &host, Access::Write)?);
    let engine = Engine::open(Setup {
        layout: layout(),
        host,
        drivers: pool::DRIVERS,
        secrets: Arc::new(NoSecrets),
        access: Access::Write,
        jobs: Jobs::default(),
        noticing: Noticing::Later,
    })?;
    Ok(Daemon { engine, secrets })
}

/// The variant of a definition is in its mode.
fn pool_xml(name: &str, variant: u32) -> String {
    let uuid =
        format!("00000000-0000-0000-0000-{:012x}", name.bytes().fold(0, |a, b| a * 256 + u64::from(b)));
    format!(
        "<pool type='dir'><name>{name}</name><uuid>{uuid}</uuid><target><path>{}</path>\
         <permissions><mode>07{variant}0</mode></permissions></target></pool>",
        target(name).display()
    )
}

fn variant(engine: &Engine, pool: &PoolRef) -> u32 {
    let xml = engine.pool_inactive_xml(pool).unwrap_or_default();
    let digits = xml.split("<mode>07").nth(1).and_then(|rest| rest.get(..1)).unwrap_or("9");
    digits.parse().unwrap_or(9)
}

struct Client {
    number: u32,
    daemon: Daemon,
    machine: Arc<Machine>,
    model: Arc<Mutex<Model>>,
    wrong: Arc<Mutex<Vec<String>>>,
}

impl Client {
    fn act(&self) {
        for _ in 0..ACTIONS {
            self.one_thing();
        }
    }

    fn any(&self, kind: char) -> String {
        format!("{kind}{}", self.machine.below(CLIENTS))
    }

    fn own(&self, kind: char) -> String {
        format!("{kind}{}", self.number)
    }

    fn volume(&self) -> String {
        format!("v{}{}", self.number, self.machine.below(3))
    }

    fn capacity(&self) -> u64 {
        1 + u64::from(self.machine.below(1000))
    }

    /// Does something, and finds out what may have come of it.
    fn attempt(&self, what: &str, work: impl FnOnce(&Daemon) -> Result<()>) -> Outcome {
        let faults = self.machine.faults();
        let result = work(&self.daemon);
        if std::env::var_os("CENOTE_SIM_TRACE").is_some() {
            eprintln!("{:>6} client {} {what}: {result:?}", self.machine.steps(), self.number);
        }
        let is_sound = self.machine.faults() == faults && !self.machine.has_ended();
        match result {
            Ok(()) => Outcome::Done,
            Err(_) if !is_sound => Outcome::Unknown,
            Err(error) => {
                if !is_expected(&error) {
                    self.wrong.lock().unwrap().push(format!("{what} failed for no reason: {error}"));
                }
                Outcome::Refused
            }
        }
    }

    fn pool(&self, name: &str) -> Result<PoolRef> {
        self.daemon.engine.pool_by_name(name)
    }

    fn one_thing(&self) {
        let engine = &self.daemon.engine;
        let model = || self.model.lock().unwrap();
        let (own, any) =
            (self.own('p'), if self.machine.below(4) == 0 { self.any('t') } else { self.any('p') });
        let (name, capacity) = (self.volume(), self.capacity());
        match self.machine.below(22) {
            0..=2 => {
                let variant = self.machine.below(8);
                let outcome = self.attempt(&format!("defining {own}"), |daemon| {
                    daemon.engine.define_pool(&pool_xml(&own, variant), Validate::Lax).map(drop)
                });
                model().pool(&own).change(Some(variant), outcome);
            }
            3 => {
                let outcome =
                    self.attempt(&format!("undefining {own}"), |_| engine.undefine_pool(&self.pool(&own)?));
                model().pool(&own).change(None, outcome);
                model().autostart(&own).change(false, outcome);
            }
            4..=6 => {
                _ = self.attempt(&format!("starting {any}"), |_| engine.start_pool(&self.pool(&any)?, BUILD))
            }
            7 => _ = self.attempt(&format!("stopping {any}"), |_| engine.stop_pool(&self.pool(&any)?)),
            8..=11 => {
                let xml = format!(
                    "<volume><name>{name}</name><capacity>{capacity}</capacity><allocation>0</allocation></volume>"
                );
                let outcome = self.attempt(&format!("creating {any}/{name} {capacity}"), |_| {
                    engine.create_volume(&self.pool(&any)?, &xml, CreateOptions::default()).map(drop)
                });
                model().volume(&any, &name).change(Some(capacity), outcome);
            }
            12 => {
                let outcome = self.attempt(&format!("deleting {any}/{name}"), |_| {
                    engine.delete_volume(&reference(&any, &name)?, DeleteOptions::default())
                });
                model().volume(&any, &name).change(None, outcome);
            }
            13 => {
                let outcome = self.attempt(&format!("resizing {any}/{name} {capacity}"), |_| {
                    let options = ResizeOptions { shrink: true, ..ResizeOptions::default() };
                    engine.resize_volume(&reference(&any, &name)?, capacity, options)
                });
                model().volume(&any, &name).change(Some(capacity), outcome);
            }
            14 | 15 => {
                let (to, clone) = (self.any('p'), self.volume());
                let xml = format!("<volume><name>{clone}</name><capacity>0</capacity></volume>");
                // The capacity of the copy is that of the source, which nobody else changes.
                let mut copied = 0;
                let outcome = self.attempt(&format!("copying {any}/{name} to {to}/{clone}"), |_| {
                    let source = reference(&any, &name)?;
                    copied = engine.volume_info(&source)?.capacity;
                    engine
                        .create_volume_from(&self.pool(&to)?, &xml, &source, CreateOptions::default())
                        .map(drop)
                });
                model().volume(&to, &clone).change(Some(copied), outcome);
            }
            16 => {
                _ = self.attempt(&format!("refreshing {any}"), |_| engine.refresh_pool(&self.pool(&any)?));
            }
            17 => {
                let wanted = self.machine.below(2) == 0;
                let outcome = self.attempt(&format!("autostart of {own}: {wanted}"), |_| {
                    engine.set_autostart(&self.pool(&own)?, wanted)
                });
                model().autostart(&own).change(wanted, outcome);
            }
            18 => {
                let _ = self.attempt("listing", |_| engine.volumes(&self.pool(&any)?).map(drop));
                let _ = self.attempt("looking", |_| engine.volume_xml(&reference(&any, &name)?).map(drop));
            }
            19 => drop(engine.jobs().cancel_all()),
            20 => {
                let xml = pool_xml(&self.own('t'), 0);
                let _ = self.attempt(&format!("creating pool {}", self.own('t')), |_| {
                    engine.create_pool(&xml, BUILD).map(drop)
                });
            }
            // One client has the secret: the store lets others wait for a lock, which is none of the machine's.
            _ if self.number == 0 => self.about_the_secret(),
            _ => {}
        }
    }

    fn about_the_secret(&self) {
        let (secrets, uuid) = (&self.daemon.secrets, Uuid::parse(SECRET).unwrap());
        let known = secrets.def(&uuid).is_ok();
        let model = || self.model.lock().unwrap();
        match self.machine.below(4) {
            0 if known => {
                let outcome = self.attempt("undefining a secret", |_| secrets.undefine(&uuid));
                if outcome == Outcome::Unknown {
                    // The value may be gone and the definition not: it goes last.
                    model().secret().change(Some(None), outcome);
                }
                model().secret().change(None, outcome);
            }
            _ if known => {
                let value = self.machine.below(1 << 20);
                let outcome = self.attempt("setting a value", |_| {
                    secrets.set_value(&uuid, SecretValue::copy_of(&value.to_le_bytes()))
                });
                model().secret().change(Some(Some(value)), outcome);
            }
            _ => {
                let outcome = self.attempt("defining a secret", |_| {
                    let xml = format!("<secret><uuid>{SECRET}</uuid></secret>");
                    secrets.define(&xml, Validate::Lax).map(drop)
                });
                model().secret().change(Some(None), outcome);
            }
        }
    }
}

fn reference(pool: &str, name: &str) -> Result<VolumeRef> {
    Ok(VolumeRef { pool: Name::pool(pool)?, name: Name::volume(name)?, key: String::new() })
}

/// What clients that get in each other's way are told.
fn is_expected(error: &Error) -> bool {
    matches!(
        error.code,
        Code::NoStoragePool
            | Code::NoStorageVol
            | Code::StorageVolExist
            | Code::OperationInvalid
            | Code::OperationFailed
            | Code::OperationAborted
    ) || (error.code == Code::Internal
        && ["has asynchronous jobs running", "already in use", "pool has no config file"]
            .iter()
            .any(|text| error.to_string().contains(text)))
        || (error.code == Code::InvalidArg && error.to_string().contains("shrink"))
}
