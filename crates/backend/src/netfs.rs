//! `netfs`: a directory of a file server, by NFS, CIFS or Gluster.

use crate::mount::{self, FileSystem};
use crate::{Driver, Environment, Pool, error, needs, waiting};
use cenote_host::{Host, Mount};
use cenote_model::flags::Overwrite;
use cenote_model::format::{NetFileSystem as Format, SourceFormat};
use cenote_model::source::{Host as Server, Source};
use cenote_model::{Code, Error, Job, PoolDef, PoolKind, Result};

pub(crate) const DRIVER: Driver = Driver {
    kind: PoolKind::NetFs,
    is_supported: |host| needs::are_met(PoolKind::NetFs, host),
    open,
    find_sources: Some(find_sources),
};

struct Share {
    pool: String,
    server: String,
    directory: String,
    format: Format,
    options: String,
}

fn open(def: &PoolDef, environment: &Environment) -> Result<Box<dyn Pool>> {
    let server = only_server(&def.source)?.to_owned();
    let format = match def.source.format {
        Some(SourceFormat::NetFileSystem(format)) => format,
        _ => Format::Auto,
    };
    let own = match format {
        Format::Cifs => Some("guest".to_owned()),
        Format::GlusterFs => Some("direct-io-mode=1".to_owned()),
        Format::Auto | Format::Nfs => def.source.protocol_ver.as_ref().map(|ver| format!("nfsvers={ver}")),
    };
    let share = Share {
        pool: def.name.to_string(),
        server,
        directory: def.source.dir.clone().unwrap_or_default(),
        format,
        options: mount::options(own, &def.mount_options)?,
    };
    mount::open(def, share, environment)
}

fn only_server(source: &Source) -> Result<&str> {
    match source.hosts.as_slice() {
        [Server { name, .. }] if !name.is_empty() && !name.starts_with('-') => Ok(name),
        [_] => Err(Error::new(Code::Internal, "missing source host")),
        _ => Err(Error::new(Code::ConfigUnsupported, "expected exactly 1 host for the storage pool")),
    }
}

impl FileSystem for Share {
    fn source(&self) -> String {
        // Where a port could stand, an address of IPv6 needs brackets.
        let server = match self.server.contains(':') && !self.server.starts_with('[') {
            true => format!("[{}]", self.server),
            false => self.server.clone(),
        };
        match self.format {
            Format::Cifs => format!("//{}/{}", self.server, self.directory.trim_start_matches('/')),
            _ => format!("{server}:{}", self.directory),
        }
    }

    /// Servers have no device numbers: by what the table says was mounted, which may have a slash more or less.
    fn is(&self, mount: &Mount) -> bool {
        let is_network = matches!(mount.kind.as_str(), "nfs" | "nfs4" | "cifs" | "smb3" | "fuse.glusterfs");
        let plain = |source: &str| source.replacen(":/", ":", 1).trim_end_matches('/').to_owned();
        is_network && mount.source.to_str().is_some_and(|source| plain(source) == plain(&self.source()))
    }

    fn mount(&self, target: &str, host: &Host, job: &Job) -> Result<()> {
        // mount(8) takes the type from the look of the source, but not if it is told to find it out.
        let kind = (self.format != Format::Auto).then(|| self.format.as_str());
        mount::mount(kind, &self.options, (&self.source(), target), host, job)
    }

    fn make(&self, overwrite: Overwrite, _environment: &Environment, _job: &Job) -> Result<()> {
        mount::make_nothing(&self.pool, overwrite)
    }
}

fn find_sources(question: Option<&Source>, environment: &Environment) -> Result<Vec<Source>> {
    let question = question
        .ok_or_else(|| Error::new(Code::InvalidArg, "hostname must be specified for netfs sources"))?;
    let server = only_server(question)?;
    let showmount = environment.host.tool("showmount").map_err(error::tool)?;
    let output = showmount
        .args(["--no-headers", "--exports", "--", server])
        .run(&waiting::look("asking a server for its exports"))
        .map_err(error::tool)?;
    let sources = exports(&String::from_utf8_lossy(&output))
        .map(|directory| Source {
            hosts: vec![Server { name: server.to_owned(), port: None }],
            dir: Some(directory.to_owned()),
            format: Some(SourceFormat::NetFileSystem(Format::Nfs)),
            ..Source::default()
        })
        .collect();
    Ok(sources)
}

/// The directories in what showmount(8) prints. Each is followed by who may mount it, which has no spaces; the directory
/// may have some.
pub fn exports(output: &str) -> impl Iterator<Item = &str> {
    output.lines().filter_map(|line| {
        let (directory, _clients) = line.trim_end().rsplit_once(' ')?;
        Some(directory.trim_end()).filter(|directory| directory.starts_with('/') && *directory != "/")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_as_showmount_prints_them() {
        let found: Vec<_> = exports(include_str!("../tests/golden/showmount")).collect();
        assert_eq!(found, ["/srv/b", "/srv/a dir"]);
        assert_eq!(exports("Export list for x:\n/\n\n /a b\n/no-clients\n").count(), 0);
    }

    fn share(server: &str, directory: &str, format: Format) -> Share {
        let (server, directory) = (server.to_owned(), directory.to_owned());
        Share { pool: "p".to_owned(), server, directory, format, options: String::new() }
    }

    #[test]
    fn what_is_mounted_is_recognized() {
        let mount = |kind: &str, source: &str| Mount {
            device: (0, 42),
            target: "/t".into(),
            kind: kind.to_owned(),
            source: source.into(),
        };
        assert!(share("h", "/srv", Format::Nfs).is(&mount("nfs4", "h:/srv/")));
        assert!(share("h", "vol", Format::GlusterFs).is(&mount("fuse.glusterfs", "h:/vol")));
        assert!(share("h", "/vol/", Format::Cifs).is(&mount("cifs", "//h/vol")));
        assert!(share("fe80::1", "/srv", Format::Auto).is(&mount("nfs", "[fe80::1]:/srv")));
        assert!(!share("h", "/srv", Format::Nfs).is(&mount("nfs4", "h:/srv2")));
        assert!(!share("h", "/srv", Format::Nfs).is(&mount("ext4", "h:/srv")));
    }
}
