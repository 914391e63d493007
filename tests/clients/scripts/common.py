"""What the programs have in common: the event loop, and printing what a call gives."""

import threading

import libvirt

libvirt.virEventRegisterDefaultImpl()
libvirt.registerErrorHandler(lambda _context, _error: None, None)


def loop():
    while True:
        libvirt.virEventRunDefaultImpl()


threading.Thread(target=loop, daemon=True).start()


def say(what, value=None):
    print(f"{what}: {value}" if value is not None else what)


def tried(what, call):
    """Prints what a call gives, or the error: its code, domain and message."""
    try:
        value = call()
        if isinstance(value, (libvirt.virStoragePool, libvirt.virStorageVol)):
            say(what, value.name())
        elif isinstance(value, libvirt.virSecret):
            say(what, (value.UUIDString()[:8], value.usageType(), value.usageID()))
        else:
            say(what, value)
        return value
    except libvirt.libvirtError as e:
        say(what, f"error {e.get_error_code()} {e.get_error_domain()} {e.get_error_level()} {e.get_error_message()}")
        # Of a wrong argument libvirt says here in which of its functions that is.
        if e.get_str1() and "%" in e.get_str1():
            say("  parts", f"{e.get_str1()} | {e.get_str2()} | {e.get_int1()}")
        return None
