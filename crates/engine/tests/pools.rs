//! The life of directory pools.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_engine::{Access, Engine, Layout, NoSecrets, PoolRun, Setup};
use cenote_model::Code;
use cenote_model::event::PoolChange;
use cenote_model::flags::{
    BuildFirst, CreateOptions, DeleteOptions, Overwrite, ResizeOptions, Validate, WipeAlgorithm,
};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;

struct Machine {
    folder: TempDir,
}

impl Machine {
    /// A machine on which there has been a first use, without a `default` pool.
    fn new() -> Machine {
        let machine = Machine::unused();
        std::fs::create_dir_all(machine.layout().config()).unwrap();
        machine
    }

    fn unused() -> Machine {
        Machine { folder: tempfile::tempdir().unwrap() }
    }

    fn layout(&self) -> Layout {
        Layout::under(&self.folder.path().join("state"))
    }

    fn open(&self, access: Access) -> Arc<Engine> {
        Engine::open(Setup::new(self.layout(), Arc::new(NoSecrets), access)).unwrap()
    }

    fn target(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn xml(&self, name: &str) -> String {
        xml(name, &self.target(name))
    }

    /// The machine is started anew.
    fn reboot(&self) {
        std::fs::write(self.layout().run().join("boot-id"), "another").unwrap();
    }
}

fn xml(name: &str, target: &Path) -> String {
    format!("<pool type='dir'><name>{name}</name><target><path>{}</path></target></pool>", target.display())
}

const BUILD: BuildFirst = BuildFirst::Yes(Overwrite::Default);

fn volume_xml(name: &str, capacity: u64) -> String {
    format!("<volume><name>{name}</name><capacity>{capacity}</capacity><allocation>0</allocation></volume>")
}

#[test]
fn the_first_use_makes_the_default_pool_and_only_the_first() {
    let machine = Machine::unused();
    let engine = machine.open(Access::Read);
    let pool = engine.pool_by_name("default").unwrap();
    let info = engine.pool_info(&pool).unwrap();
    assert_eq!((info.run, info.persistent, info.autostart), (PoolRun::Active, true, true));
    drop(engine);
    let engine = machine.open(Access::Write);
    engine.stop_pool(&pool).unwrap();
    engine.undefine_pool(&pool).unwrap();
    drop(engine);
    assert!(machine.open(Access::Write).pools().is_empty());
}

#[test]
fn what_is_defined_and_started_is_found_again() {
    let machine = Machine::new();
    let engine = machine.open(Access::Write);
    let defined = engine.define_pool(&machine.xml("defined"), Validate::Lax).unwrap();
    let started = engine.define_pool(&machine.xml("started"), Validate::Lax).unwrap();
    engine.start_pool(&started, BUILD).unwrap();
    let transient = engine.create_pool(&machine.xml("transient"), BUILD).unwrap();
    drop(engine);

    for access in [Access::Read, Access::Write] {
        let engine = machine.open(access);
        let run = |pool| engine.pool_info(pool).map(|info| (info.run, info.persistent)).unwrap();
        assert_eq!(run(&defined), (PoolRun::Inactive, true));
        assert_eq!(run(&started), (PoolRun::Active, true));
        assert_eq!(run(&transient), (PoolRun::Active, false));
    }
    machine.reboot();
    let engine = machine.open(Access::Read);
    let run = |pool| engine.pool_info(pool).map(|info| info.run);
    assert_eq!(run(&started).unwrap(), PoolRun::Inactive);
    assert_eq!(run(&transient).unwrap_err().code, Code::NoStoragePool);
}

#[test]
fn autostart_happens_once_a_boot() {
    let machine = Machine::new();
    let engine = machine.open(Access::Write);
    let pool = engine.define_pool(&machine.xml("p"), Validate::Lax).unwrap();
    engine.build_pool(&pool, Overwrite::Default).unwrap();
    engine.set_autostart(&pool, true).unwrap();
    drop(engine);
    let run = |engine: &Engine| engine.pool_info(&pool).unwrap().run;
    assert_eq!(run(&machine.open(Access::Write)), PoolRun::Inactive, "not in the middle of a boot");
    machine.reboot();
    let engine = machine.open(Access::Write);
    assert_eq!(run(&engine), PoolRun::Active);
    engine.stop_pool(&pool).unwrap();
    drop(engine);
    assert_eq!(run(&machine.open(Access::Write)), PoolRun::Inactive, "once only");
    machine.reboot();
    std::fs::remove_dir(machine.target("p")).unwrap();
    assert_eq!(run(&machine.open(Access::Write)), PoolRun::Inactive, "what fails does not hold up the rest");
}

#[test]
fn names_uuids_and_sources_belong_to_one_pool() {
    let machine = Machine::new();
    let engine = machine.open(Access::Write);
    let pool = engine.define_pool(&machine.xml("p"), Validate::Lax).unwrap();
    let refused = |xml: &str| engine.define_pool(xml, Validate::Lax).unwrap_err();
    let other = refused(&xml("other", &machine.target("p")));
    assert_eq!(other.to_string(), "operation failed: Storage source conflict with pool: 'p'");
    let error = refused(&machine.xml("p"));
    assert_eq!(
        error.to_string(),
        format!("operation failed: pool 'p' already exists with uuid {}", pool.uuid)
    );
    let with_uuid = machine.xml("q").replace("<target>", &format!("<uuid>{}</uuid><target>", pool.uuid));
    let error = refused(&with_uuid);
    assert_eq!(
        error.to_string(),
        format!("operation failed: pool 'p' is already defined with uuid {}", pool.uuid)
    );
    assert_eq!(engine.pools().len(), 1);
    assert!(!machine.layout().config().join("other.xml").exists());
}

#[test]
fn a_new_definition_of_an_active_pool_comes_into_force_when_it_stops() {
    let machine = Machine::new();
    let engine = machine.open(Access::Write);
    let transient = engine.create_pool(&machine.xml("p"), BUILD).unwrap();
    let moved = xml("p", &machine.target("moved"))
        .replace("<target>", &format!("<uuid>{}</uuid><target>", transient.uuid));
    let pool = engine.define_pool(&moved, Validate::Lax).unwrap();
    assert!(engine.pool_info(&pool).unwrap().persistent);
    assert!(engine.pool_xml(&pool).unwrap().contains("/p</path>"));
    assert!(engine.pool_inactive_xml(&pool).unwrap().contains("/moved</path>"));
    drop(engine);
    let engine = machine.open(Access::Write);
    assert!(engine.pool_xml(&pool).unwrap().contains("/p</path>"), "also after a restart");
    engine.stop_pool(&pool).unwrap();
    assert!(engine.pool_xml(&pool).unwrap().contains("/moved</path>"));
    engine.start_pool(&pool, BUILD).unwrap();
    assert!(machine.target("moved").is_dir());
    // A pool that is made anew with another definition goes back to its own.
    engine.stop_pool(&pool).unwrap();
    let third = xml("p", &machine.target("third"))
        .replace("<target>", &format!("<uuid>{}</uuid><target>", pool.uuid));
    engine.create_pool(&third, BUILD).unwrap();
    assert!(engine.pool_xml(&pool).unwrap().contains("/third</path>"));
    engine.stop_pool(&pool).unwrap();
    assert!(engine.pool_xml(&pool).unwrap().contains("/moved</path>"));
}

#[test]
fn a_start_that_fails_leaves_the_pool_as_it_was() {
    let machine = Machine::new();
    let engine = machine.open(Access::Write);
    let error = engine.create_pool(&machine.xml("gone"), BuildFirst::No).unwrap_err();
    assert_eq!(error.code, Code::SystemError);
    assert!(engine.pools().is_empty());
    let pool = engine.define_pool(&machine.xml("p"), Validate::Lax).unwrap();
    engine.start_pool(&pool, BuildFirst::No).unwrap_err();
    assert_eq!(engine.pool_info(&pool).unwrap().run, PoolRun::Inactive);
    assert!(!machine.layout().run().join("p.xml").exists());
    engine.start_pool(&pool, BUILD).unwrap();
}

#[test]
fn a_pool_that_cannot_be_read_any_more_is_not_active() {
    let machine = Machine::new();
    let engine = machine.open(Access::Write);
    let pool = engine.define_pool(&machine.xml("p"), Validate::Lax).unwrap();
    engine.start_pool(&pool, BUILD).unwrap();
    std::fs::remove_dir(machine.target("p")).unwrap();
    let events = engine.events().subscribe();
    assert_eq!(engine.refresh_pool(&pool).unwrap_err().code, Code::SystemError);
    assert_eq!(engine.pool_info(&pool).unwrap().run, PoolRun::Inactive);
    assert_eq!(events.try_recv().unwrap().change, PoolChange::Stopped);
    assert!(!machine.layout().run().join("p.xml").exists());
}

#[test]
fn events_tell_what_happens() {
    let machine = Machine::new();
    let engine = machine.open(Access::Write);
    let events = engine.events().subscribe();
    let pool = engine.define_pool(&machine.xml("p"), Validate::Lax).unwrap();
    engine.build_pool(&pool, Overwrite::Default).unwrap();
    engine.start_pool(&pool, BuildFirst::No).unwrap();
    engine.refresh_pool(&pool).unwrap();
    engine.stop_pool(&pool).unwrap();
    engine.delete_pool(&pool).unwrap();
    engine.undefine_pool(&pool).unwrap();
    let changes: Vec<_> = events.try_iter().map(|event| event.change).collect();
    use PoolChange::{Created, Defined, Deleted, Refreshed, Started, Stopped, Undefined};
    assert_eq!(changes, [Defined, Created, Started, Refreshed, Stopped, Deleted, Undefined]);
}

#[test]
fn files_that_others_put_there_are_found_by_name_at_once() {
    let machine = Machine::new();
    let engine = machine.open(Access::Write);
    let pool = engine.create_pool(&machine.xml("p"), BUILD).unwrap();
    let path = machine.target("p").join("late");
    assert_eq!(engine.volume_by_name(&pool, "late").unwrap_err().code, Code::NoStorageVol);
    std::fs::write(&path, "x").unwrap();
    let volume = engine.volume_by_name(&pool, "late").unwrap();
    assert_eq!(engine.volume_info(&volume).unwrap().capacity, 1);
    std::fs::write(machine.target("p").join("later"), "xy").unwrap();
    let by_path = engine.volume_by_path(machine.target("p").join("later").to_str().unwrap()).unwrap();
    assert_eq!(by_path.name.as_str(), "later");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(engine.volume_info(&volume).unwrap_err().code, Code::NoStorageVol);
    let error = engine.create_volume(&pool, &volume_xml("later", 1), CreateOptions::default()).unwrap_err();
    assert_eq!(error.code, Code::StorageVolExist);
}

#[test]
fn a_refresh_does_not_disturb_an_upload_nor_an_upload_a_refresh() {
    let machine = Machine::new();
    let engine = machine.open(Access::Write);
    let pool = engine.create_pool(&machine.xml("p"), BUILD).unwrap();
    let volume = engine.create_volume(&pool, &volume_xml("v", 1 << 20), CreateOptions::default()).unwrap();
    let mut upload = engine.upload(&volume, 0, 0).unwrap();
    upload.write(b"first").unwrap();
    std::fs::write(machine.target("p").join("new"), "").unwrap();
    engine.refresh_pool(&pool).unwrap();
    assert_eq!(engine.volumes(&pool).unwrap().len(), 2);
    // What an upload is at may not be changed by others.
    let busy = |error: cenote_model::Error| {
        assert_eq!(error.to_string(), "Requested operation is not valid: volume 'v' is still in use.")
    };
    busy(engine.delete_volume(&volume, DeleteOptions::default()).unwrap_err());
    busy(engine.resize_volume(&volume, 2 << 20, ResizeOptions::default()).unwrap_err());
    busy(engine.upload(&volume, 0, 0).err().unwrap());
    let error = engine.stop_pool(&pool).unwrap_err();
    assert_eq!(error.to_string(), "internal error: pool 'p' has asynchronous jobs running.");
    upload.write(b" second").unwrap();
    upload.finish().unwrap();
    assert_eq!(&std::fs::read(machine.target("p").join("v")).unwrap()[..12], b"first second");
    engine.delete_volume(&volume, DeleteOptions::default()).unwrap();
}

#[test]
fn more_data_than_announced_is_refused() {
    let machine = Machine::new();
    let engine = machine.open(Access::Write);
    let pool = engine.create_pool(&machine.xml("p"), BUILD).unwrap();
    let volume = engine.create_volume(&pool, &volume_xml("v", 100), CreateOptions::default()).unwrap();
    let mut upload = engine.upload(&volume, 0, 10).unwrap();
    upload.write(b"12345").unwrap();
    let error = upload.write(b"1234567").unwrap_err();
    assert_eq!(error.code, Code::OperationFailed);
    drop(upload);
    assert_eq!(engine.volume_info(&volume).unwrap().capacity, 100);
    engine.delete_volume(&volume, DeleteOptions::default()).unwrap();
}

#[test]
fn lists_are_answered_while_volumes_are_made_and_read() {
    let machine = Machine::new();
    let engine = machine.open(Access::Write);
    let pool = engine.create_pool(&machine.xml("p"), BUILD).unwrap();
    const EACH: usize = 50;
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (engine, pool) = (&engine, &pool);
            scope.spawn(move || {
                for i in 0..EACH {
                    let xml = volume_xml(&format!("v{worker}-{i}"), 4096);
                    let volume = engine.create_volume(pool, &xml, CreateOptions::default()).unwrap();
                    if i % 2 == 0 {
                        engine.delete_volume(&volume, DeleteOptions::default()).unwrap();
                    }
                }
            });
        }
        for _ in 0..20 {
            engine.refresh_pool(&pool).unwrap();
            engine.volumes(&pool).unwrap();
        }
    });
    let published = engine.volumes(&pool).unwrap().len();
    assert_eq!(
        published,
        4 * EACH / 2,
        "what was made and removed during a refresh is neither lost nor back"
    );
    engine.refresh_pool(&pool).unwrap();
    assert_eq!(engine.volumes(&pool).unwrap().len(), published);
    assert!(engine.jobs().list().is_empty());
}

#[test]
fn two_makers_of_one_name_make_one_volume() {
    let machine = Machine::new();
    let engine = machine.open(Access::Write);
    let pool = engine.create_pool(&machine.xml("p"), BUILD).unwrap();
    let made: usize = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| engine.create_volume(&pool, &volume_xml("v", 1), CreateOptions::default()))
            })
            .collect();
        makers.into_iter().filter_map(|maker| maker.join().unwrap().ok()).count()
    });
    assert_eq!(made, 1);
}

#[test]
fn damaged_state_files_are_passed_over() {
    let machine = Machine::new();
    let engine = machine.open(Access::Write);
    engine.define_pool(&machine.xml("good"), Validate::Lax).unwrap();
    drop(engine);
    let config = machine.layout().config().to_owned();
    std::fs::write(config.join("bad.xml"), "<pool").unwrap();
    std::fs::write(config.join("renamed.xml"), machine.xml("othername")).unwrap();
    std::fs::write(config.join("good.xml.new"), "half").unwrap();
    std::fs::create_dir(config.join("folder.xml")).unwrap();
    let engine = machine.open(Access::Write);
    assert_eq!(engine.pools().len(), 1);
    assert!(!config.join("good.xml.new").exists());
}

#[test]
fn types_without_a_backend_are_kept_and_say_so() {
    let machine = Machine::new();
    let setup = Setup::new(machine.layout(), Arc::new(NoSecrets), Access::Write);
    let engine = Engine::open(Setup { drivers: &[], ..setup }).unwrap();
    let xml = "<pool type='gluster'><name>m</name><source><host name='h'/><name>n</name></source></pool>";
    let pool = engine.define_pool(xml, Validate::Lax).unwrap();
    let error = engine.start_pool(&pool, BuildFirst::No).unwrap_err();
    assert_eq!(error.code, Code::Internal);
    assert!(error.to_string().contains("missing backend for pool type"), "{error}");
    assert_eq!(engine.pool_info(&pool).unwrap().run, PoolRun::Inactive);
    engine.undefine_pool(&pool).unwrap();
}

#[test]
fn a_zeroed_deletion_and_every_wipe_leave_nothing_to_read() {
    let machine = Machine::new();
    let engine = machine.open(Access::Write);
    let pool = engine.create_pool(&machine.xml("p"), BUILD).unwrap();
    let path = machine.target("p").join("v");
    let content = || {
        let mut upload = engine.upload(&engine.volume_by_name(&pool, "v").unwrap(), 0, 0).unwrap();
        upload.write(&b"the secret ".repeat(1000)).unwrap();
        upload.finish().unwrap();
    };
    let volume = engine.create_volume(&pool, &volume_xml("v", 1 << 20), CreateOptions::default()).unwrap();
    for &algorithm in WipeAlgorithm::ALL {
        content();
        engine.wipe_volume(&volume, algorithm).unwrap();
        let left = std::fs::read(&path).unwrap();
        assert_eq!(left.len(), 1 << 20);
        assert!(!left.windows(11).any(|w| w == b"the secret "), "{algorithm}");
    }
    content();
    let link = machine.folder.path().join("link");
    std::fs::hard_link(&path, &link).unwrap();
    engine.delete_volume(&volume, DeleteOptions { zeroed: true, ..DeleteOptions::default() }).unwrap();
    assert!(!path.exists());
    assert!(std::fs::read(&link).unwrap().iter().all(|byte| *byte == 0));
}

#[test]
fn what_others_put_there_does_not_hold_a_refresh_up() {
    let machine = Machine::new();
    let engine = machine.open(Access::Write);
    let pool = engine.create_pool(&machine.xml("p"), BUILD).unwrap();
    let folder = machine.target("p");
    let pipe = |path: &Path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    pipe(&folder.join("pipe"));
    pipe(&folder.join(".cenote-new-pipe"));
    std::fs::create_dir(folder.join("ploop")).unwrap();
    std::fs::write(folder.join("ploop/DiskDescriptor.xml"), "").unwrap();
    pipe(&folder.join("ploop/root.hds"));
    engine.refresh_pool(&pool).unwrap();
    let names: Vec<_> = engine.volumes(&pool).unwrap().iter().map(|volume| volume.name.to_string()).collect();
    assert_eq!(names, ["ploop"]);
    let xml = format!(
        "<volume><name>v</name><target><format type='qcow2'/></target><backingStore><path>{}</path></backingStore></volume>",
        folder.join("pipe").display()
    );
    let error = engine.create_volume(&pool, &xml, CreateOptions::default()).unwrap_err();
    assert!(error.to_string().contains("neither a regular file nor a block device"), "{error}");
}

#[test]
fn a_refresh_sees_every_change_of_files_that_it_knows() {
    let machine = Machine::new();
    let engine = machine.open(Access::Write);
    let pool = engine.create_pool(&machine.xml("p"), BUILD).unwrap();
    let file = |name: &str| machine.target("p").join(name);
    let qcow2 = |size: usize| {
        let mut image = vec![0; size];
        image[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        image[31] = 7; // capacity
        image[20..24].copy_from_slice(&16u32.to_be_bytes());
        image
    };
    let size = 64 << 10;
    for name in ["same", "content", "longer", "mode", "gone", "replaced", "times", "link"] {
        std::fs::write(file(name), vec![0; size]).unwrap();
    }
    std::fs::write(machine.folder.path().join("other"), qcow2(size)).unwrap();
    std::fs::write(machine.folder.path().join("aim"), vec![0; size]).unwrap();
    std::fs::remove_file(file("link")).unwrap();
    std::os::unix::fs::symlink(machine.folder.path().join("aim"), file("link")).unwrap();
    engine.refresh_pool(&pool).unwrap();
    // What was written a moment before a scan is read again by the next one; this is about what was not.
    std::thread::sleep(std::time::Duration::from_secs(5));
    let all = || -> Vec<_> {
        engine.refresh_pool(&pool).unwrap();
        engine.volume_defs(&pool).unwrap().iter().map(|def| (**def).clone()).collect()
    };
    let before = all();
    assert_eq!(all(), before);

    let modified = std::fs::metadata(file("times")).unwrap().modified().unwrap();
    std::fs::write(file("content"), qcow2(size)).unwrap();
    std::fs::write(file("longer"), vec![0; size + 512]).unwrap();
    std::fs::set_permissions(file("mode"), std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    std::fs::remove_file(file("gone")).unwrap();
    std::fs::rename(machine.folder.path().join("other"), file("replaced")).unwrap();
    std::fs::write(file("times"), qcow2(size)).unwrap();
    std::fs::File::options().write(true).open(file("times")).unwrap().set_modified(modified).unwrap();
    std::fs::write(machine.folder.path().join("aim"), qcow2(size)).unwrap();
    std::fs::write(file("new"), vec![0; size]).unwrap();

    let after = all();
    let of = |name: &str| after.iter().find(|def| def.name.as_str() == name);
    let format = |name: &str| of(name).unwrap().format.unwrap().as_str();
    for (name, expected) in
        [("same", "raw"), ("content", "qcow2"), ("replaced", "qcow2"), ("times", "qcow2"), ("link", "qcow2")]
    {
        assert_eq!(format(name), expected, "{name}");
    }
    assert_eq!(of("longer").unwrap().capacity, Some(size as u64 + 512));
    assert_eq!(of("mode").unwrap().permissions.mode, Some(0o640));
    assert!(of("gone").is_none() && of("new").is_some());
    let same = |all: &[cenote_model::VolumeDef]| all.iter().find(|def| def.name.as_str() == "same").cloned();
    assert_eq!(same(&after), same(&before));
}
