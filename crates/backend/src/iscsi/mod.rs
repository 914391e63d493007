//! `iscsi`: the LUNs of a target that this machine logs in to, by the kernel's initiator.

mod initiator;
pub mod session;

use crate::block::Devices;
use crate::block::luns::{self, Keys};
use crate::{Content, Driver, Earlier, Environment, Found, Pool, Watch, chap, needs, waiting};
use cenote_model::source::{Device, Host as Server, Source};
use cenote_model::{Code, Error, Job, PoolDef, PoolKind, Result, VolumeDef};
use initiator::Login;
use session::{Portal, Session, sessions};
use std::io;
use std::sync::Arc;

pub(crate) const DRIVER: Driver = Driver {
    kind: PoolKind::Iscsi,
    is_supported: |host| needs::are_met(PoolKind::Iscsi, host),
    open,
    find_sources: Some(find_sources),
};

/// The port where none is given.
const PORT: u16 = 3260;

struct Iscsi {
    def: PoolDef,
    portals: Vec<Portal>,
    iqn: String,
    target: String,
    environment: Environment,
}

fn open(def: &PoolDef, environment: &Environment) -> Result<Box<dyn Pool>> {
    let portals = def.source.hosts.iter().map(portal).collect::<Result<Vec<_>>>()?;
    if portals.is_empty() {
        return Err(Error::new(Code::ConfigUnsupported, "Expected at least 1 host for the storage pool"));
    }
    let [Device { path: iqn, .. }] = def.source.devices.as_slice() else {
        return Err(Error::new(Code::Internal, "missing source device"));
    };
    check_name("target", iqn)?;
    if let Some(initiator) = &def.source.initiator {
        check_name("initiator", initiator)?;
    }
    Ok(Box::new(Iscsi {
        def: def.clone(),
        portals,
        iqn: iqn.clone(),
        target: def.target_path().unwrap_or_default().to_owned(),
        environment: environment.clone(),
    }))
}

fn portal(server: &Server) -> Result<Portal> {
    let host = server.name.trim_start_matches('[').trim_end_matches(']').to_owned();
    if host.is_empty() || host.starts_with('-') {
        return Err(Error::new(Code::Internal, "missing source host"));
    }
    Ok(Portal { host, port: server.port.filter(|port| *port != 0).unwrap_or(PORT) })
}

/// The name of a target is the name of a folder too, and an argument.
fn check_name(what: &str, name: &str) -> Result<()> {
    let is_good = !name.is_empty()
        && !name.starts_with(['-', '.'])
        && !name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control());
    match is_good {
        true => Ok(()),
        false => Err(Error::new(Code::InvalidArg, format!("'{name}' cannot be the name of an iSCSI {what}"))),
    }
}

impl Iscsi {
    /// The sessions that are the pool's: with its target, at one of its portals, under its name, in the order of the
    /// portals.
    fn sessions(&self) -> Vec<Session> {
        let all = sessions(self.environment.host.sysfs());
        let is_ours = |session: &&Session| {
            let initiator = self.def.source.initiator.as_ref();
            session.target == self.iqn && initiator.is_none_or(|initiator| *initiator == session.initiator)
        };
        let ours: Vec<_> = all.iter().filter(is_ours).collect();
        let at = |portal: &Portal| ours.iter().find(|session| session.is_with(portal));
        let mut found: Vec<Session> = Vec::new();
        for session in self.portals.iter().filter_map(at) {
            if found.iter().all(|known| known.id != session.id) {
                found.push((**session).clone());
            }
        }
        found
    }

    fn hosts(&self) -> Result<Vec<u32>> {
        match self.sessions().as_slice() {
            [] => Err(Error::new(
                Code::Internal,
                format!("cannot find iscsiadm session: no session with target '{}'", self.iqn),
            )),
            sessions => Ok(sessions.iter().map(|session| session.host).collect()),
        }
    }
}

impl Pool for Iscsi {
    fn is_active(&self) -> Result<bool> {
        Ok(!self.sessions().is_empty())
    }

    /// Logs in at every portal. One that cannot be reached is no reason not to use the others.
    fn start(&self, job: &Job) -> Result<()> {
        let interface = match &self.def.source.initiator {
            Some(initiator) => Some(initiator::interface(&self.environment.host, initiator, job)?),
            None => None,
        };
        let chap = chap::of(self.def.kind, &self.def.source, &self.environment)?;
        let known = self.sessions();
        let mut failure = None;
        for portal in &self.portals {
            if known.iter().any(|session| session.is_with(portal)) {
                continue;
            }
            let login =
                Login { target: &self.iqn, portal, interface: interface.as_deref(), chap: chap.as_ref() };
            if let Err(error) = login.log_in(&self.environment.host, job) {
                job.check()?;
                failure.get_or_insert(error);
            }
        }
        match failure {
            Some(error) if self.sessions().is_empty() => Err(error),
            _ => Ok(()),
        }
    }

    /// Ends the pool's own sessions, unless somebody uses what they show.
    fn stop(&self, job: &Job) -> Result<()> {
        let sessions = self.sessions();
        for session in &sessions {
            luns::check_unused(&self.environment, session.host)?;
        }
        for session in &sessions {
            initiator::log_out(&self.environment.host, session.id, job)?;
        }
        Ok(())
    }

    fn discover(&self, _job: &Job) -> Result<()> {
        self.hosts()?.into_iter().try_for_each(|host| luns::discover(&self.environment, host))
    }

    fn scan(
        &self,
        _earlier: Option<Earlier<'_>>,
        found: &mut dyn FnMut(Arc<VolumeDef>),
        job: &Job,
    ) -> Result<Found> {
        luns::scan(&self.environment, &self.hosts()?, &self.target, Keys::Device, found, job)
    }

    fn measure(&self) -> Result<Found> {
        luns::measure(&self.environment, &self.hosts()?, &self.target)
    }

    fn content(&self) -> Option<&dyn Content> {
        Some(&Devices)
    }

    fn watch(&self) -> io::Result<Option<Box<dyn Watch>>> {
        luns::watch(self.hosts().map_err(io::Error::other)?)
    }
}

fn find_sources(question: Option<&Source>, environment: &Environment) -> Result<Vec<Source>> {
    let question = question
        .ok_or_else(|| Error::new(Code::InvalidArg, "hostname must be specified for iscsi sources"))?;
    let [server] = question.hosts.as_slice() else {
        return Err(Error::new(Code::ConfigUnsupported, "Expected exactly 1 host for the storage pool"));
    };
    let portal = portal(server)?;
    let job = waiting::look("asking a portal for its targets");
    let interface = match &question.initiator {
        None => None,
        Some(initiator) => {
            let found = initiator::find_interface(&environment.host, initiator, &job)?;
            Some(found.ok_or_else(|| {
                Error::new(Code::OperationFailed, format!("no iSCSI interface defined for IQN {initiator}"))
            })?)
        }
    };
    let source = |target: String| Source {
        hosts: vec![Server { name: portal.host.clone(), port: Some(portal.port) }],
        devices: vec![Device { path: target, part_separator: None, free_extents: Vec::new() }],
        initiator: question.initiator.clone(),
        ..Source::default()
    };
    let targets = initiator::discover(&environment.host, &portal, interface.as_deref(), &job)?;
    Ok(targets.into_iter().map(source).collect())
}

/// The targets that discovery prints, each after one of its portals, and each once.
pub fn targets(printed: &str) -> Vec<String> {
    let mut targets: Vec<String> = Vec::new();
    for line in printed.lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        if let [_portal, target] = fields.as_slice()
            && targets.iter().all(|known| known != target)
        {
            targets.push((*target).to_owned());
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_as_iscsiadm_prints_them() {
        assert_eq!(targets(include_str!("../../tests/golden/iscsiadm-discovery")), ["iqn.2026-01.test:one"]);
        assert_eq!(targets("a:1,1 t\n[::1]:1,1 t\nb:1,1 u\nnonsense\n\nx y z\n"), ["t", "u"]);
    }

    #[test]
    fn names_that_would_lead_elsewhere() {
        for wrong in ["", "-x", "../x", "a/b", "a b"] {
            assert_eq!(check_name("target", wrong).unwrap_err().code, Code::InvalidArg, "{wrong}");
        }
        check_name("target", "iqn.2026-01.test:one").unwrap();
    }
}
