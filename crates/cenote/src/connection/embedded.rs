//! The engine, in this process.

use super::watch::{EngineWatch, PoolSight, SecretSight, StateWatch};
use super::{Connection, DownloadStream, Intent, ListedVolume, Permission, UploadStream, Watch, Which};
use crate::output::Output;
use cenote_engine::{
    Access, Asker, Chunk, Download, Engine, Health, JobInfo, Jobs, Layout, PoolInfo, SecretStore,
    SecretsOnDisk, Setup, Upload, Verdict, VolumeInfo,
};
use cenote_host::{Host, SecretValue};
use cenote_model::event::{PoolEvent, SecretEvent, VolumeEvent};
use cenote_model::flags::{
    BuildFirst, CreateOptions, DeleteOptions, Holes, Overwrite, ResizeOptions, Validate, WipeAlgorithm,
};
use cenote_model::secret::{SecretDef, SecretFilter, SecretId};
use cenote_model::{Code, Domain, Error, PoolRef, Result, Uuid, VolumeRef};
use std::sync::Arc;
use std::thread::{self, ThreadId};
use std::time::Duration;

/// The embedded state. It is opened for each command, and kept open between commands that follow one another; while it
/// is open for changing, other commands wait.
pub(crate) struct Embedded {
    layout: Layout,
    permission: Permission,
    jobs: Jobs,
    engine: Option<(Arc<Engine>, Access)>,
    /// Where it is said that storage does not answer.
    out: Output,
}

/// How often it is seen whether storage answers.
const EVERY: Duration = Duration::from_millis(250);

/// Ends the program when `waiting`, the thread that runs commands, has waited for storage for too long: there is no way
/// to have it back. What it was making is swept by the next use.
fn wait_no_longer(engine: &Arc<Engine>, waiting: ThreadId, out: Output) {
    let engine = Arc::downgrade(engine);
    thread::spawn(move || {
        loop {
            thread::sleep(EVERY);
            let Some(engine) = engine.upgrade() else { return };
            for overdue in engine.look_around().into_iter().filter(|overdue| overdue.thread == waiting) {
                if let Verdict::GivenUp(error) = overdue.verdict {
                    out.error(&error.into());
                    std::process::exit(1);
                }
            }
        }
    });
}

impl Embedded {
    pub(crate) fn new(layout: Layout, permission: Permission, out: Output) -> Embedded {
        Embedded { layout, permission, jobs: Jobs::default(), engine: None, out }
    }

    fn engine(&self) -> Result<&Arc<Engine>> {
        match &self.engine {
            Some((engine, _)) => Ok(engine),
            None => Err(Error::new(Code::Internal, "the state has not been opened")),
        }
    }

    /// The engine, for a call that changes something.
    fn change(&self, call: &str) -> Result<&Arc<Engine>> {
        self.allow(call)?;
        self.engine()
    }

    /// Refuses a call to who may only look; libvirt's name of the call is in the refusal.
    fn allow(&self, call: &str) -> Result<()> {
        match self.permission {
            Permission::Everything => Ok(()),
            Permission::LookOnly => {
                Err(Error::new(Code::OperationDenied, format!("read only access prevents {call}")))
            }
        }
    }

    /// The secrets, as they are now.
    fn secret_store(&self, access: Access) -> Result<SecretStore> {
        SecretStore::open(&self.layout, &Host::new(), access)
    }
}

impl Connection for Embedded {
    fn begin(&mut self, intent: Intent) -> Result<()> {
        let access = match (intent, self.permission) {
            (Intent::Change, Permission::Everything) => Access::Write,
            _ => Access::Read,
        };
        // What others change meanwhile is seen by opening anew; nobody does while it is open for changing.
        if !matches!(self.engine, Some((_, Access::Write))) {
            self.engine = None;
            let secrets = Arc::new(SecretsOnDisk(self.layout.clone()));
            let setup = Setup::new(self.layout.clone(), secrets, access);
            let engine = Engine::open(Setup { jobs: self.jobs.clone(), ..setup })?;
            wait_no_longer(&engine, thread::current().id(), self.out.clone());
            self.engine = Some((engine, access));
        }
        Ok(())
    }

    fn rest(&mut self) -> Result<()> {
        match self.engine.take() {
            Some((engine, _)) => {
                let flushed = engine.flush();
                // Threads that hang may hold the engine.
                engine.release();
                flushed
            }
            None => Ok(()),
        }
    }

    fn jobs(&self) -> Jobs {
        self.jobs.clone()
    }

    fn job_list(&self) -> Result<Vec<JobInfo>> {
        Ok(self.jobs.list())
    }

    fn cancel_job(&self, id: u64) -> Result<()> {
        self.jobs.cancel(id)
    }

    fn uri(&self) -> String {
        // The state's root is three levels above its definitions.
        let root = self.layout.config().ancestors().nth(3).unwrap_or(self.layout.config());
        format!("embedded://{}", root.display())
    }

    fn hostname(&self) -> Result<String> {
        Ok(rustix::system::uname().nodename().to_string_lossy().into_owned())
    }

    fn server(&self) -> (String, String) {
        ("embedded".to_owned(), env!("CARGO_PKG_VERSION").to_owned())
    }

    fn capabilities(&self) -> Result<String> {
        Ok(self.engine()?.capabilities())
    }

    fn find_sources(&self, kind: &str, question: Option<&str>) -> Result<String> {
        self.change("virConnectFindStoragePoolSources")?.find_sources(kind, question)
    }

    fn watch_volumes(&self) -> Result<Box<dyn Watch<VolumeEvent>>> {
        let engine = Arc::clone(self.engine()?);
        let events = engine.volume_events().subscribe();
        engine.watch();
        Ok(Box::new(EngineWatch { _engine: engine, events }))
    }

    fn watch_pools(&self) -> Result<Box<dyn Watch<PoolEvent>>> {
        Ok(Box::new(StateWatch::<PoolSight>::new(self.layout.clone())?))
    }

    fn pools(&self) -> Result<Vec<PoolRef>> {
        Ok(self.engine()?.pools())
    }

    fn pool_by_name(&self, name: &str) -> Result<PoolRef> {
        self.engine()?.pool_by_name(name)
    }

    fn pool_by_uuid(&self, uuid: &Uuid) -> Result<PoolRef> {
        self.engine()?.pool_by_uuid(uuid)
    }

    fn pool_of_volume(&self, volume: &VolumeRef) -> Result<PoolRef> {
        self.engine()?.pool_of_volume(volume)
    }

    fn pool_info(&self, pool: &PoolRef) -> Result<PoolInfo> {
        self.engine()?.pool_info(pool)
    }

    fn pool_health(&self, pool: &PoolRef) -> Result<Option<Health>> {
        self.engine()?.pool_health(pool).map(Some)
    }

    fn pool_xml(&self, pool: &PoolRef, which: Which) -> Result<String> {
        match which {
            Which::Current => self.engine()?.pool_xml(pool),
            Which::Inactive => self.engine()?.pool_inactive_xml(pool),
        }
    }

    fn define_pool(&self, xml: &str, validate: Validate) -> Result<PoolRef> {
        self.change("virStoragePoolDefineXML")?.define_pool(xml, validate)
    }

    fn create_pool(&self, xml: &str, build: BuildFirst) -> Result<PoolRef> {
        self.change("virStoragePoolCreateXML")?.create_pool(xml, build)
    }

    fn undefine_pool(&self, pool: &PoolRef) -> Result<()> {
        self.change("virStoragePoolUndefine")?.undefine_pool(pool)
    }

    fn start_pool(&self, pool: &PoolRef, build: BuildFirst) -> Result<()> {
        self.change("virStoragePoolCreate")?.start_pool(pool, build)
    }

    fn stop_pool(&self, pool: &PoolRef) -> Result<()> {
        self.change("virStoragePoolDestroy")?.stop_pool(pool)
    }

    fn build_pool(&self, pool: &PoolRef, overwrite: Overwrite) -> Result<()> {
        self.change("virStoragePoolBuild")?.build_pool(pool, overwrite)
    }

    fn delete_pool(&self, pool: &PoolRef) -> Result<()> {
        self.change("virStoragePoolDelete")?.delete_pool(pool)
    }

    fn refresh_pool(&self, pool: &PoolRef) -> Result<()> {
        self.change("virStoragePoolRefresh")?.refresh_pool(pool)
    }

    fn set_autostart(&self, pool: &PoolRef, autostart: bool) -> Result<()> {
        self.change("virStoragePoolSetAutostart")?.set_autostart(pool, autostart)
    }

    fn volumes(&self, pool: &PoolRef) -> Result<Vec<ListedVolume>> {
        let defs = self.engine()?.volume_defs(pool)?;
        Ok(defs
            .iter()
            .map(|def| ListedVolume {
                name: def.name.to_string(),
                path: def.path.clone().unwrap_or_default(),
                format: def.format.map(|format| format.as_str()),
                info: VolumeInfo::of(def),
            })
            .collect())
    }

    fn volume_by_name(&self, pool: &PoolRef, name: &str) -> Result<VolumeRef> {
        self.engine()?.volume_by_name(pool, name)
    }

    fn volume_by_key(&self, key: &str) -> Result<VolumeRef> {
        self.engine()?.volume_by_key(key)
    }

    fn volume_by_path(&self, path: &str) -> Result<VolumeRef> {
        self.engine()?.volume_by_path(path)
    }

    fn volume_path(&self, volume: &VolumeRef) -> Result<String> {
        self.engine()?.volume(volume)?.path.clone().ok_or_else(|| {
            Error::new(Code::NoSupport, format!("volume '{}' has no path on this machine", volume.name))
        })
    }

    fn volume_info(&self, volume: &VolumeRef) -> Result<VolumeInfo> {
        self.engine()?.volume_info(volume)
    }

    fn volume_xml(&self, volume: &VolumeRef) -> Result<String> {
        self.engine()?.volume_xml(volume)
    }

    fn create_volume(&self, pool: &PoolRef, xml: &str, options: CreateOptions) -> Result<VolumeRef> {
        self.change("virStorageVolCreateXML")?.create_volume(pool, xml, options)
    }

    fn create_volume_from(
        &self,
        pool: &PoolRef,
        xml: &str,
        source: &VolumeRef,
        options: CreateOptions,
    ) -> Result<VolumeRef> {
        self.change("virStorageVolCreateXMLFrom")?.create_volume_from(pool, xml, source, options)
    }

    fn resize_volume(&self, volume: &VolumeRef, size: u64, options: ResizeOptions) -> Result<()> {
        self.change("virStorageVolResize")?.resize_volume(volume, size, options)
    }

    fn delete_volume(&self, volume: &VolumeRef, options: DeleteOptions) -> Result<()> {
        self.change("virStorageVolDelete")?.delete_volume(volume, options)
    }

    fn wipe_volume(&self, volume: &VolumeRef, algorithm: WipeAlgorithm) -> Result<()> {
        self.change("virStorageVolWipePattern")?.wipe_volume(volume, algorithm)
    }

    fn upload(
        &self,
        volume: &VolumeRef,
        offset: u64,
        length: u64,
        _holes: Holes,
    ) -> Result<Box<dyn UploadStream + '_>> {
        Ok(Box::new(self.change("virStorageVolUpload")?.upload(volume, offset, length)?))
    }

    fn download(
        &self,
        volume: &VolumeRef,
        offset: u64,
        length: u64,
        _holes: Holes,
    ) -> Result<Box<dyn DownloadStream>> {
        Ok(Box::new(self.change("virStorageVolDownload")?.download(volume, offset, length)?))
    }

    fn watch_secrets(&self) -> Result<Box<dyn Watch<SecretEvent>>> {
        Ok(Box::new(StateWatch::<SecretSight>::new(self.layout.clone())?))
    }

    fn secrets(&self, filter: SecretFilter) -> Result<Vec<SecretId>> {
        Ok(self.secret_store(Access::Read)?.list(filter))
    }

    fn secret_by_uuid(&self, uuid: &Uuid) -> Result<SecretId> {
        self.secret_store(Access::Read)?.by_uuid(uuid)
    }

    fn secret_xml(&self, secret: &SecretId) -> Result<String> {
        Ok(self.secret_store(Access::Read)?.def(&secret.uuid)?.to_xml())
    }

    fn define_secret(&self, xml: &str, validate: Validate) -> Result<SecretId> {
        self.allow("virSecretDefineXML")?;
        if SecretDef::from_xml(xml, validate)?.ephemeral {
            return Err(Error::new(
                Code::OperationUnsupported,
                "an ephemeral secret lives in the memory of a daemon: start cenoted, or leave ephemeral='yes' out",
            )
            .in_domain(Domain::Secret));
        }
        self.secret_store(Access::Write)?.define(xml, validate)
    }

    fn undefine_secret(&self, secret: &SecretId) -> Result<()> {
        self.allow("virSecretUndefine")?;
        self.secret_store(Access::Write)?.undefine(&secret.uuid)
    }

    fn secret_value(&self, secret: &SecretId) -> Result<SecretValue> {
        self.allow("virSecretGetValue")?;
        self.secret_store(Access::Read)?.value(&secret.uuid, Asker::Client)
    }

    fn set_secret_value(&self, secret: &SecretId, value: SecretValue) -> Result<()> {
        self.allow("virSecretSetValue")?;
        self.secret_store(Access::Write)?.set_value(&secret.uuid, value)
    }
}

impl UploadStream for Upload<'_> {
    fn write(&mut self, data: &[u8]) -> Result<()> {
        Upload::write(self, data)
    }

    fn hole(&mut self, length: u64) -> Result<()> {
        Upload::hole(self, length)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Upload::finish(*self)
    }
}

impl DownloadStream for Download {
    fn next(&mut self, buffer: &mut [u8]) -> Result<Chunk> {
        Download::next(self, buffer)
    }
}
