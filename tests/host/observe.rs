//! What the daemon tells of itself: metrics, and the jobs that it is at.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_test_support::{Call, Cenote, Cenoted, Fault, FaultyFs, am_root, have, have_file};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const CENOTED: &str = env!("CARGO_BIN_EXE_cenoted");
const LONG: Duration = Duration::from_secs(20);

fn cenote(prefix: &Path) -> Cenote {
    let program = Path::new(CENOTED).with_file_name("cenote");
    Cenote::at(program.to_str().unwrap(), prefix)
}

/// A folder for a daemon with these settings.
fn settings(text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let conf = folder.path().join("etc/libvirt/cenote.conf");
    fs::create_dir_all(conf.parent().unwrap()).unwrap();
    fs::write(conf, text).unwrap();
    folder
}

#[test]
fn metrics_count_calls_and_tell_of_pools() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Cenoted::start(CENOTED, folder.path());
    let (cenote, target) = (cenote(folder.path()), folder.path().join("p"));
    cenote.run(&["pool-create-as", "p", "dir", "--build", "--target", target.to_str().unwrap()]);
    cenote.run(&["pool-define-as", "q", "dir", "--target", "/nowhere"]);
    cenote.run(&["vol-create-as", "p", "v", "1M"]);
    cenote.fail(&["vol-create-as", "p", "v", "1M"]);
    let is =
        |name: &str, value: f64| assert_eq!(daemon.metric(name), Some(value), "{name}\n{}", daemon.metrics());
    is("cenote_call_duration_seconds_count{procedure=\"StorageVolCreateXml\"}", 2.0);
    is("cenote_call_duration_seconds_bucket{le=\"+Inf\",procedure=\"StorageVolCreateXml\"}", 2.0);
    is("cenote_calls_failed_total{procedure=\"StorageVolCreateXml\"}", 1.0);
    is("cenote_pools{state=\"active\"}", 1.0);
    is("cenote_pools{state=\"inactive\"}", 1.0);
    is("cenote_pool_volumes{pool=\"p\",type=\"dir\"}", 1.0);
    is("cenote_pool_answering{pool=\"p\",type=\"dir\"}", 1.0);
    is("cenote_jobs", 0.0);
    let of_p = |name: &str| daemon.metric(&format!("{name}{{pool=\"p\",type=\"dir\"}}")).unwrap();
    assert!(of_p("cenote_pool_capacity_bytes") >= of_p("cenote_pool_allocation_bytes"));
    assert!(of_p("cenote_pool_available_bytes") > 0.0);
    let refreshes = of_p("cenote_pool_refreshes_total");
    cenote.run(&["pool-refresh", "p"]);
    assert_eq!(of_p("cenote_pool_refreshes_total"), refreshes + 1.0);
    assert!(of_p("cenote_pool_refresh_duration_seconds_total") > 0.0);
    cenote.run(&["pool-destroy", "p"]);
    // What is gone is not told of any more.
    assert_eq!(daemon.metric("cenote_pool_volumes{pool=\"p\",type=\"dir\"}"), None);
    assert!(daemon.metrics().starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(daemon.metrics().ends_with("# EOF\n"));
}

#[test]
fn every_query_of_the_dashboard_is_about_a_metric_that_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Cenoted::start(CENOTED, folder.path());
    let (cenote, target) = (cenote(folder.path()), folder.path().join("p"));
    cenote.run(&["pool-create-as", "p", "dir", "--build", "--target", target.to_str().unwrap()]);
    cenote.fail(&["vol-info", "none", "p"]);
    let dashboard = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/grafana/cenote.json");
    let dashboard: serde_json::Value = serde_json::from_str(&fs::read_to_string(dashboard).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let queries = panels.flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    let names: BTreeSet<String> = queries
        .flat_map(|target| {
            let query = target["expr"].as_str().unwrap().to_owned();
            let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').map(str::to_owned);
            words.filter(|word| word.starts_with("cenote_")).collect::<Vec<_>>()
        })
        .collect();
    assert!(names.len() > 8, "{names:?}");
    let metrics = daemon.metrics();
    for name in names {
        assert!(
            metrics
                .lines()
                .any(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} "))),
            "{name}"
        );
    }
}

#[test]
fn metrics_are_told_where_the_settings_say_and_to_nobody_else() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let folder = settings(&format!("metrics_listen = \"127.0.0.1:{port}\"\n"));
    let daemon = Cenoted::start(CENOTED, folder.path());
    let ask = |request: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    let close = "Host: x\r\nConnection: close\r\n\r\n";
    assert!(ask(&format!("GET /metrics HTTP/1.1\r\n{close}")).contains("cenote_clients"));
    assert!(ask(&format!("GET /other HTTP/1.1\r\n{close}")).starts_with("HTTP/1.1 404"));
    assert!(ask(&format!("POST /metrics HTTP/1.1\r\n{close}")).starts_with("HTTP/1.1 405"));
    assert!(ask("nonsense\r\n\r\n").starts_with("HTTP/1.1 400"));
    assert!(!folder.path().join("run/libvirt/cenote-metrics-sock").exists());
    drop(daemon);

    let folder = settings("metrics_listen = \"none\"\n");
    let _daemon = Cenoted::start(CENOTED, folder.path());
    assert!(!folder.path().join("run/libvirt/cenote-metrics-sock").exists());

    for (value, problem) in [("0.0.0.0:9177", "is open to others"), ("somewhere", "not 'somewhere'")] {
        let folder = settings(&format!("metrics_listen = \"{value}\"\n"));
        let output = Command::new(CENOTED).arg("--prefix").arg(folder.path()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(problem) && error.contains("line 1"), "{error}");
    }
}

#[test]
fn jobs_are_listed_told_of_and_aborted() {
    if !am_root() || !have("virsh") || !have_file("/dev/fuse") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let daemon = Cenoted::start(CENOTED, folder.path());
    let (cenote, slow) = (cenote(folder.path()), FaultyFs::new());
    cenote.run(&["pool-create-as", "p", "dir", "--target", slow.path().to_str().unwrap()]);
    cenote.run(&["vol-create-as", "p", "v", "256M", "--allocation", "0"]);
    fs::write(slow.behind().join("v"), vec![1; 64 << 20]).unwrap();
    cenote.run(&["pool-refresh", "p"]);
    slow.fault(&[Call::Write, Call::Fallocate], Fault::Takes(Duration::from_millis(20)));
    let mut command = cenote.command(&["vol-wipe", "v", "p", "--algorithm", "random"]);
    let wiping =
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let job = || {
        let list = cenote.run(&["-q", "job-list"]);
        let line = list.lines().find(|line| line.contains("wiping volume 'v'"))?;
        Some(line.split_whitespace().next()?.to_owned())
    };
    let started = Instant::now();
    let id = loop {
        if let Some(id) = job() {
            break id;
        }
        assert!(started.elapsed() < LONG, "the job is not listed");
        std::thread::sleep(Duration::from_millis(20));
    };
    let info = cenote.run(&["job-info", &id]);
    for part in [
        "Job:            wiping volume 'v'\n",
        "Pool:           p\n",
        "State:          running\n",
        "Progress:",
        "Elapsed:",
    ] {
        assert!(info.contains(part), "{info}");
    }
    assert!(daemon.metric("cenote_jobs").unwrap() >= 1.0);
    // One that gets nowhere is told apart.
    slow.fault(&[Call::Write], Fault::Hangs);
    while !cenote.run(&["job-info", &id]).contains("waiting for storage") {
        assert!(started.elapsed() < LONG, "{}", cenote.run(&["job-info", &id]));
        std::thread::sleep(Duration::from_millis(100));
    }
    cenote.run(&["job-abort", &id]);
    assert!(cenote.run(&["job-info", &id]).contains("State:          stopping"));
    slow.heal();
    let output = wiping.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("canceled by client"), "{output:?}");
    assert!(cenote.fail(&["job-info", &id]).contains("it may have ended"));
    assert!(cenote.fail(&["job-abort", "4711"]).contains("there is no job 4711"));
}
