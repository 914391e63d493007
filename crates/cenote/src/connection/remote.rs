//! A daemon: cenoted, or one of libvirt's.

use super::{
    Connection, DownloadStream, Intent, ListedVolume, Permission, UploadStream, Watch, Which,
    address::Address,
};
use cenote_engine::{Answering, Chunk, Health, JobInfo, Jobs, PoolInfo, PoolRun, VolumeInfo};
use cenote_host::SecretValue;
use cenote_model::event::{PoolEvent, SecretEvent, VolumeEvent};
use cenote_model::flags::{
    BuildFirst, CreateOptions, DeleteOptions, Holes, Overwrite, ResizeOptions, Validate, WipeAlgorithm,
};
use cenote_model::job::Progress;
use cenote_model::pool::Usage;
use cenote_model::secret::{SecretFilter, SecretId};
use cenote_model::volume::{CapacityRule, VolumeKind};
use cenote_model::{Code, Domain, Error, Name, PoolDef, PoolRef, Result, Uuid, VolumeDef, VolumeRef};
use cenote_rpc::client::{Client, Piece, Stream};
use cenote_rpc::flags::Flags;
use cenote_rpc::own::{self, JobRecord};
use cenote_rpc::procedures::{PoolId, calls};
use cenote_rpc::{Frame, events};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// A connection to a daemon.
pub(crate) struct Remote {
    client: Client,
    address: Address,
}

impl Remote {
    pub(crate) fn open(address: Address, permission: Permission) -> Result<Remote> {
        let client = address.connect(permission)?;
        client.call::<calls::AuthList>(&()).and_then(|(kinds,)| match kinds.first() {
            None | Some(0) => Ok(()),
            Some(kind) => Err(Error::new(
                Code::NoSupport,
                format!("{address} wants authentication of kind {kind}, which is not supported yet"),
            )),
        })?;
        const READ_ONLY: u32 = 1;
        let flags = if permission == Permission::LookOnly { READ_ONLY } else { 0 };
        client.call::<calls::ConnectOpen>(&(Some(address.driver()), flags))?;
        Ok(Remote { client, address })
    }
}

impl Connection for Remote {
    fn begin(&mut self, _intent: Intent) -> Result<()> {
        Ok(())
    }

    fn rest(&mut self) -> Result<()> {
        Ok(())
    }

    fn jobs(&self) -> Jobs {
        // What the daemon works on is its own.
        Jobs::default()
    }

    fn job_list(&self) -> Result<Vec<JobInfo>> {
        let (jobs,) = self.client.call::<own::JobList>(&()).map_err(only_cenoted("jobs"))?;
        let info = |job: JobRecord| {
            Ok(JobInfo {
                id: job.id,
                what: job.what,
                progress: Progress { done: job.done, total: job.total },
                elapsed: Duration::from_millis(job.elapsed),
                pool: Name::pool(&job.pool)?,
                silence: Duration::from_millis(job.silence),
                cancelled: job.cancelled != 0,
            })
        };
        jobs.into_iter().map(info).collect()
    }

    fn cancel_job(&self, id: u64) -> Result<()> {
        self.client.call::<own::JobCancel>(&(id,)).map_err(only_cenoted("jobs"))
    }

    fn uri(&self) -> String {
        self.address.to_string()
    }

    fn hostname(&self) -> Result<String> {
        Ok(self.client.call::<calls::ConnectGetHostname>(&())?.0)
    }

    fn server(&self) -> (String, String) {
        let version = self.client.call::<calls::ConnectGetLibVersion>(&()).map_or(0, |(version,)| version);
        let text = format!("{}.{}.{}", version / 1_000_000, version / 1000 % 1000, version % 1000);
        ("libvirt".to_owned(), text)
    }

    fn capabilities(&self) -> Result<String> {
        Ok(self.client.call::<calls::ConnectGetStoragePoolCapabilities>(&(0,))?.0)
    }

    fn find_sources(&self, kind: &str, question: Option<&str>) -> Result<String> {
        let args = (kind.to_owned(), question.map(str::to_owned), 0);
        Ok(self.client.call::<calls::ConnectFindStoragePoolSources>(&args)?.0)
    }

    fn watch_volumes(&self) -> Result<Box<dyn Watch<VolumeEvent>>> {
        let events = self.client.events();
        self.client.call::<own::VolumeEventRegister>(&(None,)).map_err(only_cenoted("volume events"))?;
        Ok(Box::new(RemoteWatch { events, event_in: events::volume_event }))
    }

    fn watch_pools(&self) -> Result<Box<dyn Watch<PoolEvent>>> {
        let events = self.client.events();
        for kind in [0, 1] {
            self.client.call::<calls::ConnectStoragePoolEventRegisterAny>(&(kind, None))?;
        }
        Ok(Box::new(RemoteWatch { events, event_in: events::pool_event }))
    }

    fn pools(&self) -> Result<Vec<PoolRef>> {
        let (pools, _) = self.client.call::<calls::ConnectListAllStoragePools>(&(1, 0))?;
        pools.into_iter().map(PoolRef::try_from).collect()
    }

    fn pool_by_name(&self, name: &str) -> Result<PoolRef> {
        self.client.call::<calls::StoragePoolLookupByName>(&(name.to_owned(),))?.0.try_into()
    }

    fn pool_by_uuid(&self, uuid: &Uuid) -> Result<PoolRef> {
        self.client.call::<calls::StoragePoolLookupByUuid>(&(*uuid,))?.0.try_into()
    }

    fn pool_of_volume(&self, volume: &VolumeRef) -> Result<PoolRef> {
        self.client.call::<calls::StoragePoolLookupByVolume>(&(volume.clone().into(),))?.0.try_into()
    }

    fn pool_info(&self, pool: &PoolRef) -> Result<PoolInfo> {
        let pool = PoolId::from(pool.clone());
        let (state, capacity, allocation, available) =
            self.client.call::<calls::StoragePoolGetInfo>(&(pool.clone(),))?;
        let (xml,) = self.client.call::<calls::StoragePoolGetXmlDesc>(&(pool.clone(), 0))?;
        Ok(PoolInfo {
            kind: PoolDef::from_xml(&xml, Validate::Lax)?.kind,
            run: match state {
                0 => PoolRun::Inactive,
                1 => PoolRun::Changing,
                _ => PoolRun::Active,
            },
            usage: Usage { capacity, allocation, available },
            persistent: self.client.call::<calls::StoragePoolIsPersistent>(&(pool.clone(),))?.0 != 0,
            autostart: self.client.call::<calls::StoragePoolGetAutostart>(&(pool,))?.0 != 0,
        })
    }

    fn pool_health(&self, pool: &PoolRef) -> Result<Option<Health>> {
        let Ok((health,)) = self.client.call::<own::Health>(&(pool.clone().into(),)) else { return Ok(None) };
        let age = Duration::from_millis(health.age);
        let answering = match health.answering {
            0 => Answering::Yes,
            1 => Answering::Slowly,
            _ => Answering::NotSince(Instant::now().checked_sub(age).unwrap_or_else(Instant::now)),
        };
        Ok(Some(Health { answering, age }))
    }

    fn pool_xml(&self, pool: &PoolRef, which: Which) -> Result<String> {
        const INACTIVE: u32 = 1;
        let flags = if which == Which::Inactive { INACTIVE } else { 0 };
        Ok(self.client.call::<calls::StoragePoolGetXmlDesc>(&(pool.clone().into(), flags))?.0)
    }

    fn define_pool(&self, xml: &str, validate: Validate) -> Result<PoolRef> {
        self.client.call::<calls::StoragePoolDefineXml>(&(xml.to_owned(), validate.to_bits()))?.0.try_into()
    }

    fn create_pool(&self, xml: &str, build: BuildFirst) -> Result<PoolRef> {
        self.client.call::<calls::StoragePoolCreateXml>(&(xml.to_owned(), build.to_bits()))?.0.try_into()
    }

    fn undefine_pool(&self, pool: &PoolRef) -> Result<()> {
        self.client.call::<calls::StoragePoolUndefine>(&(pool.clone().into(),))
    }

    fn start_pool(&self, pool: &PoolRef, build: BuildFirst) -> Result<()> {
        self.client.call::<calls::StoragePoolCreate>(&(pool.clone().into(), build.to_bits()))
    }

    fn stop_pool(&self, pool: &PoolRef) -> Result<()> {
        self.client.call::<calls::StoragePoolDestroy>(&(pool.clone().into(),))
    }

    fn build_pool(&self, pool: &PoolRef, overwrite: Overwrite) -> Result<()> {
        self.client.call::<calls::StoragePoolBuild>(&(pool.clone().into(), overwrite.to_bits()))
    }

    fn delete_pool(&self, pool: &PoolRef) -> Result<()> {
        self.client.call::<calls::StoragePoolDelete>(&(pool.clone().into(), 0))
    }

    fn refresh_pool(&self, pool: &PoolRef) -> Result<()> {
        self.client.call::<calls::StoragePoolRefresh>(&(pool.clone().into(), 0))
    }

    fn set_autostart(&self, pool: &PoolRef, autostart: bool) -> Result<()> {
        self.client.call::<calls::StoragePoolSetAutostart>(&(pool.clone().into(), i32::from(autostart)))
    }

    fn volumes(&self, pool: &PoolRef) -> Result<Vec<ListedVolume>> {
        let kind = self.pool_info(pool)?.kind;
        let (volumes, _) =
            self.client.call::<calls::StoragePoolListAllVolumes>(&(pool.clone().into(), 1, 0))?;
        let mut listed = Vec::with_capacity(volumes.len());
        for id in volumes {
            let volume = VolumeRef::try_from(id)?;
            // A volume that went meanwhile is not listed.
            let described = match self.volume_xml(&volume) {
                Err(error) if error.code == Code::NoStorageVol => continue,
                described => described?,
            };
            let def = VolumeDef::from_xml(&described, kind, CapacityRule::Optional, Validate::Lax)?;
            listed.push(ListedVolume {
                name: volume.name.to_string(),
                path: def.path.clone().unwrap_or_default(),
                format: def.format.map(|format| format.as_str()),
                info: VolumeInfo::of(&def),
            });
        }
        Ok(listed)
    }

    fn volume_by_name(&self, pool: &PoolRef, name: &str) -> Result<VolumeRef> {
        self.client
            .call::<calls::StorageVolLookupByName>(&(pool.clone().into(), name.to_owned()))?
            .0
            .try_into()
    }

    fn volume_by_key(&self, key: &str) -> Result<VolumeRef> {
        self.client.call::<calls::StorageVolLookupByKey>(&(key.to_owned(),))?.0.try_into()
    }

    fn volume_by_path(&self, path: &str) -> Result<VolumeRef> {
        self.client.call::<calls::StorageVolLookupByPath>(&(path.to_owned(),))?.0.try_into()
    }

    fn volume_path(&self, volume: &VolumeRef) -> Result<String> {
        Ok(self.client.call::<calls::StorageVolGetPath>(&(volume.clone().into(),))?.0)
    }

    fn volume_info(&self, volume: &VolumeRef) -> Result<VolumeInfo> {
        const PHYSICAL: u32 = 1;
        let (kind, capacity, allocation) =
            self.client.call::<calls::StorageVolGetInfo>(&(volume.clone().into(),))?;
        let (_, _, physical) =
            self.client.call::<calls::StorageVolGetInfoFlags>(&(volume.clone().into(), PHYSICAL))?;
        let kind = VolumeKind::ALL.get(usize::from(kind)).copied().unwrap_or(VolumeKind::File);
        Ok(VolumeInfo { kind, capacity, allocation, physical })
    }

    fn volume_xml(&self, volume: &VolumeRef) -> Result<String> {
        Ok(self.client.call::<calls::StorageVolGetXmlDesc>(&(volume.clone().into(), 0))?.0)
    }

    fn create_volume(&self, pool: &PoolRef, xml: &str, options: CreateOptions) -> Result<VolumeRef> {
        let args = (pool.clone().into(), xml.to_owned(), options.to_bits());
        self.client.call::<calls::StorageVolCreateXml>(&args)?.0.try_into()
    }

    fn create_volume_from(
        &self,
        pool: &PoolRef,
        xml: &str,
        source: &VolumeRef,
        options: CreateOptions,
    ) -> Result<VolumeRef> {
        let args = (pool.clone().into(), xml.to_owned(), source.clone().into(), options.to_bits());
        self.client.call::<calls::StorageVolCreateXmlFrom>(&args)?.0.try_into()
    }

    fn resize_volume(&self, volume: &VolumeRef, size: u64, options: ResizeOptions) -> Result<()> {
        self.client.call::<calls::StorageVolResize>(&(volume.clone().into(), size, options.to_bits()))
    }

    fn delete_volume(&self, volume: &VolumeRef, options: DeleteOptions) -> Result<()> {
        self.client.call::<calls::StorageVolDelete>(&(volume.clone().into(), options.to_bits()))
    }

    fn wipe_volume(&self, volume: &VolumeRef, algorithm: WipeAlgorithm) -> Result<()> {
        // The algorithms are in libvirt's order.
        self.client.call::<calls::StorageVolWipePattern>(&(volume.clone().into(), algorithm as u32, 0))
    }

    fn upload(
        &self,
        volume: &VolumeRef,
        offset: u64,
        length: u64,
        holes: Holes,
    ) -> Result<Box<dyn UploadStream + '_>> {
        let args = (volume.clone().into(), offset, length, holes.to_bits());
        Ok(Box::new(self.client.open::<calls::StorageVolUpload>(&args)?))
    }

    fn download(
        &self,
        volume: &VolumeRef,
        offset: u64,
        length: u64,
        holes: Holes,
    ) -> Result<Box<dyn DownloadStream>> {
        let args = (volume.clone().into(), offset, length, holes.to_bits());
        let stream = Some(self.client.open::<calls::StorageVolDownload>(&args)?);
        Ok(Box::new(RemoteDownload { stream, left: Vec::new() }))
    }

    fn watch_secrets(&self) -> Result<Box<dyn Watch<SecretEvent>>> {
        let events = self.client.events();
        for kind in [0, 1] {
            self.client.call::<calls::ConnectSecretEventRegisterAny>(&(kind, None))?;
        }
        Ok(Box::new(RemoteWatch { events, event_in: events::secret_event }))
    }

    fn secrets(&self, filter: SecretFilter) -> Result<Vec<SecretId>> {
        let (secrets, _) = self.client.call::<calls::ConnectListAllSecrets>(&(1, filter.to_bits()))?;
        Ok(secrets.into_iter().map(SecretId::from).collect())
    }

    fn secret_by_uuid(&self, uuid: &Uuid) -> Result<SecretId> {
        Ok(self.client.call::<calls::SecretLookupByUuid>(&(*uuid,))?.0.into())
    }

    fn secret_xml(&self, secret: &SecretId) -> Result<String> {
        Ok(self.client.call::<calls::SecretGetXmlDesc>(&(secret.clone().into(), 0))?.0)
    }

    fn define_secret(&self, xml: &str, validate: Validate) -> Result<SecretId> {
        let args = (xml.to_owned(), validate.to_bits());
        Ok(self.client.call::<calls::SecretDefineXml>(&args)?.0.into())
    }

    fn undefine_secret(&self, secret: &SecretId) -> Result<()> {
        self.client.call::<calls::SecretUndefine>(&(secret.clone().into(),))
    }

    fn secret_value(&self, secret: &SecretId) -> Result<SecretValue> {
        Ok(self.client.call::<calls::SecretGetValue>(&(secret.clone().into(), 0))?.0)
    }

    fn set_secret_value(&self, secret: &SecretId, value: SecretValue) -> Result<()> {
        self.client.call::<calls::SecretSetValue>(&(secret.clone().into(), value, 0))
    }
}

impl UploadStream for Stream {
    fn write(&mut self, data: &[u8]) -> Result<()> {
        self.send(data)
    }

    fn hole(&mut self, length: u64) -> Result<()> {
        self.send_hole(length)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Stream::finish(*self)
    }
}

struct RemoteDownload {
    stream: Option<Stream>,
    /// What came and did not fit into the buffer.
    left: Vec<u8>,
}

impl DownloadStream for RemoteDownload {
    fn next(&mut self, buffer: &mut [u8]) -> Result<Chunk> {
        if self.left.is_empty() {
            let Some(stream) = &mut self.stream else { return Ok(Chunk::End) };
            match stream.receive()? {
                Piece::Data(data) => self.left = data,
                Piece::Hole(length) => return Ok(Chunk::Hole(length)),
                Piece::End => {
                    self.stream.take().map_or(Ok(()), Stream::finish)?;
                    return Ok(Chunk::End);
                }
            }
        }
        let length = self.left.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.left[..length]);
        self.left.drain(..length);
        Ok(Chunk::Data(length))
    }
}

struct RemoteWatch<E> {
    events: Receiver<Frame>,
    /// The event in a message; what is not known is passed over.
    event_in: fn(&Frame) -> Result<Option<E>>,
}

impl<E> Watch<E> for RemoteWatch<E> {
    fn next(&mut self, within: Duration) -> Result<Option<E>> {
        match self.events.recv_timeout(within) {
            Ok(frame) => (self.event_in)(&frame),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                Err(Error::new(Code::SystemError, "the server has closed the connection")
                    .in_domain(Domain::Rpc))
            }
        }
    }
}

/// libvirt's daemons do not know Cenote's own program.
fn only_cenoted(has: &str) -> impl Fn(Error) -> Error {
    move |error| match error.code {
        Code::Rpc => Error::new(Code::NoSupport, format!("{has} are cenoted's, and this daemon is none")),
        _ => error,
    }
}
