//! LUKS volumes, with secrets as libvirt keeps them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_test_support::{Cenote, have, run};

const CENOTE: &str = env!("CARGO_BIN_EXE_cenote");
const UUID: &str = "2ec115d7-3a88-3ceb-bc12-0ac909a6fd87";
const PASSPHRASE: &str = "open sesame, please";

#[test]
fn a_secret_can_be_used_in_the_line_that_defines_it() {
    if !have("qemu-img") {
        return;
    }
    let cenote = Cenote::new(CENOTE);
    let write = |name: &str, content: &str| {
        let path = cenote.prefix().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    cenote.run(&["pool-list"]);
    let secret = write("s.xml", &format!("<secret><uuid>{UUID}</uuid></secret>"));
    let volume = write(
        "v.xml",
        &format!(
            "<volume><name>v</name><capacity unit='M'>1</capacity><target><encryption format='luks'>\
             <secret type='passphrase' uuid='{UUID}'/></encryption></target></volume>"
        ),
    );
    let (value, empty) = (write("value", PASSPHRASE), write("empty", ""));
    cenote.run(&[&format!(
        "secret-define {secret}; secret-set-value {UUID} --plain --file {value}; vol-create default {volume}"
    )]);
    assert!(cenote.run(&["vol-dumpxml", "v", "default"]).contains("<encryption format='luks'>"));

    // A pipe holds a value as well as a file does, and what is empty is none.
    let piped = format!(
        "printf another | {CENOTE} --prefix {} secret-set-value {UUID} --plain --file /dev/stdin",
        cenote.prefix().display()
    );
    run("sh", &["-c", &piped]);
    assert_eq!(cenote.run(&["-q", "secret-get-value", UUID, "--plain"]), "another");
    let refused = cenote.fail(&["secret-set-value", UUID, "--plain", "--file", &empty]);
    assert!(refused.contains("must not be NULL"), "{refused}");
    assert_eq!(cenote.run(&["-q", "secret-get-value", UUID, "--plain"]), "another");
}

#[test]
fn luks_volumes_are_made_grown_and_copied() {
    if !have("qemu-img") || !have("base64") {
        return;
    }
    let cenote = Cenote::new(CENOTE);
    cenote.run(&["pool-list"]);
    let secrets = cenote.prefix().join("etc/libvirt/secrets");
    std::fs::create_dir_all(&secrets).unwrap();
    let path = cenote.images().join("raw");
    let xml = format!(
        "<secret ephemeral='no' private='yes'><uuid>{UUID}</uuid><usage type='volume'><volume>{}</volume></usage></secret>",
        path.display()
    );
    std::fs::write(secrets.join(format!("{UUID}.xml")), xml).unwrap();
    let key = cenote.prefix().join("key");
    std::fs::write(&key, PASSPHRASE).unwrap();
    let encoded = run("base64", &["-w0", key.to_str().unwrap()]);
    std::fs::write(secrets.join(format!("{UUID}.base64")), encoded).unwrap();

    let volume = |name: &str, format: &str, capacity: &str| {
        let xml = cenote.prefix().join("v.xml");
        let text = format!(
            "<volume><name>{name}</name><capacity unit='MiB'>{capacity}</capacity><target><format type='{format}'/>             <encryption format='luks'><secret type='passphrase' uuid='{UUID}'/>             <cipher name='aes' size='128' mode='cbc' hash='sha256'/><ivgen name='essiv' hash='sha256'/></encryption>             </target></volume>"
        );
        std::fs::write(&xml, text).unwrap();
        xml.to_str().unwrap().to_owned()
    };
    let opens = |name: &str, driver: &str, prefix: &str| {
        let image = format!(
            "driver={driver},{prefix}key-secret=s,file.filename={}",
            cenote.images().join(name).display()
        );
        let object = format!("secret,id=s,file={}", key.display());
        run("qemu-io", &["--object", &object, "--image-opts", "-c", "read 0 64k", &image])
    };

    cenote.run(&["vol-create", "default", &volume("raw", "raw", "10")]);
    opens("raw", "luks", "");
    cenote.run(&["vol-create", "default", &volume("inner", "qcow2", "10")]);
    opens("inner", "qcow2", "encrypt.");
    let shown = cenote.run(&["vol-dumpxml", "raw", "default"]);
    assert!(shown.contains("<encryption format='luks'>"), "{shown}");
    assert!(shown.contains(&format!("<secret type='passphrase' uuid='{UUID}'/>")), "{shown}");
    assert!(shown.contains("<capacity unit='bytes'>10485760</capacity>"), "without the header: {shown}");

    cenote.run(&["vol-resize", "raw", "20M", "default"]);
    assert!(cenote.run(&["vol-info", "raw", "default"]).contains("20.00 MiB"));
    opens("raw", "luks", "");

    // From plain to encrypted, and back.
    cenote.run(&["vol-create-as", "default", "plain", "5M", "--allocation", "0"]);
    std::fs::write(cenote.images().join("plain"), vec![0x5a; 5 << 20]).unwrap();
    let xml = volume("sealed", "raw", "5");
    cenote.run(&["vol-create-from", "default", &xml, "plain", "--inputpool", "default"]);
    let sealed = std::fs::read(cenote.images().join("sealed")).unwrap();
    assert!(!sealed.windows(64).any(|w| w == [0x5a; 64]), "the data is readable");
    opens("sealed", "luks", "");

    // The passphrase is nowhere but where it was put.
    for entry in ["etc/libvirt/storage", "run/libvirt/storage"] {
        for name in Cenote::names(&cenote.prefix().join(entry)) {
            let content = std::fs::read(cenote.prefix().join(entry).join(name)).unwrap_or_default();
            assert!(!content.windows(PASSPHRASE.len()).any(|w| w == PASSPHRASE.as_bytes()));
        }
    }

    let missing = volume("v", "raw", "1");
    let text =
        std::fs::read_to_string(&missing).unwrap().replace(UUID, "00000000-0000-0000-0000-000000000001");
    std::fs::write(&missing, text).unwrap();
    let said = cenote.fail(&["vol-create", "default", &missing]);
    assert!(said.contains("Secret not found"), "{said}");
    assert!(!cenote.images().join("v").exists());
}
