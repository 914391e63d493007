//! Hosts of a machine that is made up, as there is no Fibre Channel to be had.

use super::adapter::{find, must_find};
use crate::{Driver, Environment, NoSecrets, Pool};
use cenote_host::{Host, Unsynced};
use cenote_model::flags::Validate;
use cenote_model::source::{Adapter, PciAddress};
use cenote_model::{Code, Job, PoolDef};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

const NAMES: (&str, &str) = ("20000000c9831b4b", "10000000c9831b4b");

/// A tree of devices with two SCSI hosts and two Fibre Channel hosts.
struct Tree(TempDir);

impl Tree {
    fn new() -> Tree {
        let tree = Tree(tempfile::tempdir().unwrap());
        tree.host(2, "pci0000:00/0000:00:1f.2/ata3/host2");
        tree.host(3, "pci0000:00/0000:00:1f.2/ata4/host3");
        tree.write("class/scsi_host/host2/unique_id", "1\n");
        tree.write("class/scsi_host/host3/unique_id", "2\n");
        for host in [5, 6] {
            let folder = format!("pci0000:00/0000:00:03.0/host{host}");
            tree.host(host, &folder);
            tree.fc_host(
                host,
                &folder,
                &format!("0x2001001b32a9da4{host}"),
                &format!("0x2101001b32a9da4{host}"),
            );
            let attributes = [
                ("port_state", if host == 5 { "Linkdown\n" } else { "Online\n" }),
                ("max_npiv_vports", "2\n"),
                ("npiv_vports_inuse", "0\n"),
                ("fabric_name", if host == 5 { "0x2001000dec9877c5\n" } else { "0x2001000dec9877c6\n" }),
                ("vport_create", ""),
                ("vport_delete", ""),
            ];
            for (name, value) in attributes {
                tree.write(&format!("class/fc_host/host{host}/{name}"), value);
            }
        }
        fs::create_dir_all(tree.path().join("bus/scsi/devices")).unwrap();
        tree
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, path: &str, content: &str) {
        fs::write(self.path().join(path), content).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path().join(path)).unwrap()
    }

    fn linked(&self, class: &str, host: u32, folder: &str) -> PathBuf {
        let real = self.path().join("devices").join(folder).join(class).join(format!("host{host}"));
        fs::create_dir_all(&real).unwrap();
        let class = self.path().join("class").join(class);
        fs::create_dir_all(&class).unwrap();
        symlink(&real, class.join(format!("host{host}"))).unwrap();
        real
    }

    fn host(&self, host: u32, folder: &str) {
        self.linked("scsi_host", host, folder);
    }

    fn fc_host(&self, host: u32, folder: &str, node: &str, port: &str) {
        let real = self.linked("fc_host", host, folder);
        fs::write(real.join("node_name"), format!("{node}\n")).unwrap();
        fs::write(real.join("port_name"), format!("{port}\n")).unwrap();
    }

    /// What the kernel does when somebody asks this host for a virtual one.
    fn make_virtual(&self, parent: u32) {
        let folder = format!("pci0000:00/0000:00:03.0/host{parent}/vport-{parent}:0-0/host9");
        self.host(9, &folder);
        self.fc_host(9, &folder, &format!("0x{}", NAMES.0), &format!("0x{}", NAMES.1));
        fs::create_dir_all(self.path().join("bus/scsi/devices/9:0:0:1")).unwrap();
    }

    fn pool(&self, adapter: &str) -> Box<dyn Pool> {
        let xml = format!(
            "<pool type='scsi'><name>p</name><source>{adapter}</source><target><path>/dev</path></target></pool>"
        );
        let def = PoolDef::from_xml(&xml, Validate::Strict).unwrap();
        self.open(&def)
    }

    fn open(&self, def: &PoolDef) -> Box<dyn Pool> {
        let environment = Environment {
            host: Host::new().with_sysfs(self.path().to_owned()),
            secrets: Arc::new(NoSecrets),
            unsynced: Arc::new(Unsynced::default()),
        };
        let Driver { open, .. } = super::DRIVER;
        open(def, &environment).unwrap()
    }

    fn virtual_host(&self, attributes: &str) -> Box<dyn Pool> {
        self.pool(&format!("<adapter type='fc_host' {attributes} wwnn='{}' wwpn='{}'/>", NAMES.0, NAMES.1))
    }
}

#[test]
fn scsi_hosts_by_name_and_by_where_they_are() {
    let tree = Tree::new();
    let by_name = |name: &str| find(&Adapter::ScsiHost(name.to_owned()), tree.path());
    assert_eq!(by_name("scsi_host2").unwrap(), Some(2));
    assert_eq!(by_name("host3").unwrap(), Some(3));
    assert_eq!(by_name("host4").unwrap(), None);
    assert_eq!(by_name("eth0").unwrap_err().code, Code::Internal);
    let at = |slot, unique_id| {
        let parent = PciAddress { domain: 0, bus: 0, slot, function: 2 };
        must_find(&Adapter::ScsiHostAt { parent, unique_id }, tree.path())
    };
    assert_eq!((at(0x1f, 1).unwrap(), at(0x1f, 2).unwrap()), (2, 3));
    let missing = at(0x1e, 1).unwrap_err().to_string();
    assert!(missing.ends_with("using PCI '0000:00:1e.2' and unique_id='1'"), "{missing}");
}

#[test]
fn a_virtual_host_is_made_and_removed() {
    let tree = Tree::new();
    let job = Job::new(0, "test");
    let pool = tree.virtual_host("");
    assert!(!pool.is_active().unwrap());
    // What makes it notes that it has to remove it.
    let def = pool.resolve().unwrap().unwrap();
    let pool = tree.open(&def);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while tree.read("class/fc_host/host6/vport_create").is_empty() {
                std::thread::yield_now();
            }
            tree.make_virtual(6);
        });
        pool.start(&job).unwrap();
    });
    let names = format!("{}:{}", NAMES.1, NAMES.0);
    assert_eq!(tree.read("class/fc_host/host6/vport_create"), names);
    assert_eq!(tree.read("class/fc_host/host5/vport_create"), "", "it is not online");
    assert!(pool.is_active().unwrap() && pool.resolve().unwrap().is_none());
    pool.stop(&job).unwrap();
    assert_eq!(tree.read("class/fc_host/host6/vport_delete"), names);
}

#[test]
fn a_virtual_host_that_is_there_stays() {
    let tree = Tree::new();
    let job = Job::new(0, "test");
    tree.make_virtual(5);
    let pool = tree.virtual_host("parent='scsi_host5'");
    assert!(pool.is_active().unwrap() && pool.resolve().unwrap().is_none());
    pool.start(&job).unwrap();
    pool.stop(&job).unwrap();
    assert_eq!(tree.read("class/fc_host/host5/vport_delete"), "");
    let other = tree.virtual_host("parent='scsi_host6'").start(&job).unwrap_err().to_string();
    assert!(other.contains("does not match parent 'scsi_host5'"), "{other}");
}

#[test]
fn the_parent_that_is_named_is_taken_or_missed() {
    let tree = Tree::new();
    let job = Job::new(0, "test");
    job.cancel();
    let asks = |attributes: &str| {
        let error = tree.virtual_host(attributes).start(&job).unwrap_err();
        let asked = [5, 6].into_iter().find(|host| {
            let file = format!("class/fc_host/host{host}/vport_create");
            let is_asked = !tree.read(&file).is_empty();
            tree.write(&file, "");
            is_asked
        });
        asked.ok_or_else(|| error.to_string())
    };
    assert_eq!(asks("parent='scsi_host5'"), Ok(5));
    assert_eq!(asks("parent_wwnn='2001001b32a9da45' parent_wwpn='2101001b32a9da45'"), Ok(5));
    assert_eq!(asks("parent_fabric_wwn='2001000dec9877c5'"), Ok(5));
    assert_eq!(asks(""), Ok(6));
    tree.write("class/fc_host/host6/npiv_vports_inuse", "2\n");
    assert!(asks("").unwrap_err().contains("no fc_host is online"));
    assert!(asks("parent='scsi_host2'").unwrap_err().contains("is not an fc_host"));
    assert!(asks("parent_fabric_wwn='2001000dec9877c7'").unwrap_err().contains("of fabric"));
    // A physical host's names.
    let own = tree.pool("<adapter type='fc_host' wwnn='2001001b32a9da45' wwpn='2101001b32a9da45'/>");
    assert!(own.start(&job).unwrap_err().to_string().contains("are assigned to an HBA"));
}
