//! The lab's machine, running.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nothing that the lab does takes so long.
const LIMIT: Duration = Duration::from_secs(25 * 60);
/// A boot takes a tenth of this. Under emulation the second processor's clock was seen not to tick from the start:
/// nothing goes on in such a machine, and it is switched on again.
const BOOT: Duration = Duration::from_secs(120);
const BOOTS: usize = 4;
/// How often it is looked what it says.
const POLL: Duration = Duration::from_millis(200);

/// The file that is made when it is up. What reboots it removes it.
pub(super) const UP: &str = "up";

/// The disks that it has besides its root, in MiB: virtio ones, which it finds as vdb to vde, one behind NVMe, one
/// behind SCSI, and one that SCSI shows twice, as a device with two paths.
const VIRTIO: [(&str, u64); 4] = [("vdb", 1024), ("vdc", 1024), ("vdd", 512), ("vde", 512)];
const NVME: (&str, u64) = ("nvme", 512);
const SCSI: (&str, u64) = ("scsi", 256);
const TWO_PATHS: (&str, u64) = ("paths", 256);

/// A machine with fresh disks, which are gone when the value is dropped.
pub(super) struct Machine {
    image: PathBuf,
    folder: PathBuf,
}

impl Machine {
    pub(super) fn new(image: PathBuf) -> Result<Machine, String> {
        let folder = std::env::temp_dir().join(format!("cenote-lab-{}", std::process::id()));
        let machine = Machine { image, folder };
        let failed = |e| format!("{}: {e}", machine.folder.display());
        fs::create_dir_all(machine.share("")).map_err(failed)?;
        for (name, mebibytes) in VIRTIO.into_iter().chain([NVME, SCSI, TWO_PATHS]) {
            let disk = File::create(machine.folder.join(name)).map_err(failed)?;
            disk.set_len(mebibytes << 20).map_err(failed)?;
        }
        let root = machine.image.join("root.img");
        let mut overlay = Command::new("qemu-img");
        overlay
            .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
            .arg(root)
            .arg(machine.folder.join("root"));
        crate::run(overlay)?;
        Ok(machine)
    }

    /// A file in the folder that the machine sees as `/share`.
    pub(super) fn share(&self, name: &str) -> PathBuf {
        self.folder.join("share").join(name)
    }

    /// Runs a script in it and returns all that it said.
    pub(super) fn run(&self, script: &str) -> Result<String, String> {
        self.write_script(&format!("touch /share/{UP}\n{script}"))?;
        let mut running = self.switch_on()?;
        let started = Instant::now();
        let (mut was_up, mut boots) = (started, 1);
        let (mut said, mut output) = (None, String::new());
        loop {
            let has_ended = running.0.try_wait().map_err(|e| e.to_string())?.is_some();
            if said.is_none() {
                said = File::open(self.share("out")).ok();
            }
            if let Some(said) = &mut said {
                let mut more = Vec::new();
                said.read_to_end(&mut more).map_err(|e| e.to_string())?;
                let more = String::from_utf8_lossy(&more);
                print!("{more}");
                let _ = std::io::stdout().flush();
                output.push_str(&more);
            }
            if has_ended {
                break;
            }
            if self.share(UP).exists() {
                was_up = Instant::now();
            } else if was_up.elapsed() > BOOT && boots < BOOTS {
                println!("the lab does not come up, and is switched on again");
                drop(running);
                running = self.switch_on()?;
                (was_up, boots) = (Instant::now(), boots + 1);
            }
            if started.elapsed() > LIMIT {
                return Err(format!("the lab does not come to an end\n{}", self.console()));
            }
            std::thread::sleep(POLL);
        }
        match self.share("ended").exists() {
            true => Ok(output),
            false => Err(format!("the lab broke off\n{}", self.console())),
        }
    }

    fn switch_on(&self) -> Result<Running, String> {
        let console = File::create(self.folder.join("console")).map_err(|e| format!("console: {e}"))?;
        let mut qemu = self.qemu();
        qemu.stdin(Stdio::null()).stdout(console.try_clone().map_err(|e| e.to_string())?).stderr(console);
        Ok(Running(qemu.spawn().map_err(|e| format!("qemu-system-x86_64: {e}"))?))
    }

    /// Gives a prompt in it.
    pub(super) fn shell(&self) -> Result<(), String> {
        self.write_script("setsid -w -c bash -i < /dev/ttyS0 > /dev/ttyS0 2>&1")?;
        crate::run(self.qemu())
    }

    fn write_script(&self, script: &str) -> Result<(), String> {
        fs::write(self.share("run"), script).map_err(|e| format!("{}: {e}", self.folder.display()))
    }

    fn console(&self) -> String {
        let console = fs::read(self.folder.join("console")).unwrap_or_default();
        let text = String::from_utf8_lossy(&console).into_owned();
        let lines: Vec<_> = text.lines().collect();
        lines.split_at(lines.len().saturating_sub(40)).1.join("\n")
    }

    fn qemu(&self) -> Command {
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args([
            "-M",
            "q35,accel=tcg",
            "-cpu",
            "max",
            "-smp",
            "2",
            "-m",
            "3072",
            "-nographic",
            "-nic",
            "none",
        ]);
        qemu.args(["-append", "console=ttyS0 root=/dev/vda rw init=/lab-init quiet"]);
        qemu.arg("-kernel").arg(self.image.join("kernel")).arg("-initrd").arg(self.image.join("initrd"));
        let share = format!("local,path={},mount_tag=share,security_model=none", self.share("").display());
        qemu.args(["-virtfs", &share]);
        let file = |name: &str| self.folder.join(name).display().to_string();
        qemu.args(["-drive", &format!("file={},if=virtio,format=qcow2", file("root"))]);
        for (name, _) in VIRTIO {
            qemu.args(["-drive", &format!("file={},if=virtio,format=raw,discard=unmap", file(name))]);
        }
        let drive = |id: &str, file: String| {
            format!("file={file},if=none,id={id},format=raw,discard=unmap,file.locking=off")
        };
        qemu.args(["-drive", &drive("n0", file(NVME.0)), "-device", "nvme,drive=n0,serial=lab-nvme"]);
        // Hosts of few addresses, so that looking for devices is quick; of one kind, so that disks get their names in order.
        qemu.args(["-device", "pvscsi,id=one", "-device", "pvscsi,id=two"]);
        qemu.args(["-drive", &drive("s0", file(SCSI.0))]);
        qemu.args(["-device", "scsi-hd,bus=one.0,drive=s0,serial=lab-scsi,wwn=0x5000000000000001"]);
        for path in ["p0", "p1"] {
            qemu.args(["-drive", &drive(path, file(TWO_PATHS.0))]);
            let device = "scsi-hd,bus=two.0,serial=lab-paths,wwn=0x5000000000000002,share-rw=on";
            qemu.args(["-device", &format!("{device},drive={path}")]);
        }
        qemu
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(Path::new(&self.folder));
    }
}

/// QEMU, until the value is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
