//! Commands about this machine and the connection.

use crate::command::{Arguments, Command, Opt, Run, Session};
use crate::failure::{Context, Outcome};
use serde_json::json;

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        name: "hostname",
        help: "print the hypervisor hostname",
        about: "",
        options: &[],
        run: Run::Read(hostname),
    },
    Command {
        name: "uri",
        help: "print the hypervisor canonical URI",
        about: "",
        options: &[],
        run: Run::Read(uri),
    },
    Command {
        name: "version",
        help: "show version",
        about: "Display the system version information.",
        options: &[Opt::flag("daemon", "report daemon version too")],
        run: Run::Read(version),
    },
];

fn hostname(session: &Session<'_>, _arguments: &Arguments) -> Outcome {
    let name = session.connection.hostname().context(|| "failed to get hostname".to_owned())?;
    session.out.result(|| json!({"hostname": name}), || format!("{name}\n"));
    Ok(())
}

fn uri(session: &Session<'_>, _arguments: &Arguments) -> Outcome {
    let uri = session.connection.uri();
    session.out.result(|| json!({"uri": uri}), || format!("{uri}\n"));
    Ok(())
}

fn version(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let own = env!("CARGO_PKG_VERSION");
    let (server, server_version) = session.connection.server();
    session.out.result(
        || json!({"version": own, "server": server, "server_version": server_version}),
        || {
            let mut text = format!("Using library: cenote {own}\nUsing API: {server} {server_version}\n");
            if arguments.flag("daemon") {
                text.push_str(&format!("Running against daemon: {server_version}\n"));
            }
            text
        },
    );
    Ok(())
}
