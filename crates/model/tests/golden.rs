//! Every example is read, written back to the same text, and, but for those with what is our own, valid by libvirt's own
//! schemas.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_model::flags::Validate;
use cenote_model::secret::SecretDef;
use cenote_model::volume::CapacityRule;
use cenote_model::{PoolDef, PoolKind, Result, VolumeDef};
use cenote_test_support::{have, have_file};
use std::path::{Path, PathBuf};
use std::process::Command;

fn examples(folder: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(folder);
    let mut examples: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read_to_string(path).unwrap()))
        .collect();
    examples.sort();
    assert!(!examples.is_empty());
    examples
}

fn check(folder: &str, schema: &str, round_trip: impl Fn(&Path, &str, Validate) -> Result<String>) {
    check_round_trips(folder, round_trip);
    validate(schema, examples(folder).iter().map(|(path, _)| path.as_path()));
}

fn check_round_trips(folder: &str, round_trip: impl Fn(&Path, &str, Validate) -> Result<String>) {
    for (path, text) in &examples(folder) {
        for validate in [Validate::Lax, Validate::Strict] {
            let written =
                round_trip(path, text, validate).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert_eq!(&written, text, "{}", path.display());
        }
        let extra = text.replacen("<name>", "<bogus/><name>", 1).replacen("<uuid>", "<bogus/><uuid>", 1);
        let error = round_trip(path, &extra, Validate::Strict).unwrap_err();
        assert_eq!(error.code, cenote_model::Code::XmlInvalidSchema, "{error}");
        round_trip(path, &extra, Validate::Lax).unwrap();
    }
}

fn validate<'p>(schema: &str, paths: impl Iterator<Item = &'p Path>) {
    let schema = Path::new("/usr/share/libvirt/schemas").join(schema);
    if !have("xmllint") || !have_file(schema.to_str().unwrap()) {
        return;
    }
    let output =
        Command::new("xmllint").arg("--noout").arg("--relaxng").arg(&schema).args(paths).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn pool(_: &Path, text: &str, validate: Validate) -> Result<String> {
    PoolDef::from_xml(text, validate).map(|def| def.to_xml())
}

#[test]
fn pools_with_what_libvirt_has_no_place_for() {
    check_round_trips("own", pool);
}

#[test]
fn pools() {
    check("pool", "storagepool.rng", pool);
    let covered: Vec<_> = examples("pool")
        .iter()
        .map(|(_, text)| PoolDef::from_xml(text, Validate::Lax).unwrap().kind)
        .collect();
    for kind in PoolKind::ALL {
        assert!(covered.contains(kind), "no example of {kind}");
    }
}

#[test]
fn volumes() {
    check("volume", "storagevol.rng", |path, text, validate| {
        let kind = path.file_stem().unwrap().to_str().unwrap().split('.').next().unwrap();
        let kind = PoolKind::from_name(kind).unwrap();
        VolumeDef::from_xml(text, kind, CapacityRule::UnlessBacked, validate).map(|def| def.to_xml())
    });
}

#[test]
fn secrets() {
    check("secret", "secret.rng", |_, text, validate| {
        SecretDef::from_xml(text, validate).map(|def| def.to_xml())
    });
}

#[test]
fn states_are_pools_in_an_envelope() {
    for (_, text) in examples("pool") {
        let def = PoolDef::from_xml(&text, Validate::Lax).unwrap();
        assert_eq!(PoolDef::from_state_xml(&def.to_state_xml()).unwrap(), def);
    }
}

#[test]
fn sources() {
    for (_, text) in examples("pool") {
        let def = PoolDef::from_xml(&text, Validate::Lax).unwrap();
        let list = [def.source.clone(), def.source];
        let xml = cenote_model::source::sources_to_xml(def.kind, &list);
        assert_eq!(cenote_model::source::sources_from_xml(&xml, def.kind).unwrap(), list);
    }
}

#[test]
fn capabilities_fit_their_schema() {
    let file = tempfile::NamedTempFile::with_suffix(".xml").unwrap();
    std::fs::write(file.path(), cenote_model::capabilities::to_xml(|kind| kind == PoolKind::Dir)).unwrap();
    validate("storagepoolcaps.rng", std::iter::once(file.path()));
}
