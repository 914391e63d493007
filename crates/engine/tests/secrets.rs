//! Secrets through the store: definitions, values, and what is on disk.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_engine::{Access, Asker, Layout, SecretStore, Secrets};
use cenote_host::{Host, SecretValue};
use cenote_model::auth::SecretRef;
use cenote_model::event::SecretChange;
use cenote_model::flags::Validate;
use cenote_model::secret::{SecretFilter, SecretId, SecretUsage, UsageKind};
use cenote_model::{Code, Uuid};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const UUID: &str = "11111111-2222-3333-4444-555555555555";

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn open(&self, access: Access) -> SecretStore {
        SecretStore::open(&Layout::under(self.0.path()), &Host::new(), access).unwrap()
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.0.path().join(format!("etc/libvirt/secrets/{UUID}.{ending}"))
    }

    fn configure(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join("etc/libvirt").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }
}

fn xml(ephemeral: &str, private: &str, volume: &str) -> String {
    format!(
        "<secret ephemeral='{ephemeral}' private='{private}'><uuid>{UUID}</uuid>\
         <usage type='volume'><volume>{volume}</volume></usage></secret>"
    )
}

fn define(store: &SecretStore, xml: &str) -> SecretId {
    store.define(xml, Validate::Strict).unwrap()
}

fn set(store: &SecretStore, uuid: &Uuid, value: &[u8]) {
    store.set_value(uuid, SecretValue::copy_of(value)).unwrap();
}

fn get(store: &SecretStore, uuid: &Uuid) -> Vec<u8> {
    store.value(uuid, Asker::Client).unwrap().expose().to_vec()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_secret_is_kept_in_libvirts_files() {
    let place = Place::new();
    let store = place.open(Access::Write);
    let events = store.events().subscribe();
    let id = define(&store, &xml("no", "no", "/v"));
    assert_eq!(store.value(&id.uuid, Asker::Client).unwrap_err().code, Code::NoSecret);
    set(&store, &id.uuid, b"opensesame");
    assert_eq!(get(&store, &id.uuid), b"opensesame");
    assert_eq!(fs::read(place.file("base64")).unwrap(), b"b3BlbnNlc2FtZQ==");
    assert_eq!((mode(&place.file("xml")), mode(&place.file("base64"))), (0o600, 0o600));
    assert_eq!(mode(place.file("xml").parent().unwrap()), 0o700);
    drop(store);

    let store = place.open(Access::Read);
    assert_eq!(get(&store, &id.uuid), b"opensesame");
    assert_eq!(store.of_volume("/v"), Some(id.uuid));
    let usage = SecretRef::Usage("/v".to_owned());
    assert_eq!(Secrets::value(&store, &usage, UsageKind::Volume).unwrap().expose(), b"opensesame");
    assert!(Secrets::value(&store, &usage, UsageKind::Ceph).is_err());
    let error = Secrets::value(&store, &SecretRef::Uuid(id.uuid), UsageKind::Ceph).unwrap_err();
    assert_eq!(error.code, Code::InvalidArg);
    assert!(store.undefine(&id.uuid).is_err(), "it was opened for reading");
    drop(store);

    let store = place.open(Access::Write);
    store.undefine(&id.uuid).unwrap();
    assert!(!place.file("xml").exists() && !place.file("base64").exists());
    assert_eq!(store.by_uuid(&id.uuid).unwrap_err().code, Code::NoSecret);
    let changes: Vec<_> = events.try_iter().map(|event| event.change).collect();
    assert_eq!(changes, [SecretChange::Defined, SecretChange::ValueChanged]);
}

#[test]
fn an_ephemeral_secret_is_never_on_disk() {
    let place = Place::new();
    let store = place.open(Access::Write);
    let id = define(&store, &xml("yes", "no", "/v"));
    set(&store, &id.uuid, b"opensesame");
    assert!(!place.file("xml").exists() && !place.file("base64").exists());

    define(&store, &xml("no", "no", "/v"));
    assert_eq!(fs::read(place.file("base64")).unwrap(), b"b3BlbnNlc2FtZQ==");
    define(&store, &xml("yes", "no", "/v"));
    assert!(!place.file("xml").exists() && !place.file("base64").exists());
    assert_eq!(get(&store, &id.uuid), b"opensesame");
    drop(store);
    assert!(place.open(Access::Write).by_uuid(&id.uuid).is_err());
}

#[test]
fn a_private_secret_is_for_this_machine_alone() {
    let place = Place::new();
    let store = place.open(Access::Write);
    let id = define(&store, &xml("no", "yes", "/v"));
    set(&store, &id.uuid, b"opensesame");
    assert_eq!(store.value(&id.uuid, Asker::Client).unwrap_err().code, Code::InvalidSecret);
    assert_eq!(store.value(&id.uuid, Asker::Machine).unwrap().expose(), b"opensesame");
    let error = store.define(&xml("no", "no", "/v"), Validate::Lax).unwrap_err();
    assert!(error.detail.contains("cannot change private flag"), "{error}");
}

#[test]
fn no_two_secrets_are_for_the_same() {
    let place = Place::new();
    let store = place.open(Access::Write);
    define(&store, &xml("no", "no", "/v"));
    let other = xml("no", "no", "/v").replace("1111-", "1112-");
    assert!(
        store.define(&other, Validate::Lax).unwrap_err().detail.contains("already defined for use with /v")
    );
    let error = store.define(&xml("no", "no", "/w"), Validate::Lax).unwrap_err();
    assert!(error.detail.contains("is already defined for use with /v"), "{error}");
    let usage = SecretUsage { kind: UsageKind::Ceph, id: "/v".to_owned() };
    assert!(store.by_usage(&usage).is_err());
}

#[test]
fn filters() {
    let place = Place::new();
    let store = place.open(Access::Write);
    for (i, (ephemeral, private)) in [("no", "no"), ("no", "yes"), ("yes", "no")].iter().enumerate() {
        let xml = xml(ephemeral, private, &format!("/{i}")).replace(&format!("<uuid>{UUID}</uuid>"), "");
        define(&store, &xml);
    }
    let count = |ephemeral, private| store.list(SecretFilter { ephemeral, private }).len();
    assert_eq!(count(None, None), 3);
    assert_eq!(count(Some(true), None), 1);
    assert_eq!(count(Some(false), None), 2);
    assert_eq!(count(Some(false), Some(true)), 1);
    assert_eq!(count(Some(true), Some(true)), 0);
}

#[test]
fn values_are_encrypted_at_rest_with_a_key_and_those_in_clear_are_still_read() {
    let place = Place::new();
    let id = {
        let store = place.open(Access::Write);
        let id = define(&store, &xml("no", "no", "/v"));
        set(&store, &id.uuid, b"opensesame");
        id
    };
    let key = place.configure("key", [7; 32]);
    let setting = format!("secrets_encryption_key = \"{}\"\n", key.display());
    let conf = place.configure("secret.conf", &setting);
    {
        let store = place.open(Access::Write);
        assert_eq!(get(&store, &id.uuid), b"opensesame");
        set(&store, &id.uuid, b"open barley");
        assert!(!place.file("base64").exists());
        assert_eq!(get(&store, &id.uuid), b"open barley");
        assert_eq!(mode(&place.file("aes256cbc")), 0o600);
    }
    // Another key, no key, a key that is none, and a setting that is none.
    fs::write(&key, [8; 32]).unwrap();
    let damaged =
        place.open(Access::Read).value(&id.uuid, Asker::Client).map(|value| value.expose().to_vec());
    assert_ne!(damaged.ok().as_deref(), Some(&b"open barley"[..]));
    fs::remove_file(&conf).unwrap();
    let error = place.open(Access::Read).value(&id.uuid, Asker::Client).unwrap_err();
    assert!(error.detail.contains("names no key"), "{error}");
    fs::write(&key, "short").unwrap();
    for (text, message) in [
        (setting.as_str(), "has 5 bytes, and must have 32"),
        ("encrypt_data = 1", "cannot read the encryption key"),
        ("encrypt_data = maybe", "encrypt_data is 0 or 1"),
    ] {
        fs::write(&conf, text).unwrap();
        let layout = Layout::under(place.0.path());
        let error = SecretStore::open(&layout, &Host::new(), Access::Read).err().unwrap();
        assert!(error.to_string().contains(message), "{error}");
    }
    fs::write(&conf, "encrypt_data = 0\nsecrets_encryption_key = \"/nonexistent\"\n").unwrap();
    let store = place.open(Access::Write);
    set(&store, &id.uuid, b"opensesame");
    assert!(place.file("base64").exists() && !place.file("aes256cbc").exists());
}

#[test]
fn what_a_crash_leaves_is_swept() {
    let place = Place::new();
    let id = {
        let store = place.open(Access::Write);
        let id = define(&store, &xml("no", "no", "/v"));
        set(&store, &id.uuid, b"opensesame");
        id
    };
    let temporary = place.file("base64.new");
    fs::write(&temporary, "half").unwrap();
    let orphan = place.file("base64").with_file_name(format!("{}.base64", UUID.replace('1', "9")));
    fs::write(&orphan, "b3BlbnNlc2FtZQ==").unwrap();
    let foreign = place.file("base64").with_file_name("notes.base64");
    fs::write(&foreign, "mine").unwrap();
    let store = place.open(Access::Write);
    assert!(!temporary.exists() && !orphan.exists() && foreign.exists());
    assert_eq!(get(&store, &id.uuid), b"opensesame");
}
