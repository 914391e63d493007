"""The storage API through python3-libvirt: prints what every call gives. Arguments: URI, a directory."""

import sys
import threading
import time

import libvirt

from common import say, tried

uri, root = sys.argv[1:]


def refused(what, call):
    """Prints the code and domain of the error that a call gives: the message is not libvirt's own."""
    try:
        call()
        say(what, "not refused")
    except libvirt.libvirtError as e:
        say(what, f"error {e.get_error_code()} {e.get_error_domain()}")


conn = libvirt.open(uri)
closed = lambda *args: None
conn.registerCloseCallback(closed, None)
conn.setKeepAlive(5, 3)
say("alive", conn.isAlive())
say("secure", conn.isSecure())
say("encrypted", conn.isEncrypted())
say("type", conn.getType())
say("version", conn.getLibVersion())
# What storage does not have is refused in libvirt's words.
for name in ["getVersion", "getSysinfo", "getInfo"]:
    tried(name, getattr(conn, name))
tried("getMaxVcpus", lambda: conn.getMaxVcpus(None))
capabilities = conn.getCapabilities()
say("capabilities", capabilities.splitlines()[:5] + capabilities.splitlines()[-4:])

events = []
callbacks = [
    conn.storagePoolEventRegisterAny(
        None,
        libvirt.VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE,
        lambda _c, pool, event, detail, _o: events.append((pool.name(), event, detail)),
        None,
    ),
    conn.storagePoolEventRegisterAny(
        None,
        libvirt.VIR_STORAGE_POOL_EVENT_ID_REFRESH,
        lambda _c, pool, _o: events.append((pool.name(), "refresh")),
        None,
    ),
]
say("callbacks", callbacks)

XML = f"<pool type='dir'><name>py</name><target><path>{root}/py</path></target></pool>"
pool = conn.storagePoolDefineXML(XML, 0)
tried("define with unknown flags", lambda: conn.storagePoolDefineXML(XML, 64))
tried("define strictly", lambda: conn.storagePoolDefineXML(XML, libvirt.VIR_STORAGE_POOL_DEFINE_VALIDATE))
say("active", pool.isActive())
say("persistent", pool.isPersistent())
say("info", pool.info()[0])
tried("volumes of an inactive pool", pool.listVolumes)
tried("refresh an inactive pool", lambda: pool.refresh(0))
tried("build", lambda: pool.build(0))
tried("build both ways", lambda: pool.build(12))
tried("create", lambda: pool.create(0))
tried("create again", lambda: pool.create(0))
tried("build an active pool", lambda: pool.build(0))
say("autostart", pool.autostart())
tried("set autostart", lambda: pool.setAutostart(1))
say("autostart", pool.autostart())
tried("set autostart", lambda: pool.setAutostart(0))
say("active", pool.isActive())
say("state", pool.info()[0])
tried("xml with flags", lambda: pool.XMLDesc(2))
say("same", conn.storagePoolLookupByUUIDString(pool.UUIDString()).name())
say("same", conn.storagePoolLookupByUUID(pool.UUID()).name())
tried("by target path", lambda: conn.storagePoolLookupByTargetPath(f"{root}/py/"))
tried("by target path", lambda: conn.storagePoolLookupByTargetPath("/nowhere"))
tried("by name", lambda: conn.storagePoolLookupByName("nosuch"))
tried("by uuid", lambda: conn.storagePoolLookupByUUIDString("00000000-0000-0000-0000-000000000001"))

other = conn.storagePoolCreateXML(
    f"<pool type='dir'><name>other</name><target><path>{root}/other</path></target></pool>",
    libvirt.VIR_STORAGE_POOL_CREATE_WITH_BUILD,
)
say("persistent", other.isPersistent())
for name, flags in [
    ("all", 0),
    ("active", libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE),
    ("inactive", libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_INACTIVE),
    ("transient", libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_TRANSIENT),
    ("persistent", libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_PERSISTENT),
    ("autostart", libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_AUTOSTART),
    ("dir", libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_DIR),
    ("iscsi-direct", libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ISCSI_DIRECT),
    ("rbd or dir", libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_RBD | libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_DIR),
]:
    say(f"pools {name}", sorted(p.name() for p in conn.listAllStoragePools(flags)))
tried("pools with unknown flags", lambda: conn.listAllStoragePools(1 << 25))
say("legacy", (sorted(conn.listStoragePools()), conn.numOfStoragePools()))
say("legacy, defined", (sorted(conn.listDefinedStoragePools()), conn.numOfDefinedStoragePools()))

MIB = 1 << 20


def volume_xml(name, capacity, kind="raw", allocation=0):
    return (
        f"<volume><name>{name}</name><capacity>{capacity}</capacity><allocation>{allocation}</allocation>"
        f"<target><format type='{kind}'/></target></volume>"
    )


raw = pool.createXML(volume_xml("raw", 4 * MIB), 0)
qcow2 = pool.createXML(volume_xml("qcow2", 64 * MIB, "qcow2"), libvirt.VIR_STORAGE_VOL_CREATE_PREALLOC_METADATA)
tried("create again", lambda: pool.createXML(volume_xml("raw", 1), 0))
tried("create with unknown flags", lambda: pool.createXML(volume_xml("x", 1), 128))
refused("create from nonsense", lambda: pool.createXML("<volume", 0))
refused("define nonsense", lambda: conn.storagePoolDefineXML("<pool", 0))
refused("define a wrong type", lambda: conn.storagePoolDefineXML("<pool type='x'/>", 0))
tried("create with a bad name", lambda: pool.createXML(volume_xml("a/b", 1), 0))
tried("create strictly", lambda: pool.createXML(volume_xml("strict", 1), libvirt.VIR_STORAGE_VOL_CREATE_VALIDATE))
say("volumes", sorted(v.name() for v in pool.listAllVolumes(0)))
say("legacy", (sorted(pool.listVolumes()), pool.numOfVolumes()))
tried("volumes with flags", lambda: pool.listAllVolumes(1))
for volume in (raw, qcow2):
    info = volume.info()
    say("info", (info[0], info[1]))
    say("physical", volume.infoFlags(libvirt.VIR_STORAGE_VOL_GET_PHYSICAL)[2] > 0)
    say("path", volume.path())
    say("key", volume.key())
    say("pool", volume.storagePoolLookupByVolume().name())
tried("info with flags", lambda: raw.infoFlags(8))
tried("xml with flags", lambda: raw.XMLDesc(1))
tried("by key", lambda: conn.storageVolLookupByKey(raw.key()))
tried("by path", lambda: conn.storageVolLookupByPath(raw.path()))
tried("by name", lambda: pool.storageVolLookupByName("nosuch"))
tried("by key", lambda: conn.storageVolLookupByKey("nosuch"))
tried("by path", lambda: conn.storageVolLookupByPath("/no/such"))

tried("resize", lambda: raw.resize(8 * MIB, 0))
tried("resize by", lambda: raw.resize(MIB, libvirt.VIR_STORAGE_VOL_RESIZE_DELTA))
tried("shrink", lambda: raw.resize(4 * MIB, 0))
tried("shrink", lambda: raw.resize(4 * MIB, libvirt.VIR_STORAGE_VOL_RESIZE_SHRINK))
tried("resize with unknown flags", lambda: raw.resize(MIB, 64))
say("capacity", raw.info()[1])

# Streams: blocking ones with handlers, by hand, sparse ones, and one that ends early.
content = bytes(range(256)) * 4096 * 4


def upload(volume, data, flags=0, offset=0, length=0):
    stream = conn.newStream(0)
    volume.upload(stream, offset, length, flags)
    position = [0]

    def source(_stream, count, _opaque):
        piece = data[position[0] : position[0] + count]
        position[0] += len(piece)
        return piece

    stream.sendAll(source, None)
    stream.finish()


def download(volume, offset=0, length=0):
    stream = conn.newStream(0)
    volume.download(stream, offset, length, 0)
    pieces = []
    stream.recvAll(lambda _stream, data, _opaque: pieces.append(data), None)
    stream.finish()
    return b"".join(pieces)


upload(raw, content)
say("downloaded the same", download(raw) == content)
say("a part", download(raw, 1000, 5000) == content[1000:6000])
upload(raw, b"in the middle", offset=2000, length=13)
say("a part", download(raw, 1995, 20) == (content[1995:2000] + b"in the middle" + content[2013:2015]))
tried("upload with flags", lambda: raw.upload(conn.newStream(0), 0, 0, 64))
tried("download with flags", lambda: raw.download(conn.newStream(0), 0, 0, 64))

stream = conn.newStream(0)
raw.download(stream, 0, 0, 0)
say("first piece", stream.recv(1000) == download(raw, 0, 1000))
stream.abort()
stream = conn.newStream(0)
raw.upload(stream, 0, 0, 0)
stream.send(b"left behind")
stream.abort()
say("after an abort", raw.info()[1])

sparse = pool.createXML(volume_xml("sparse", 8 * MIB), 0)
stream = conn.newStream(0)
sparse.upload(stream, 0, 0, libvirt.VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM)
stream.sendHole(3 * MIB, 0)
stream.send(b"x" * 4096)
stream.sendHole(5 * MIB - 4096, 0)
stream.finish()
stream = conn.newStream(0)
sparse.download(stream, 0, 0, libvirt.VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM)
parts = []
while True:
    piece = stream.recvFlags(65536, libvirt.VIR_STREAM_RECV_STOP_AT_HOLE)
    if piece == -3:
        parts.append(("hole", stream.recvHole(0)))
    elif len(piece) == 0:
        break
    else:
        parts.append(("data", len(piece), piece == b"x" * len(piece)))
stream.finish()
say("parts", parts)
say("all of it", download(sparse) == bytes(3 * MIB) + b"x" * 4096 + bytes(5 * MIB - 4096))

# A stream that does not block, driven by events.
stream = conn.newStream(libvirt.VIR_STREAM_NONBLOCK)
raw.download(stream, 0, 0, 0)
got, done = [], threading.Event()


def readable(stream, events, _opaque):
    while not done.is_set():
        piece = stream.recv(65536)
        if piece == -2:
            return
        if len(piece) == 0:
            stream.eventRemoveCallback()
            stream.finish()
            done.set()
            return
        got.append(piece)


stream.eventAddCallback(libvirt.VIR_STREAM_EVENT_READABLE, readable, None)
say("not blocking", done.wait(30))
say("the same", b"".join(got) == download(raw))

copy = pool.createXMLFrom(volume_xml("copy", 4 * MIB), raw, 0)
say("copied", download(copy) == download(raw))
across = other.createXMLFrom(volume_xml("across", 4 * MIB), raw, 0)
say("copied to another pool", download(across) == download(raw))
tried("wipe", lambda: copy.wipe(0))
say("wiped", download(copy) == bytes(4 * MIB))
tried("wipe by an unknown algorithm", lambda: copy.wipePattern(77, 0))
tried("wipe with flags", lambda: copy.wipe(1))
for volume in (copy, across, sparse, qcow2):
    tried("delete", lambda: volume.delete(0))
tried("delete with unknown flags", lambda: raw.delete(64))

# Sixteen threads on one connection.
problems = []


def work(number):
    try:
        for turn in range(10):
            volume = pool.createXML(volume_xml(f"t{number}-{turn}", MIB), 0)
            upload(volume, content[: number * 1000 + 1])
            assert download(volume, 0, number * 1000 + 1) == content[: number * 1000 + 1]
            assert volume.info()[1] == MIB
            assert volume.name() in [other.name() for other in pool.listAllVolumes()]
            volume.delete(0)
    except Exception as e:  # What went wrong is the result.
        problems.append(repr(e))


threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
say("threads", problems)
say("volumes", sorted(pool.listVolumes()))

tried("refresh", lambda: pool.refresh(0))
tried("refresh with flags", lambda: pool.refresh(1))
tried("undefine an active pool", pool.undefine)
tried("delete an active pool", lambda: pool.delete(0))
tried("destroy", other.destroy)
tried("destroy again", other.destroy)
tried("delete a volume", lambda: raw.delete(0))
pool.storageVolLookupByName("strict").delete(0)
tried("destroy", pool.destroy)
tried("delete", lambda: pool.delete(0))
tried("undefine", pool.undefine)
tried("undefine again", pool.undefine)

deadline = time.time() + 10
while ("py", 1, 0) not in events and time.time() < deadline:
    time.sleep(0.01)
# A refresh after an upload is left out while others go on.
for event in events:
    if "refresh" not in event:
        say("event", event)
say("refreshes", ("py", "refresh") in events)
for callback in callbacks:
    conn.storagePoolEventDeregisterAny(callback)
conn.unregisterCloseCallback()

readonly = libvirt.openReadOnly(uri)
tried("read only", lambda: readonly.storagePoolDefineXML(XML, 0))
say("pools", [p.name() for p in readonly.listAllStoragePools(0)])
say("closed", readonly.close())
say("closed", conn.close())
