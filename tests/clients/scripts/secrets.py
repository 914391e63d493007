"""The secret API through python3-libvirt: prints what every call gives. Arguments: URI, a directory."""

import sys
import threading
import time

import libvirt

from common import say, tried

uri, root = sys.argv[1:]


def xml(number, usage="", ephemeral="no", private="no"):
    return (
        f"<secret ephemeral='{ephemeral}' private='{private}'>"
        f"<uuid>{number:08x}-1111-2222-3333-444444444444</uuid><description>number {number}</description>"
        f"{usage}</secret>"
    )


USAGES = [
    "<usage type='volume'><volume>/images/v</volume></usage>",
    "<usage type='ceph'><name>client.admin</name></usage>",
    "<usage type='iscsi'><target>t</target></usage>",
    "<usage type='tls'><name>n</name></usage>",
    "<usage type='vtpm'><name>n</name></usage>",
]

conn = libvirt.open(uri)
say("alive", conn.isAlive())
say("secure", conn.isSecure())

events = []
callbacks = [
    conn.secretEventRegisterAny(
        None,
        libvirt.VIR_SECRET_EVENT_ID_LIFECYCLE,
        lambda _c, secret, event, detail, _o: events.append((secret.UUIDString()[:8], event, detail)),
        None,
    ),
    conn.secretEventRegisterAny(
        None,
        libvirt.VIR_SECRET_EVENT_ID_VALUE_CHANGED,
        lambda _c, secret, _o: events.append((secret.UUIDString()[:8], "value")),
        None,
    ),
]
say("callbacks", callbacks)

for number, usage in enumerate(USAGES, 1):
    tried(f"define {number}", lambda: conn.secretDefineXML(xml(number, usage)))
tried("define without a usage", lambda: conn.secretDefineXML(xml(6)))
tried("define a private one", lambda: conn.secretDefineXML(xml(7, USAGES[0].replace("images/v", "images/private"), private="yes")))
tried("define an ephemeral one", lambda: conn.secretDefineXML(xml(8, USAGES[0].replace("images/v", "images/ephemeral"), "yes")))
tried("define again", lambda: conn.secretDefineXML(xml(1, USAGES[0])))
tried("define strictly", lambda: conn.secretDefineXML(xml(1, USAGES[0]), libvirt.VIR_SECRET_DEFINE_VALIDATE))
tried("define with unknown flags", lambda: conn.secretDefineXML(xml(1, USAGES[0]), 64))
tried("define for the same", lambda: conn.secretDefineXML(xml(9, USAGES[1])))
tried("define for another", lambda: conn.secretDefineXML(xml(1, USAGES[1])))
tried("define in the open", lambda: conn.secretDefineXML(xml(7, USAGES[0].replace("images/v", "images/private"))))

tried("number", conn.numOfSecrets)
tried("uuids", lambda: sorted(conn.listSecrets()))
for flags in range(17):
    tried(f"list {flags}", lambda: sorted(secret.UUIDString()[:8] for secret in conn.listAllSecrets(flags)))

secret = conn.secretLookupByUUIDString("00000001-1111-2222-3333-444444444444")
tried("by uuid", lambda: conn.secretLookupByUUID(secret.UUID()))
tried("by a uuid that there is not", lambda: conn.secretLookupByUUID(b"0123456789abcdef"))
for kind in range(7):
    tried(f"by usage {kind}", lambda: conn.secretLookupByUsage(kind, "n"))
tried("by usage", lambda: conn.secretLookupByUsage(libvirt.VIR_SECRET_USAGE_TYPE_VOLUME, "/images/v"))
tried("xml", secret.XMLDesc)
tried("xml with flags", lambda: secret.XMLDesc(1))

tried("value before there is one", secret.value)
for value in [b"opensesame", b"\x00\x01\xff\x00", b"v" * 65536]:
    tried("set", lambda: secret.setValue(value))
    tried("get", lambda: secret.value() == value)
tried("set too much", lambda: secret.setValue(b"v" * 65537))
tried("set with flags", lambda: secret.setValue(b"v", 1))
tried("get with flags", lambda: secret.value(1))

private = conn.secretLookupByUsage(libvirt.VIR_SECRET_USAGE_TYPE_VOLUME, "/images/private")
tried("set a private one", lambda: private.setValue(b"hidden"))
tried("get a private one", private.value)

ephemeral = conn.secretLookupByUsage(libvirt.VIR_SECRET_USAGE_TYPE_VOLUME, "/images/ephemeral")
tried("an ephemeral one before", ephemeral.value)
tried("set an ephemeral one", lambda: ephemeral.setValue(b"passing"))
tried("get an ephemeral one", ephemeral.value)
tried("make it persistent", lambda: conn.secretDefineXML(xml(8, USAGES[0].replace("images/v", "images/ephemeral"))))
tried("get it", ephemeral.value)
tried("make it ephemeral", lambda: conn.secretDefineXML(xml(8, USAGES[0].replace("images/v", "images/ephemeral"), "yes")))
tried("get it", ephemeral.value)

# Sixteen threads on one connection.
wrong = []


def work(number):
    mine = conn.secretDefineXML(xml(0x100 + number, f"<usage type='tls'><name>thread {number}</name></usage>"))
    for step in range(20):
        value = f"{number} {step}".encode()
        mine.setValue(value)
        if mine.value() != value:
            wrong.append((number, step))
    mine.undefine()


threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
say("wrong", wrong)

for number in range(1, 9):
    tried("undefine", conn.secretLookupByUUIDString(f"{number:08x}-1111-2222-3333-444444444444").undefine)
tried("undefine again", secret.undefine)
tried("value of what is gone", secret.value)
tried("xml of what is gone", secret.XMLDesc)
tried("set what is gone", lambda: secret.setValue(b"v"))
tried("number", conn.numOfSecrets)

deadline = time.time() + 10
while ("00000008", 1, 0) not in events and time.time() < deadline:
    time.sleep(0.01)
for event in events:
    if event[0] < "00000100":
        say("event", event)
say("events of threads", len([event for event in events if event[0] >= "00000100"]))
for callback in callbacks:
    conn.secretEventDeregisterAny(callback)

readonly = libvirt.openReadOnly(uri)
tried("read only: define", lambda: readonly.secretDefineXML(xml(1, USAGES[0])))
tried("read only: number", readonly.numOfSecrets)
say("closed", readonly.close())
say("closed", conn.close())
