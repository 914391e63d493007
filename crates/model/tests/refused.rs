//! What libvirt refuses is refused with libvirt's code.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_model::flags::Validate;
use cenote_model::secret::SecretDef;
use cenote_model::volume::CapacityRule;
use cenote_model::{Code, PoolDef, PoolKind, VolumeDef};

fn refused_pool(kind: &str, inner: &str, code: Code, message: &str) {
    let xml = format!("<pool type='{kind}'>{inner}</pool>");
    let error = PoolDef::from_xml(&xml, Validate::Lax).expect_err(&xml);
    assert_eq!((error.code, error.detail.as_str()), (code, message), "{xml}");
}

#[test]
fn pools() {
    use Code::*;
    let t = "<target><path>/x</path></target>";
    let named = |inner: &str| format!("<name>p</name>{inner}");
    refused_pool("dir", t, XmlError, "missing pool source name element");
    refused_pool("dir", &format!("<name></name>{t}"), XmlError, "missing pool source name element");
    refused_pool("dir", &format!("<name>a/b</name>{t}"), XmlError, "name a/b cannot contain '/'");
    refused_pool("dir", &format!("<name>a\nb</name>{t}"), XmlDetail, "invalid char in name: \n");
    refused_pool("dir", &named(""), XmlError, "missing storage pool target path");
    refused_pool("dir", &named("<uuid>12</uuid>"), XmlError, "malformed uuid element");
    refused_pool(
        "dir",
        &named("<target><path>/x</path><permissions><mode>999</mode></permissions></target>"),
        XmlError,
        "malformed octal mode",
    );
    refused_pool(
        "dir",
        &named("<target><path>/x</path><permissions><owner>-2x</owner></permissions></target>"),
        XmlError,
        "malformed owner element",
    );
    refused_pool(
        "logical",
        &named("<features><cow state='yes'/></features>"),
        NoSupport,
        "cow feature may only be used for 'fs' and 'dir' pools",
    );
    refused_pool("fs", &named(t), XmlError, "missing storage pool source device name");
    refused_pool("disk", &named(t), XmlError, "missing storage pool source device name");
    let format = "<source><device path='/d'/><format type='nope'/></source>";
    refused_pool("fs", &named(format), ConfigUnsupported, "unknown pool format type nope");
    refused_pool(
        "fs",
        &named("<source><device/></source>"),
        XmlError,
        "missing storage pool source device path",
    );
    refused_pool("netfs", &named(t), XmlError, "missing storage pool source host name");
    refused_pool("netfs", &named("<source><host/></source>"), XmlError, "missing storage pool host name");
    refused_pool(
        "netfs",
        &named("<source><host name='h'/></source>"),
        XmlError,
        "missing storage pool source path",
    );
    refused_pool(
        "netfs",
        &named("<source><host name='h'/><dir path='/x'/><format type='cifs'/><protocol ver='3'/></source>"),
        ConfigUnsupported,
        "storage pool protocol ver unsupported for pool type 'cifs'",
    );
    refused_pool(
        "netfs",
        &named("<source><host name='h'/><dir path='/x'/><protocol ver='3,x'/></source>"),
        XmlDetail,
        "storage pool protocol ver '3,x' must not contain ','",
    );
    refused_pool("iscsi", &named(t), XmlError, "missing storage pool source host name");
    refused_pool(
        "iscsi-direct",
        &named("<source><host name='h'/><device path='iqn'/></source>"),
        ConfigUnsupported,
        "missing initiator IQN",
    );
    let secret = "<secret usage='u'/>";
    for (kind, target, code, message) in [
        ("chap", format!(">{secret}"), XmlError, "missing username for auth of the target"),
        ("chap", " username='t'>".to_owned(), XmlError, "missing <secret> element for auth of the target"),
        (
            "ceph",
            format!(" username='t'>{secret}"),
            ConfigUnsupported,
            "a target proves itself with auth type 'chap', not with 'ceph'",
        ),
    ] {
        let source = format!(
            "<source><host name='h'/><device path='iqn'/><auth type='{kind}' username='me'>{secret}\
             <c:target xmlns:c='urn:cenote:storagepool:1.0'{target}</c:target></auth></source>"
        );
        refused_pool("iscsi", &named(&source), code, message);
    }
    refused_pool("scsi", &named(t), XmlError, "missing storage pool source adapter");
    refused_pool(
        "scsi",
        &named("<source><adapter type='scsi_host'/></source>"),
        XmlError,
        "Either 'name' or 'parent' must be specified for the 'scsi_host' adapter",
    );
    refused_pool(
        "scsi",
        &named("<source><adapter type='fc_host' wwnn='1'/></source>"),
        XmlError,
        "'wwnn' and 'wwpn' must be specified for adapter type 'fchost'",
    );
    refused_pool(
        "scsi",
        &named("<source><adapter type='fc_host' wwnn='20000000c9831b4b' wwpn='zz'/></source>"),
        Internal,
        "Malformed wwn: zz",
    );
    refused_pool(
        "scsi",
        &named("<source><adapter name='h' parent='p'/></source>"),
        XmlError,
        "Use of 'wwnn', 'wwpn', and 'parent' attributes requires use of the adapter 'type'",
    );
    refused_pool(
        "rbd",
        &named("<source><host name='h'/></source>"),
        XmlError,
        "element 'name' is mandatory for RBD pool",
    );
    let rbd = |auth: &str| named(&format!("<source><name>r</name><host name='h'/>{auth}</source>"));
    refused_pool("rbd", &rbd("<auth type='ceph'/>"), XmlError, "missing username for auth");
    refused_pool(
        "rbd",
        &rbd("<auth type='ceph' username='u'/>"),
        XmlError,
        "Missing <secret> element in auth",
    );
    refused_pool(
        "rbd",
        &rbd("<auth type='ceph' username='u'><secret/></auth>"),
        XmlError,
        "missing secret uuid or usage attribute",
    );
    refused_pool(
        "rbd",
        &rbd("<auth type='no' username='u'><secret usage='x'/></auth>"),
        ConfigUnsupported,
        "unknown auth type 'no'",
    );
    refused_pool(
        "rbd",
        &rbd("<auth username='u'><secret usage='x'/></auth>"),
        ConfigUnsupported,
        "storage pool missing auth type",
    );
    refused_pool(
        "nope",
        &named(t),
        XmlError,
        "Invalid value for attribute 'type' in element 'pool': 'nope'.",
    );
    refused_pool("sheepdog", &named(""), XmlError, "missing storage pool source host name");
    refused_pool("gluster", &named(""), XmlError, "missing storage pool source host name");
    refused_pool("vstorage", &named(""), XmlError, "missing storage pool target path");
    refused_pool("mpath", &named(""), XmlError, "missing storage pool target path");

    let error = PoolDef::from_xml("<volume/>", Validate::Lax).unwrap_err();
    assert_eq!(error.to_string(), "XML error: expecting root element of 'pool', not 'volume'");
}

#[test]
fn volumes() {
    use Code::*;
    let refused = |inner: &str, code: Code, message: &str| {
        let xml = format!("<volume>{inner}</volume>");
        let error = VolumeDef::from_xml(&xml, PoolKind::Dir, CapacityRule::UnlessBacked, Validate::Lax)
            .expect_err(&xml);
        assert_eq!((error.code, error.detail.as_str()), (code, message), "{xml}");
    };
    let v = |inner: &str| format!("<name>v</name><capacity>1</capacity><target>{inner}</target>");
    refused("<capacity>1</capacity>", XmlError, "missing volume name element");
    refused(
        "<name>a/b</name><capacity>1</capacity>",
        OperationInvalid,
        "volume name 'a/b' cannot contain '/'",
    );
    refused("<name>v</name>", XmlError, "missing capacity element");
    refused("<name>v</name><capacity>x</capacity>", XmlError, "malformed capacity element");
    refused("<name>v</name><capacity>-1</capacity>", XmlError, "malformed capacity element");
    refused("<name>v</name><capacity unit='X'>1</capacity>", InvalidArg, "unknown suffix 'X'");
    refused("<name>v</name><capacity unit='E'>8</capacity>", Overflow, "value too large: 8E");
    refused(&v("<format type='ext4'/>"), ConfigUnsupported, "unknown volume format type ext4");
    refused(&v("<format type='none'/>"), ConfigUnsupported, "unknown volume format type none");
    refused(&v("<compat>abc</compat>"), XmlError, "forbidden characters in 'compat' attribute");
    refused(&v("<features><bogus/></features>"), ConfigUnsupported, "unsupported feature bogus");
    refused(&v("<encryption/>"), XmlError, "unknown volume encryption format");
    refused(
        &v("<encryption format='rot13'/>"),
        ConfigUnsupported,
        "unknown volume encryption format type rot13",
    );
    refused(
        &v("<encryption format='luks'><ivgen name='plain'/></encryption>"),
        XmlError,
        "ivgen element found, but cipher is missing",
    );
    refused(
        &v("<encryption format='luks'><cipher name='aes'/></encryption>"),
        XmlError,
        "Missing required attribute 'size' in element 'cipher'",
    );
}

#[test]
fn secrets() {
    let refused = |xml: &str, message: &str| {
        assert_eq!(SecretDef::from_xml(xml, Validate::Lax).expect_err(xml).detail, message, "{xml}");
    };
    refused("<secret ephemeral='maybe'/>", "invalid value of 'ephemeral'");
    refused("<secret><uuid>x</uuid></secret>", "malformed uuid element");
    refused("<secret><usage type='ceph'/></secret>", "Ceph usage specified, but name is missing");
    refused("<secret><usage/></secret>", "Missing required attribute 'type' in element 'usage'");
}
