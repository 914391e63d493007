//! Mixed work by many clients on pools of which one fails all the while: the others never do, and neither memory nor file
//! descriptors grow.
//!
//! `CENOTE_SOAK_SECONDS` says for how long.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_host::SecretValue;
use cenote_model::{Code, Error, Result};
use cenote_rpc::procedures::calls;
use cenote_test_support::{Call, Cenoted, Fault, FaultyFs, Session, am_root, have, have_file};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CENOTED: &str = env!("CARGO_BIN_EXE_cenoted");
const CLIENTS: usize = 20;
/// Those that are sound, and the one that is not.
const POOLS: [&str; 3] = ["one", "two", "faulty"];
const FAULTY: usize = 2;
const KIB: u64 = 1 << 10;
/// What the daemon may be larger at the end, in KiB, than in the first third.
const SLACK: u64 = 8 << 10;
/// What a thread takes that has worked, in KiB, unoptimized. A short run is over before there are as many as there will be.
const STACK: u64 = 200;

fn duration() -> Duration {
    Duration::from_secs(
        std::env::var("CENOTE_SOAK_SECONDS").map_or(20, |time| time.parse().expect("a number")),
    )
}

#[derive(Default)]
struct Counts {
    done: AtomicU64,
    refused: AtomicU64,
    faulty_done: AtomicU64,
    faulty_failed: AtomicU64,
    hangs: AtomicU64,
    faults: AtomicU64,
    connections: AtomicU64,
    outside: AtomicU64,
    /// What lists of sound pools took, in microseconds: while the other one is sound, and while it hangs.
    calm: Mutex<Vec<u64>>,
    hanging: Mutex<Vec<u64>>,
}

impl Counts {
    fn add(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

struct Scene {
    daemon: Cenoted,
    faulty: FaultyFs,
    folder: tempfile::TempDir,
    is_over: AtomicBool,
    is_hanging: AtomicBool,
    counts: Counts,
}

impl Scene {
    fn new() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let conf = folder.path().join("etc/libvirt/cenote.conf");
        fs::create_dir_all(conf.parent().unwrap()).unwrap();
        fs::write(conf, "storage_timeout = 2\n").unwrap();
        let scene = Scene {
            daemon: Cenoted::start(CENOTED, folder.path()),
            faulty: FaultyFs::new(),
            folder,
            is_over: AtomicBool::new(false),
            is_hanging: AtomicBool::new(false),
            counts: Counts::default(),
        };
        let session = scene.session();
        for pool in POOLS {
            let target = scene.target(pool);
            let xml = format!(
                "<pool type='dir'><name>{pool}</name><target><path>{}</path></target></pool>",
                target.display()
            );
            session.start_pool(&session.define_pool(xml).unwrap()).unwrap();
        }
        drop(session);
        scene
    }

    fn target(&self, pool: &str) -> PathBuf {
        if pool == POOLS[FAULTY] { self.faulty.path().to_owned() } else { self.folder.path().join(pool) }
    }

    fn session(&self) -> Session {
        Session::open(&self.daemon.socket()).unwrap()
    }

    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    /// A client: it comes, works, and goes, again and again.
    fn client(&self, number: usize) {
        while self.goes_on() {
            let session = self.session();
            Counts::add(&self.counts.connections);
            for _ in 0..fastrand::u32(1..200) {
                if !self.goes_on() {
                    break;
                }
                self.one_thing(&session, number);
            }
        }
    }

    fn one_thing(&self, session: &Session, number: usize) {
        let which = fastrand::usize(0..POOLS.len());
        let pool = POOLS[which];
        let name = format!("c{number}-{}", fastrand::u32(0..4));
        let result = self.something(session, pool, &name, number);
        match (which == FAULTY, result) {
            (false, Ok(())) => Counts::add(&self.counts.done),
            (false, Err(error)) if is_refusal(&error) => Counts::add(&self.counts.refused),
            (false, Err(error)) => panic!("{pool}/{name}: {error}\n{}", self.daemon.log()),
            (true, Ok(())) => Counts::add(&self.counts.faulty_done),
            (true, Err(_)) => Counts::add(&self.counts.faulty_failed),
        }
    }

    fn something(&self, session: &Session, pool: &str, name: &str, number: usize) -> Result<()> {
        let is_sound = pool != POOLS[FAULTY];
        let pool = session.pool(pool)?;
        match fastrand::u32(0..16) {
            0..=2 => {
                let format = if name.ends_with(['1', '3']) { "qcow2" } else { "raw" };
                session.create(&pool, name, format, 64 * KIB * fastrand::u64(1..16)).map(drop)
            }
            3 | 4 => session.delete(&session.volume(&pool, name)?),
            5 => session.resize(&session.volume(&pool, name)?, KIB * KIB * fastrand::u64(1..4)),
            6 | 7 => {
                let raw = session.volume(&pool, &format!("c{number}-0"))?;
                let stamp = vec![number as u8 + 1; 32 << 10];
                session.upload(&raw, &stamp)?;
                let content = session.download(&raw)?;
                assert!(content.starts_with(&stamp), "what was uploaded is not what is downloaded");
                Ok(())
            }
            8 => {
                let source = session.volume(&pool, &format!("c{number}-0"))?;
                session.copy(&pool, &format!("c{number}-2"), "raw", &source).map(drop)
            }
            9 => session.refresh_pool(&pool),
            10 => session.volume_xml(&session.volume(&pool, name)?).map(drop),
            11 => {
                let secret = session.define_secret(format!(
                    "<secret><uuid>00000000-0000-0000-0000-{number:012}</uuid></secret>"
                ))?;
                let value = SecretValue::copy_of(&[number as u8; 16]);
                session.0.call::<calls::SecretSetValue>(&(secret.clone().into(), value, 0))?;
                let (value,) = session.0.call::<calls::SecretGetValue>(&(secret.into(), 0))?;
                assert_eq!(value.expose(), [number as u8; 16]);
                Ok(())
            }
            12 => session.0.call::<calls::ConnectStoragePoolEventRegisterAny>(&(0, None)).map(drop),
            _ => {
                let started = Instant::now();
                let listed = session.volumes(&pool).map(drop);
                if is_sound {
                    let hanging = self.is_hanging.load(Ordering::Relaxed);
                    let took = if hanging { &self.counts.hanging } else { &self.counts.calm };
                    took.lock().unwrap().push(started.elapsed().as_micros() as u64);
                }
                listed
            }
        }
    }

    /// One thing after another goes wrong with the pool that is not sound, and first of all it
    /// hangs: a short run would else do without by chance.
    fn break_things(&self) {
        for kind in std::iter::once(0).chain(std::iter::repeat_with(|| fastrand::u32(0..8))) {
            if !self.goes_on() {
                break;
            }
            let call = Call::ALL[fastrand::usize(0..Call::ALL.len())];
            let (calls, fault) = match kind {
                0 | 1 => (&Call::ALL[..], Fault::Hangs),
                2 => (&[call][..], Fault::Hangs),
                3 | 4 => (&[call][..], Fault::Eio),
                5 | 6 => (&[call][..], Fault::Enospc),
                _ => (&[call][..], Fault::Takes(Duration::from_millis(fastrand::u64(1..300)))),
            };
            Counts::add(if fault == Fault::Hangs { &self.counts.hangs } else { &self.counts.faults });
            self.is_hanging.store(fault == Fault::Hangs, Ordering::Relaxed);
            self.faulty.fault(calls, fault);
            self.sleep(fastrand::u64(500..4000));
            self.faulty.heal();
            self.sleep(500);
            self.is_hanging.store(false, Ordering::Relaxed);
            // One that could not be read is not active any more.
            let session = self.session();
            let _ = session.pool("faulty").and_then(|pool| session.start_pool(&pool));
            self.sleep(fastrand::u64(0..1500));
        }
        self.faulty.heal();
    }

    /// Somebody else uses the directories too.
    fn change_from_outside(&self) {
        while self.goes_on() {
            let path = self
                .target(POOLS[fastrand::usize(0..FAULTY)])
                .join(format!("outside-{}", fastrand::u32(0..50)));
            let _ = if fastrand::bool() { fs::write(&path, "x") } else { fs::remove_file(&path) };
            Counts::add(&self.counts.outside);
            self.sleep(fastrand::u64(0..50));
        }
    }

    fn sleep(&self, milliseconds: u64) {
        let until = Instant::now() + Duration::from_millis(milliseconds);
        while self.goes_on() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Memory in KiB, file descriptors, threads.
    fn size(&self) -> [u64; 3] {
        let proc = Path::new("/proc").join(self.daemon.pid().to_string());
        let status = fs::read_to_string(proc.join("status")).expect("the daemon is gone");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        [field("VmRSS:"), fs::read_dir(proc.join("fd")).unwrap().count() as u64, field("Threads:")]
    }
}

/// What a client is told that asks for what others, or it itself, have in another state.
fn is_refusal(error: &Error) -> bool {
    matches!(
        error.code,
        Code::NoStorageVol | Code::StorageVolExist | Code::OperationInvalid | Code::InvalidArg
    ) || (error.code == Code::Internal && error.to_string().contains("already in use"))
}

fn median(values: impl Iterator<Item = u64>) -> u64 {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

#[test]
fn mixed_work_for_a_long_time() {
    if !am_root() || !have("qemu-img") || !have_file("/dev/fuse") {
        return;
    }
    let scene = Scene::new();
    let before = scene.size();
    let mut sizes = Vec::new();
    std::thread::scope(|scope| {
        let scene = &scene;
        let mut working: Vec<_> =
            (0..CLIENTS).map(|number| scope.spawn(move || scene.client(number))).collect();
        working.push(scope.spawn(|| scene.break_things()));
        working.push(scope.spawn(|| scene.change_from_outside()));
        let until = Instant::now() + duration();
        while Instant::now() < until && working.iter().all(|thread| !thread.is_finished()) {
            std::thread::sleep(Duration::from_millis(500));
            sizes.push(scene.size());
        }
        scene.is_over.store(true, Ordering::Relaxed);
    });
    // Threads that hung come back, and those that are idle go.
    let calm = Instant::now();
    let after = loop {
        std::thread::sleep(Duration::from_millis(500));
        let size = scene.size();
        if size[1] <= before[1] + 2 || calm.elapsed() > Duration::from_secs(60) {
            break size;
        }
    };
    let third = sizes.len() / 3;
    let middle = |sizes: &[[u64; 3]], which: usize| median(sizes.iter().map(|size| size[which]));
    let (first, last) = (&sizes[..third], &sizes[sizes.len() - third..]);
    let (early, late) = (middle(first, 0), middle(last, 0));
    let more_threads = middle(last, 2).saturating_sub(middle(first, 2));
    let most = |which: usize| sizes.iter().map(|size| size[which]).max().unwrap_or(0);
    let counts = &scene.counts;
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let list = |took: &Mutex<Vec<u64>>| {
        let mut took = took.lock().unwrap().clone();
        took.sort_unstable();
        let at = |part: f64| took.get((took.len() as f64 * part) as usize).copied().unwrap_or(0);
        (took.len(), at(0.5), at(0.99))
    };
    let (calm, hanging) = (list(&counts.calm), list(&counts.hanging));
    println!(
        "{} s, {CLIENTS} clients, {} connections\n\
         sound pools: {} calls done, {} refused; the other: {} done, {} failed; {} hangs, {} other faults; {} changes from outside\n\
         lists of sound pools: {} calls, median {} us, 99 % {} us; while the other hangs: {}, {} us, {} us\n\
         memory in KiB: {} at first, {early} in the first third, {late} in the last, {} at most, {} afterwards\n\
         file descriptors: {} at first, {} at most, {} afterwards; threads: {}, {}, {}",
        duration().as_secs(),
        count(&counts.connections),
        count(&counts.done),
        count(&counts.refused),
        count(&counts.faulty_done),
        count(&counts.faulty_failed),
        count(&counts.hangs),
        count(&counts.faults),
        count(&counts.outside),
        calm.0,
        calm.1,
        calm.2,
        hanging.0,
        hanging.1,
        hanging.2,
        before[0],
        most(0),
        after[0],
        before[1],
        most(1),
        after[1],
        before[2],
        most(2),
        after[2],
    );
    let allowed = early + early / 10 + SLACK + more_threads * STACK;
    assert!(
        late <= allowed,
        "the daemon grows: from {early} to {late} KiB, with {more_threads} threads more"
    );
    assert!(after[1] <= before[1] + 2, "file descriptors are left open");
    let log = scene.daemon.log();
    assert!(!log.contains("panicked"), "{log}");
    assert!(count(&counts.done) > 0 && count(&counts.hangs) > 0, "nothing was done");
    // The pool that was not sound is, and what is listed of the others is there.
    let session = scene.session();
    let faulty = session.pool("faulty").unwrap();
    let _ = session.start_pool(&faulty);
    session.refresh_pool(&faulty).unwrap();
    for pool in POOLS {
        let id = session.pool(pool).unwrap();
        session.refresh_pool(&id).unwrap();
        let mut listed = session.volumes(&id).unwrap();
        listed.sort();
        assert_eq!(listed, cenote_test_support::Cenote::names(&scene.target(pool)), "{pool}");
    }
}
