//! What the daemon counts, for Prometheus: in its text format, over HTTP, on a Unix socket or on loopback.

use crate::server::Server;
use cenote_engine::{Answering, PoolReport, PoolRun};
use cenote_model::Error;
use cenote_rpc::frame::{self, Header};
use cenote_rpc::{Procedure, own};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// The upper ends of what calls take, in seconds.
const LATENCIES: [f64; 13] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.01, 0.05, 0.25, 1.0, 5.0, 30.0, 120.0];
/// How long whoever asks may take to say what for.
const PATIENCE: Duration = Duration::from_secs(10);
/// The type of what is answered.
const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is counted.
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    calls: Family<CallLabels, Histogram, fn() -> Histogram>,
    failed: Family<CallLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    procedure: &'static str,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        let mut registry = Registry::with_prefix("cenote");
        let histogram: fn() -> Histogram = || Histogram::new(LATENCIES);
        let calls = Family::new_with_constructor(histogram);
        let failed = Family::default();
        let help = "What calls took, from their arrival to their answer";
        registry.register_with_unit("call_duration", help, Unit::Seconds, calls.clone());
        registry.register("calls_failed", "Calls that were answered with an error", failed.clone());
        Metrics { registry: Mutex::new(registry), calls, failed }
    }

    /// Tells of this server from now on.
    pub(crate) fn tell_of(&self, server: &Arc<Server>) {
        self.registry().register_collector(Box::new(State(Arc::downgrade(server))));
    }

    /// Counts a call.
    pub(crate) fn call(&self, header: Header, took: Duration, error: Option<&Error>) {
        let Some(procedure) = name(header) else { return };
        let labels = CallLabels { procedure };
        self.calls.get_or_create(&labels).observe(took.as_secs_f64());
        if error.is_some() {
            self.failed.get_or_create(&labels).inc();
        }
    }

    fn registry(&self) -> std::sync::MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Everything, as text.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry()).map(|()| text)
    }
}

/// libvirt's name of what is called; what nobody knows is not counted, since its names would have no end.
fn name(header: Header) -> Option<&'static str> {
    match header.program {
        frame::REMOTE => Procedure::from_number(header.procedure).map(Procedure::name),
        own::PROGRAM => own::name(header.procedure),
        _ => None,
    }
}

/// What is not counted but read off when somebody asks.
struct State(Weak<Server>);

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("State")
    }
}

/// A family of gauges that are read off now.
struct Gauges<'e, 'd> {
    encoder: &'e mut DescriptorEncoder<'d>,
}

type Labels = Vec<(&'static str, String)>;

impl Gauges<'_, '_> {
    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        values: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        self.family(name, help, unit, values, ConstGauge::new)
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        values: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        self.family(name, help, unit, values, ConstCounter::new)
    }

    fn family<M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        values: impl IntoIterator<Item = (Labels, f64)>,
        metric: fn(f64) -> M,
    ) -> fmt::Result {
        let mut values = values.into_iter().peekable();
        if values.peek().is_none() {
            return Ok(());
        }
        let kind = metric(0.0).metric_type();
        let mut encoder = self.encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
        for (labels, value) in values {
            metric(value).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl Collector for State {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(server) = self.0.upgrade() else { return Ok(()) };
        let mut gauges = Gauges { encoder: &mut encoder };
        let number = |value: usize| [(Labels::new(), value as f64)];
        gauges.gauges("clients", "Clients that are connected", None, number(server.clients_now()))?;
        gauges.gauges(
            "streams",
            "Uploads and downloads under way",
            None,
            number(server.streams.load(Ordering::Relaxed)),
        )?;
        gauges.gauges("jobs", "Long work under way", None, number(server.engine.jobs().list().len()))?;

        let pools = server.engine.reports();
        let states =
            [("inactive", PoolRun::Inactive), ("changing", PoolRun::Changing), ("active", PoolRun::Active)];
        let by_state = states.map(|(name, run)| {
            let count = pools.iter().filter(|report| report.info.run == run).count();
            (vec![("state", name.to_owned())], count as f64)
        });
        gauges.gauges("pools", "Pools, by state", None, by_state)?;

        let active: Vec<_> = pools.iter().filter(|report| report.info.run == PoolRun::Active).collect();
        let of_pools = |value: fn(&PoolReport) -> f64| {
            let labels = |report: &PoolReport| {
                vec![("pool", report.pool.name.to_string()), ("type", report.info.kind.to_string())]
            };
            active.iter().map(|report| (labels(report), value(report))).collect::<Vec<_>>()
        };
        let bytes = || Some(Unit::Bytes);
        gauges.gauges(
            "pool_capacity",
            "The size of a pool",
            bytes(),
            of_pools(|p| p.info.usage.capacity as f64),
        )?;
        gauges.gauges(
            "pool_allocation",
            "What is taken of it",
            bytes(),
            of_pools(|p| p.info.usage.allocation as f64),
        )?;
        gauges.gauges(
            "pool_available",
            "What is left of it",
            bytes(),
            of_pools(|p| p.info.usage.available as f64),
        )?;
        gauges.gauges("pool_volumes", "The volumes known of it", None, of_pools(|p| p.volumes as f64))?;
        let answers =
            of_pools(|p| if matches!(p.health.answering, Answering::NotSince(_)) { 0.0 } else { 1.0 });
        gauges.gauges(
            "pool_answering",
            "1 while its storage answers, 0 while it is silent",
            None,
            answers,
        )?;
        let seconds = || Some(Unit::Seconds);
        gauges.gauges(
            "pool_age",
            "How old what is known of it may be",
            seconds(),
            of_pools(|p| p.health.age.as_secs_f64()),
        )?;
        gauges.counters("pool_refreshes", "Its refreshes", None, of_pools(|p| p.refreshes.count as f64))?;
        gauges.counters(
            "pool_refreshes_failed",
            "Those that failed",
            None,
            of_pools(|p| p.refreshes.failed as f64),
        )?;
        let total = of_pools(|p| p.refreshes.total.as_secs_f64());
        gauges.counters("pool_refresh_duration", "What they took in all", seconds(), total)?;
        let last = of_pools(|p| p.refreshes.last.as_secs_f64());
        gauges.gauges("pool_last_refresh_duration", "What the last one took", seconds(), last)
    }
}

/// Answers whoever asks on a connection.
pub(crate) async fn serve(server: Arc<Server>, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let answer = hyper::service::service_fn(|request: Request<Incoming>| {
        let response = respond(&server, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    // Whoever breaks off does not want to know.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}

fn respond(server: &Server, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let plain = |status: StatusCode, text: &'static str| {
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        response
    };
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics" | "/") => match server.metrics.text() {
            Ok(text) => {
                let mut response = Response::new(Full::from(text));
                let value = hyper::header::HeaderValue::from_static(TEXT);
                response.headers_mut().insert(hyper::header::CONTENT_TYPE, value);
                response
            }
            Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n"),
        },
        (&Method::GET, _) => plain(StatusCode::NOT_FOUND, "there is /metrics\n"),
        _ => plain(StatusCode::METHOD_NOT_ALLOWED, "GET /metrics\n"),
    }
}
