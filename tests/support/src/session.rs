//! A client that speaks libvirt's protocol to a daemon, for tests that make many calls.

use cenote_model::secret::SecretId;
use cenote_model::{Error, Result};
use cenote_rpc::client::{Client, Piece};
use cenote_rpc::procedures::{PoolId, VolumeId, calls};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A connection to storage.
pub struct Session(pub Client);

impl Session {
    /// Connects to the daemon behind this socket.
    pub fn open(socket: &Path) -> Result<Session> {
        let failed = |e| Error::system("cannot connect", &e);
        let client = Client::on(UnixStream::connect(socket).map_err(failed)?).map_err(failed)?;
        client.call::<calls::ConnectOpen>(&(None, 0))?;
        Ok(Session(client))
    }

    /// The pool of this name.
    pub fn pool(&self, name: &str) -> Result<PoolId> {
        Ok(self.0.call::<calls::StoragePoolLookupByName>(&(name.to_owned(),))?.0)
    }

    /// Defines a pool.
    pub fn define_pool(&self, xml: String) -> Result<PoolId> {
        Ok(self.0.call::<calls::StoragePoolDefineXml>(&(xml, 0))?.0)
    }

    /// Builds and starts a pool.
    pub fn start_pool(&self, pool: &PoolId) -> Result<()> {
        self.0.call::<calls::StoragePoolCreate>(&(pool.clone(), 1))
    }

    /// Removes a definition.
    pub fn undefine_pool(&self, pool: &PoolId) -> Result<()> {
        self.0.call::<calls::StoragePoolUndefine>(&(pool.clone(),))
    }

    /// Has a pool read again.
    pub fn refresh_pool(&self, pool: &PoolId) -> Result<()> {
        self.0.call::<calls::StoragePoolRefresh>(&(pool.clone(), 0))
    }

    /// The document of a pool.
    pub fn pool_xml(&self, pool: &PoolId) -> Result<String> {
        Ok(self.0.call::<calls::StoragePoolGetXmlDesc>(&(pool.clone(), 0))?.0)
    }

    /// The names of the volumes of a pool.
    pub fn volumes(&self, pool: &PoolId) -> Result<Vec<String>> {
        let (volumes, _) = self.0.call::<calls::StoragePoolListAllVolumes>(&(pool.clone(), 1, 0))?;
        Ok(volumes.into_iter().map(|volume| volume.name).collect())
    }

    /// The volume of this name.
    pub fn volume(&self, pool: &PoolId, name: &str) -> Result<VolumeId> {
        Ok(self.0.call::<calls::StorageVolLookupByName>(&(pool.clone(), name.to_owned()))?.0)
    }

    /// The document of a volume.
    pub fn volume_xml(&self, volume: &VolumeId) -> Result<String> {
        Ok(self.0.call::<calls::StorageVolGetXmlDesc>(&(volume.clone(), 0))?.0)
    }

    /// Makes a volume of this capacity, in bytes, without allocating it.
    pub fn create(&self, pool: &PoolId, name: &str, format: &str, capacity: u64) -> Result<VolumeId> {
        let xml = volume_xml(name, format, capacity);
        Ok(self.0.call::<calls::StorageVolCreateXml>(&(pool.clone(), xml, 0))?.0)
    }

    /// Makes a volume with the content of another.
    pub fn copy(&self, pool: &PoolId, name: &str, format: &str, source: &VolumeId) -> Result<VolumeId> {
        let xml = volume_xml(name, format, 0);
        Ok(self.0.call::<calls::StorageVolCreateXmlFrom>(&(pool.clone(), xml, source.clone(), 0))?.0)
    }

    /// Sets the capacity of a volume, which may become smaller.
    pub fn resize(&self, volume: &VolumeId, capacity: u64) -> Result<()> {
        const SHRINK: u32 = 4;
        self.0.call::<calls::StorageVolResize>(&(volume.clone(), capacity, SHRINK))
    }

    /// Removes a volume.
    pub fn delete(&self, volume: &VolumeId) -> Result<()> {
        self.0.call::<calls::StorageVolDelete>(&(volume.clone(), 0))
    }

    /// Writes to the beginning of a volume.
    pub fn upload(&self, volume: &VolumeId, data: &[u8]) -> Result<()> {
        let mut stream =
            self.0.open::<calls::StorageVolUpload>(&(volume.clone(), 0, data.len() as u64, 0))?;
        stream.send(data)?;
        stream.finish()
    }

    /// The content of a volume.
    pub fn download(&self, volume: &VolumeId) -> Result<Vec<u8>> {
        let mut stream = self.0.open::<calls::StorageVolDownload>(&(volume.clone(), 0, 0, 0))?;
        let mut data = Vec::new();
        loop {
            match stream.receive()? {
                Piece::Data(piece) => data.extend(piece),
                Piece::Hole(length) => data.resize(data.len() + length as usize, 0),
                Piece::End => break,
            }
        }
        stream.finish()?;
        Ok(data)
    }

    /// Defines a secret.
    pub fn define_secret(&self, xml: String) -> Result<SecretId> {
        Ok(self.0.call::<calls::SecretDefineXml>(&(xml, 0))?.0.into())
    }
}

fn volume_xml(name: &str, format: &str, capacity: u64) -> String {
    format!(
        "<volume><name>{name}</name><capacity>{capacity}</capacity><allocation>0</allocation>\
         <target><format type='{format}'/></target></volume>"
    )
}
