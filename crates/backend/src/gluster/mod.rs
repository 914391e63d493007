//! `gluster`: the files in a directory of a Gluster volume, by libgfapi and without mounting it.

mod content;

use crate::servers::Kept;
use crate::{
    Access, Content, Driver, Earlier, Environment, Found, Growth, Pool, VolumeIo, Volumes, error, images,
    needs, servers, waiting,
};
use cenote_host::Undo;
use cenote_host::gfapi::{self, GlusterFile, GlusterVolume, Server};
use cenote_image::{ReadAt, WriteAt, probe, qcow2, raw};
use cenote_model::flags::{CreateOptions, WipeAlgorithm};
use cenote_model::format::{ImageFormat, VolumeFormat};
use cenote_model::source::{Host as ServerName, Source};
use cenote_model::volume::{BackingStore, VolumeKind};
use cenote_model::{Code, Error, Job, Name, PoolDef, PoolKind, Result, VolumeDef};
use content::FileIo;
use rustix::fs::FileType;
use rustix::io::Errno;
use std::io;
use std::sync::Arc;

pub(crate) const DRIVER: Driver = Driver {
    kind: PoolKind::Gluster,
    is_supported: |host| needs::are_met(PoolKind::Gluster, host),
    open,
    find_sources: Some(find_sources),
};

/// The modes of files and directories where none is asked for.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o711;
/// So many files are looked into at once.
const WORKERS: usize = 8;
/// What the names of files begin with that are not complete.
const HIDDEN: &str = ".cenote-";
/// Files are wiped in steps of this size.
const STEP: u64 = 4 << 20;

struct Gluster {
    servers: Vec<ServerName>,
    volume: String,
    /// The directory, with a slash at its beginning and its end.
    dir: String,
    environment: Environment,
    connection: Kept<GlusterVolume>,
}

fn open(def: &PoolDef, environment: &Environment) -> Result<Box<dyn Pool>> {
    let volume = def.source.name.clone().unwrap_or_default();
    if volume.contains('/') {
        return Err(Error::new(Code::XmlError, format!("gluster pool name '{volume}' must not contain /")));
    }
    let dir = def.source.dir.as_deref().unwrap_or("/");
    if !dir.starts_with('/') {
        return Err(Error::new(Code::XmlError, format!("gluster pool path '{dir}' must start with /")));
    }
    let dir = if dir.ends_with('/') { dir.to_owned() } else { format!("{dir}/") };
    let servers = def.source.hosts.clone();
    if servers.is_empty() {
        return Err(Error::new(Code::XmlError, "missing storage pool source host name"));
    }
    let environment = environment.clone();
    Ok(Box::new(Gluster { servers, volume, dir, environment, connection: Kept::new() }))
}

/// The volumes of a server, by its own program.
fn find_sources(question: Option<&Source>, environment: &Environment) -> Result<Vec<Source>> {
    let [server, ..] = question.map(|question| question.hosts.as_slice()).unwrap_or_default() else {
        return Err(Error::new(Code::InvalidArg, "hostname must be specified for gluster sources"));
    };
    if server.name.starts_with('-') {
        return Err(Error::new(
            Code::InvalidArg,
            format!("'{}' cannot be the name of a server", server.name),
        ));
    }
    let remote = format!("--remote-host={}", server.name);
    let args = ["--mode=script", "--log-file=/dev/null", &remote, "volume", "list"];
    let job = waiting::look("looking for volumes");
    let gluster = environment.host.tool("gluster").map_err(error::tool)?;
    let printed = gluster.args(args).run(&job).map_err(error::tool)?;
    let names = String::from_utf8_lossy(&printed);
    let source = |name: &str| Source {
        hosts: vec![server.clone()],
        name: Some(name.to_owned()),
        dir: Some("/".to_owned()),
        ..Source::of(PoolKind::Gluster)
    };
    Ok(names.lines().map(str::trim).filter(|name| !name.is_empty()).map(source).collect())
}

/// A path as it stands in a URI.
fn escaped(path: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!~*'()/;:@&=+$,".contains(&byte);
    path.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

impl Gluster {
    /// What a volume is called, as QEMU takes it.
    fn uri_of(&self, name: &str) -> String {
        let [server, ..] = self.servers.as_slice() else { return String::new() };
        let port = server.port.filter(|port| *port != 0).map(|port| format!(":{port}")).unwrap_or_default();
        let path = escaped(&format!("/{}{}{name}", self.volume, self.dir));
        format!("gluster://{}{port}{path}", server.name)
    }

    fn path_of(&self, name: &str) -> String {
        format!("{}{name}", self.dir)
    }

    fn server_names(&self) -> String {
        self.servers.iter().map(|server| server.name.as_str()).collect::<Vec<_>>().join(",")
    }

    /// The connection, which is kept: ending one takes ten seconds.
    fn connect(&self) -> Result<Arc<GlusterVolume>> {
        self.connection.get(|| {
            let servers = self.servers.iter();
            let servers: Vec<_> =
                servers.map(|server| Server { name: &server.name, port: server.port.unwrap_or(0) }).collect();
            GlusterVolume::connect(&self.volume, &servers).map_err(|e| {
                Error::system(format!("failed to connect to {}", self.uri_of("").trim_end_matches('/')), &e)
            })
        })
    }

    fn failed(&self, what: &str, error: &io::Error) -> Error {
        Error::system(format!("{what} on {}", self.server_names()), error)
    }

    /// The volume of this name; `None` if there is none.
    fn describe(&self, gluster: &Arc<GlusterVolume>, name: Name) -> Result<Option<VolumeDef>> {
        let (uri, path) = (self.uri_of(name.as_str()), self.path_of(name.as_str()));
        let failed = |what: &str, e| self.failed(&format!("cannot {what} '{uri}'"), &e);
        let found = match gluster.stat(&path) {
            Ok(found) => found,
            // Gone, or a link that leads nowhere.
            Err(e) if is_absent(&e) => return Ok(None),
            Err(e) => return Err(failed("stat", e)),
        };
        let mut volume = VolumeDef {
            kind: VolumeKind::Network,
            key: Some(uri.clone()),
            physical: None,
            ..VolumeDef::file(name, uri.clone())
        };
        volume.permissions = found.permissions;
        volume.timestamps = Some(found.timestamps);
        volume.capacity = Some(found.size);
        volume.allocation = Some(found.allocated);
        match found.kind {
            FileType::Directory => {
                volume.kind = VolumeKind::NetDir;
                volume.format = Some(VolumeFormat::Image(ImageFormat::Dir));
                volume.capacity = Some(0);
                volume.allocation = Some(0);
                return Ok(Some(volume));
            }
            FileType::RegularFile => {}
            _ => return Ok(None),
        }
        let file = match gluster.open(&path, gfapi::Access::Read) {
            Ok(file) => file,
            Err(e) if is_absent(&e) => return Ok(None),
            Err(e) => return Err(failed("open volume", e)),
        };
        volume.physical = Some(found.size).filter(|size| *size != 0);
        // A file whose header cannot be read is still a volume.
        if let Ok(facts) = probe::probe_named(&file, volume.name.as_str()) {
            volume.capacity = facts.capacity.filter(|capacity| *capacity != 0).or(volume.capacity);
            volume.format = Some(VolumeFormat::Image(facts.format));
            let backing = images::fill_in(&mut volume, facts, &self.environment);
            volume.backing = backing.map(|backing| BackingStore {
                path: backing.name,
                format: Some(VolumeFormat::Image(backing.format.unwrap_or(ImageFormat::Raw))),
                permissions: Default::default(),
                timestamps: None,
            });
        }
        Ok(Some(volume))
    }

    fn open_file(&self, volume: &VolumeDef, access: gfapi::Access) -> Result<GlusterFile> {
        let name = volume.name.as_str();
        if volume.kind == VolumeKind::NetDir {
            return Err(Error::new(
                Code::NoSupport,
                format!("'{}' is a directory, which has no content of its own", self.uri_of(name)),
            ));
        }
        self.connect()?
            .open(&self.path_of(name), access)
            .map_err(|e| self.failed(&format!("cannot open volume '{}'", self.uri_of(name)), &e))
    }

    /// Makes a file under a hidden name, and gives it its own when it is complete. What an earlier attempt left, whose server
    /// went away, is replaced.
    fn make(&self, planned: &VolumeDef, fill: impl FnOnce(&GlusterFile) -> Result<()>) -> Result<()> {
        let name = planned.name.as_str();
        let (path, hidden) = (self.path_of(name), self.path_of(&format!("{HIDDEN}{name}")));
        let failed = |e| self.failed(&format!("cannot create volume '{}'", self.uri_of(name)), &e);
        let gluster = self.connect()?;
        if gluster.stat(&path).is_ok() {
            return Err(failed(io::ErrorKind::AlreadyExists.into()));
        }
        let file = match gluster.create(&hidden, FILE_MODE) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                gluster.remove_file(&hidden).and_then(|()| gluster.create(&hidden, FILE_MODE))
            }
            created => created,
        }
        .map_err(failed)?;
        // The hidden name goes in any case.
        let mut undo = Undo::new();
        undo.push(|| drop(gluster.remove_file(&hidden)));
        fill(&file)?;
        gluster.link(&hidden, &path).map_err(failed)
    }

    /// Makes the new file one with the content of another.
    fn copy(&self, from: &GlusterFile, to: &GlusterFile, planned: &VolumeDef, job: &Job) -> Result<()> {
        let uri = self.uri_of(planned.name.as_str());
        let failed = |e| self.failed(&format!("cannot copy to volume '{uri}'"), &e);
        let size = from.size().map_err(failed)?;
        let is_raw = planned.image_format() == ImageFormat::Raw;
        let whole = if is_raw { size.max(planned.capacity.unwrap_or(0)) } else { size };
        to.set_size(whole).map_err(failed)?;
        job.expect(size);
        let mut buffer = vec![0; STEP as usize];
        let mut done = 0;
        while done < size
            && let Some((mut offset, end)) = from.next_data(done, size).map_err(failed)?
        {
            while offset < end {
                let want = STEP.min(end - offset) as usize;
                let read = from.read_at(&mut buffer[..want], offset).map_err(failed)?;
                if read == 0 {
                    return Err(failed(io::ErrorKind::UnexpectedEof.into()));
                }
                to.write_all_at(&buffer[..read], offset).map_err(failed)?;
                offset += read as u64;
                job.advance(offset - done)?;
                done = offset;
            }
        }
        let permissions = &planned.permissions;
        to.set_permissions(permissions.mode.unwrap_or(FILE_MODE), permissions.owner, permissions.group)
            .and_then(|()| to.sync())
            .map_err(failed)
    }

    /// Writes what the new file shall have in it.
    fn fill(&self, file: &GlusterFile, planned: &VolumeDef, options: CreateOptions, job: &Job) -> Result<()> {
        let uri = self.uri_of(planned.name.as_str());
        let failed = |e: cenote_image::Error| error::image(format!("cannot create volume '{uri}'"), e);
        let capacity = planned.capacity.unwrap_or(0);
        let allocation = planned.allocation.unwrap_or(capacity).min(capacity);
        if planned.image_format() == ImageFormat::Qcow2 {
            let preallocation = images::preallocation(planned, capacity, options);
            let wanted = images::qcow2_options(planned, capacity)?;
            qcow2::create(file, &wanted, preallocation, job).map_err(failed)?;
            // QEMU reads whole clusters, and beyond the end of a file of Gluster's there is nothing.
            let size = file.size().map_err(|e| failed(e.into()))?;
            file.set_size(size.next_multiple_of(wanted.cluster_size)).map_err(|e| failed(e.into()))?;
        } else {
            file.set_size(capacity).map_err(|e| failed(e.into()))?;
            raw::reserve(file, 0, allocation, job).map_err(failed)?;
        }
        let permissions = &planned.permissions;
        file.set_permissions(permissions.mode.unwrap_or(FILE_MODE), permissions.owner, permissions.group)
            .and_then(|()| file.sync())
            .map_err(|e| self.failed(&format!("cannot create volume '{uri}'"), &e))
    }
}

fn resize_raw(file: &GlusterFile, capacity: u64, growth: Growth, job: &Job) -> cenote_image::Result<()> {
    let size = file.size()?;
    file.set_size(capacity)?;
    if growth == Growth::Allocated && capacity > size {
        raw::reserve(file, size, capacity - size, job).inspect_err(|_| drop(file.set_size(size)))?;
    }
    Ok(file.sync()?)
}

fn is_absent(error: &io::Error) -> bool {
    let absent = [Errno::NOENT, Errno::LOOP, Errno::STALE].map(|errno| Some(errno.raw_os_error()));
    absent.contains(&error.raw_os_error())
}

impl Pool for Gluster {
    /// Nothing of it is on this machine: it is active until it is stopped.
    fn is_active(&self) -> Result<bool> {
        Ok(true)
    }

    fn start(&self, _job: &Job) -> Result<()> {
        self.connection.give_up();
        let gluster = self.connect()?;
        let found = gluster.stat(&self.dir);
        found.map(drop).map_err(|e| {
            self.connection.give_up();
            let what = format!("failed to change to directory '{}' in '{}'", self.dir, self.volume);
            self.failed(&what, &e)
        })
    }

    fn stop(&self, _job: &Job) -> Result<()> {
        self.connection.give_up();
        Ok(())
    }

    fn scan(
        &self,
        _earlier: Option<Earlier<'_>>,
        found: &mut dyn FnMut(Arc<VolumeDef>),
        job: &Job,
    ) -> Result<Found> {
        let gluster = self.connect()?;
        let names = gluster
            .names(&self.dir)
            .map_err(|e| self.failed(&format!("cannot open path '{}' in '{}'", self.dir, self.volume), &e))?;
        let names = names.into_iter().filter(|name| !name.starts_with(HIDDEN));
        let names: Vec<_> = names.filter_map(|name| Name::volume(name).ok()).collect();
        let look = |name: &Name| self.describe(&gluster, name.clone());
        servers::look_at_all(&names, WORKERS, look, found, job)?;
        self.measure()
    }

    fn measure(&self) -> Result<Found> {
        let space = self.connect()?.space(&self.dir).map_err(|e| {
            self.failed(&format!("cannot statvfs path '{}' in '{}'", self.dir, self.volume), &e)
        })?;
        Ok(Found::of(space.usage()))
    }

    fn volumes(&self) -> Option<&dyn Volumes> {
        Some(self)
    }

    fn content(&self) -> Option<&dyn Content> {
        Some(self)
    }
}

impl Volumes for Gluster {
    fn plan(&self, wanted: VolumeDef) -> Result<VolumeDef> {
        let name = wanted.name.as_str();
        let refused = |what: String| Err(Error::new(Code::ConfigUnsupported, what));
        let kind = match wanted.image_format() {
            ImageFormat::Dir => VolumeKind::NetDir,
            ImageFormat::Raw | ImageFormat::Qcow2 => VolumeKind::Network,
            format => {
                return refused(format!(
                    "gluster pools make volumes of format raw, qcow2 and dir, not {format}"
                ));
            }
        };
        if wanted.encryption.is_some() {
            return refused("storage pool does not support encrypted volumes".to_owned());
        }
        if wanted.backing.is_some() && wanted.image_format() != ImageFormat::Qcow2 {
            return refused("only a qcow2 volume can have a backing store".to_owned());
        }
        let uri = self.uri_of(name);
        Ok(VolumeDef { kind, key: Some(uri.clone()), path: Some(uri), ..wanted })
    }

    fn create(&self, planned: &VolumeDef, options: CreateOptions, job: &Job) -> Result<()> {
        let (path, uri) = (self.path_of(planned.name.as_str()), self.uri_of(planned.name.as_str()));
        let failed = |e| self.failed(&format!("cannot create volume '{uri}'"), &e);
        let gluster = self.connect()?;
        if planned.kind == VolumeKind::NetDir {
            let mode = planned.permissions.mode.unwrap_or(DIR_MODE);
            return gluster.create_dir(&path, mode).map_err(failed);
        }
        self.make(planned, |file| self.fill(file, planned, options, job))
    }

    /// Byte for byte, from one file of the volume to another.
    fn create_from(
        &self,
        planned: &VolumeDef,
        source: &VolumeDef,
        options: CreateOptions,
        job: &Job,
    ) -> Result<()> {
        if planned.image_format() != source.image_format() {
            return Err(Error::new(
                Code::NoSupport,
                format!("volume '{}' can be copied as it is only, without converting it", source.name),
            ));
        }
        if options.reflink {
            return Err(Error::new(
                Code::ConfigUnsupported,
                "files of Gluster cannot share blocks: leave out --reflink",
            ));
        }
        let from = self.open_file(source, gfapi::Access::Read)?;
        self.make(planned, |to| self.copy(&from, to, planned, job))
    }

    fn probe(&self, name: &Name) -> Result<Option<VolumeDef>> {
        self.describe(&self.connect()?, name.clone())
    }

    fn resize(&self, volume: &VolumeDef, capacity: u64, growth: Growth, job: &Job) -> Result<()> {
        let uri = self.uri_of(volume.name.as_str());
        let refused = |why| Err(Error::new(Code::NoSupport, format!("cannot resize volume '{uri}': {why}")));
        let failed = |e| error::image(format!("cannot resize volume '{uri}'"), e);
        match volume.image_format() {
            ImageFormat::Raw => {
                let file = self.open_file(volume, gfapi::Access::Write)?;
                resize_raw(&file, capacity, growth, job).map_err(failed)
            }
            ImageFormat::Qcow2 if growth == Growth::Allocated => {
                refused("only a raw volume can be allocated as it grows")
            }
            ImageFormat::Qcow2 if volume.backing.is_none() && volume.encryption.is_none() => {
                let file = self.open_file(volume, gfapi::Access::Write)?;
                qcow2::resize(&file, capacity, None).map_err(failed)
            }
            _ => refused("raw volumes are resized here, and qcow2 ones that stand alone: use qemu-img"),
        }
    }

    fn delete(&self, volume: &VolumeDef, _job: &Job) -> Result<()> {
        let (path, uri) = (self.path_of(volume.name.as_str()), self.uri_of(volume.name.as_str()));
        let gluster = self.connect()?;
        let removed = match volume.kind {
            VolumeKind::NetDir => gluster.remove_dir(&path),
            _ => gluster.remove_file(&path),
        };
        match removed {
            Err(e) if !is_absent(&e) => {
                Err(self.failed(&format!("cannot remove gluster volume file '{uri}'"), &e))
            }
            _ => Ok(()),
        }
    }
}

impl Content for Gluster {
    fn open(&self, volume: &VolumeDef, access: Access) -> Result<Box<dyn VolumeIo>> {
        let access = match access {
            Access::Read => gfapi::Access::Read,
            Access::Write => gfapi::Access::Write,
        };
        let file = self.open_file(volume, access)?;
        Ok(Box::new(FileIo { file, server: self.server_names() }))
    }

    fn wipe(&self, volume: &VolumeDef, algorithm: WipeAlgorithm, job: &Job) -> Result<()> {
        let uri = self.uri_of(volume.name.as_str());
        if !matches!(algorithm, WipeAlgorithm::Zero | WipeAlgorithm::Trim) {
            return Err(Error::new(
                Code::InvalidArg,
                format!(
                    "wiping algorithm '{algorithm}' is not supported for files of Gluster: there are 'zero' and 'trim'"
                ),
            ));
        }
        let failed = |e| self.failed(&format!("cannot wipe volume '{uri}'"), &e);
        let file = self.open_file(volume, gfapi::Access::Write)?;
        let size = file.size().map_err(failed)?;
        let zeroes = vec![0; STEP as usize];
        servers::in_steps(size, STEP, job, |offset, length| {
            match algorithm {
                WipeAlgorithm::Trim => file.discard(offset, length),
                _ => file.write_all_at(&zeroes[..length as usize], offset),
            }
            .map_err(failed)
        })?;
        file.sync().map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn paths_in_uris() {
        assert_eq!(super::escaped("/vol1/a b%ä.img"), "/vol1/a%20b%25%C3%A4.img");
    }
}
