//! `groovebox doctor`: what keeps the music from playing, or from playing well, and how to mend
//! it. Works without a daemon too: then the machine is looked at as a daemon would find it that
//! is started now.
//!
//! | file | what |
//! |---|---|
//! | this one | gathers what is known, and shows the findings |
//! | `checks` | from what is known to findings: one function a check, none touches the world |
//!
//! Nothing is changed and nothing is sent but one question by mDNS.

mod checks;

use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hyper::Method;
use serde_json::json;

use super::client::Patience;
use super::failure::{Exit, Failure};
use super::screen::{Colour, Look};
use super::session::{Format, Session, print_json, print_lines, understand};
use super::table::Tone;
use super::text::plain;
use crate::api::Health;
use crate::audio::devices;
use crate::audio::output::OutputChoice;
use crate::config::{self, Flags};
use crate::daemon;
use crate::engine::Status;
use crate::net::mdns;

use checks::{Answer, Facts, Finding, PortState, Sound, Verdict};

/// How long it is listened for other devices: they answer within 120 ms (RFC 6762, section 6),
/// and a question that was lost is asked again after a second.
const LISTEN: Duration = Duration::from_millis(1500);

/// Columns in front of what a check found.
const INDENT: usize = 19;

/// Not narrower than this is a text broken into lines.
const LEAST_WIDTH: usize = 20;

#[derive(Args, Debug)]
pub(super) struct DoctorArgs {
    /// Where no daemon answers, judge as if it read this file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) async fn run(args: DoctorArgs, session: &mut Session) -> Result<Exit, Failure> {
    let findings = checks::judge(&gather(args, session).await?);
    let worst = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
    match session.format {
        Format::Json => print_json(&json!({ "verdict": worst, "checks": findings }))?,
        Format::Text => print_lines(&lines(&findings, session.look))?,
    }
    Ok(if worst == Verdict::Fail { Exit::Unwell } else { Exit::Ok })
}

/// Everything that there is to know.
async fn gather(args: DoctorArgs, session: &Session) -> Result<Facts, Failure> {
    let answer = match session.status().await {
        Ok(status) => Answer::Status(Box::new(status)),
        Err(Failure::NoDaemon(path)) => Answer::Nobody(path),
        Err(failure) => Answer::Trouble(failure.to_string(), failure.hint().to_owned()),
    };
    let flags = Flags { config: args.config, socket: session.socket(), ..Flags::default() };
    let settings = config::load(flags).map_err(|error| error.to_string());
    let health = health_of(session, &answer, settings.as_ref().ok()).await;
    let wants_mdns = health.as_ref().is_some_and(|health| health.mdns);
    let bind = health.as_ref().and_then(|health| health.bind);
    let announced =
        if wants_mdns {
            let heard = mdns::survey(bind, LISTEN).await;
            Some(heard.map_err(|error| error.to_string()).map(|all| {
                all.into_iter().map(|announcement| announcement.node.to_string()).collect()
            }))
        } else {
            None
        };
    let alone = !matches!(answer, Answer::Status(_));
    Ok(Facts {
        port: health.as_ref().filter(|_| alone).map(port_state),
        sound: health.as_ref().filter(|_| alone).map(|health| sound_of(&health.output)),
        addresses: addresses(bind),
        version: env!("CARGO_PKG_VERSION"),
        settings: settings.map(|settings| settings.config),
        answer,
        health,
        announced,
    })
}

/// As the daemon finds its machine; where none answers, or one that does not know the question,
/// as one would find it that is started now.
async fn health_of(
    session: &Session,
    answer: &Answer,
    settings: Option<&config::Settings>,
) -> Option<Health> {
    if let Answer::Status(_) = answer {
        let asked = session.client.send(Method::GET, "/health", None, Patience::Short).await;
        if let Some(health) = asked.ok().and_then(|answer| understand(answer).ok()) {
            return Some(health);
        }
    }
    settings.map(daemon::health::look)
}

/// Whether the port that a daemon would take is free.
fn port_state(health: &Health) -> PortState {
    let address = health.bind.unwrap_or(IpAddr::from([0, 0, 0, 0]));
    match UdpSocket::bind((address, health.port)) {
        Ok(_) => PortState::Free,
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => PortState::Taken,
        Err(error) => PortState::Refused(error.to_string()),
    }
}

/// Opens the device that would be played on, and no other.
fn sound_of(output: &str) -> Sound {
    let name = match output.parse() {
        Err(error) => return Sound::NoOutput(error.to_string()),
        Ok(OutputChoice::Default) => None,
        Ok(OutputChoice::Device(name)) => Some(name),
        Ok(_) => return Sound::NoCard,
    };
    match devices::native(name.as_deref()) {
        Ok(format) => Sound::Opened(format),
        Err(error) => {
            let others = devices::list().unwrap_or_default();
            Sound::Failed(error.to_string(), others.into_iter().map(|device| device.id).collect())
        }
    }
}

/// Addresses at which other devices could reach this one.
fn addresses(bind: Option<IpAddr>) -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let addresses = interfaces.iter().filter(|interface| !interface.is_loopback());
    let mut addresses: Vec<IpAddr> = addresses.map(if_addrs::Interface::ip).collect();
    addresses.retain(|address| bind.is_none_or(|bind| bind == *address));
    addresses.sort();
    addresses
}

/// A line a finding, its mend below it, and a last one that sums up.
fn lines(findings: &[Finding], look: Look) -> Vec<String> {
    let mut lines: Vec<String> = findings.iter().flat_map(|finding| shown(finding, look)).collect();
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    lines.push(String::new());
    lines.push(match (count(Verdict::Fail), count(Verdict::Warn)) {
        (0, 0) => format!("all {} checks are well", findings.len()),
        (0, warned) => format!("nothing fails; {warned} of {} could be better", findings.len()),
        (failed, warned) => {
            format!("{failed} of {} checks fail, {warned} could be better", findings.len())
        }
    });
    lines
}

fn shown(finding: &Finding, look: Look) -> Vec<String> {
    let width = usize::from(look.width).saturating_sub(INDENT).max(LEAST_WIDTH);
    let mut texts = broken(&finding.figure, width);
    texts.extend(finding.mend.iter().flat_map(|mend| broken(&format!("→ {mend}"), width)));
    let verdict = coloured(finding.verdict, look);
    let head = format!("{verdict} {:<13} ", finding.check);
    let indent = " ".repeat(INDENT);
    texts
        .iter()
        .enumerate()
        .map(|(n, text)| format!("{}{text}", if n == 0 { &head } else { &indent }))
        .collect()
}

/// Four columns wide, whatever its colour.
fn coloured(verdict: Verdict, look: Look) -> String {
    let word = format!("{:<4}", verdict.word());
    let tone = match verdict {
        Verdict::Ok => Tone::Good,
        Verdict::Warn => Tone::Weak,
        Verdict::Fail => Tone::Bad,
    };
    match look.colour {
        Colour::Never => word,
        Colour::Ansi => tone.paint(&word),
    }
}

/// Lines of at most so many characters, broken between words; a longer word stands alone.
fn broken(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for part in text.lines().map(plain) {
        let mut line = String::new();
        for word in part.split_whitespace() {
            let length = line.chars().count() + 1 + word.chars().count();
            if !line.is_empty() && length > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

/// The device of the daemon that answered, among the members of its room.
fn own(status: &Status) -> Option<&crate::engine::status::MemberStatus> {
    status.members.iter().find(|member| member.id == status.node.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::sample;

    fn well() -> Facts {
        let mut status = sample::status();
        status.node.version = env!("CARGO_PKG_VERSION").to_owned();
        for peer in &mut status.peers {
            peer.connected = true;
        }
        let announced = status.peers.iter().map(|peer| peer.id.clone());
        let announced = announced.chain([status.node.id.clone()]).collect();
        Facts {
            answer: Answer::Status(Box::new(status)),
            version: env!("CARGO_PKG_VERSION"),
            settings: Ok(None),
            health: Some(sample::health()),
            port: None,
            sound: None,
            announced: Some(Ok(announced)),
            addresses: vec![IpAddr::from([192, 168, 1, 17])],
        }
    }

    fn without_daemon() -> Facts {
        Facts {
            answer: Answer::Nobody("/run/user/1000/groovebox/groovebox.sock".into()),
            port: Some(PortState::Free),
            sound: Some(Sound::Opened(devices::NativeFormat {
                rate: 48_000,
                channels: 2,
                sample: "i16".to_owned(),
            })),
            announced: Some(Ok(Vec::new())),
            ..well()
        }
    }

    fn finding(facts: &Facts, check: &str) -> Finding {
        let findings = checks::judge(facts);
        findings.into_iter().find(|finding| finding.check == check).expect(check)
    }

    fn with_status(change: impl FnOnce(&mut Status)) -> Facts {
        let mut facts = well();
        let Answer::Status(status) = &mut facts.answer else { unreachable!("it answers") };
        change(status);
        facts
    }

    fn with_health(change: impl FnOnce(&mut Health)) -> Facts {
        let mut facts = well();
        change(facts.health.as_mut().expect("known"));
        facts
    }

    #[test]
    fn where_all_is_well_nothing_is_to_be_mended() {
        for finding in checks::judge(&well()) {
            assert_eq!((finding.verdict, &finding.mend), (Verdict::Ok, &None), "{finding:?}");
        }
    }

    #[test]
    fn whatever_is_not_well_says_how_to_mend_it() {
        let facts = [
            without_daemon(),
            with_status(|status| status.room = None),
            with_status(|status| status.members.clear()),
            with_health(|health| *health = Health::default()),
            Facts {
                health: None,
                settings: Err("g.toml:3: unknown key".to_owned()),
                ..without_daemon()
            },
            Facts { addresses: Vec::new(), announced: Some(Err("taken".to_owned())), ..well() },
        ];
        for facts in facts {
            for finding in checks::judge(&facts) {
                let needs_mending = finding.verdict != Verdict::Ok;
                assert!(!needs_mending || finding.mend.is_some(), "{finding:?}");
            }
        }
    }

    #[test]
    fn no_daemon_is_a_failure_and_the_machine_is_looked_at_all_the_same() {
        let facts = without_daemon();
        assert_eq!(finding(&facts, "daemon").verdict, Verdict::Fail);
        for check in ["settings", "port", "mdns", "output", "rate", "state disk", "realtime"] {
            assert_eq!(finding(&facts, check).verdict, Verdict::Ok, "{check}");
        }
        assert!(checks::judge(&facts).iter().all(|finding| finding.check != "underruns"));
    }

    #[test]
    fn a_taken_port_matters_as_far_as_it_was_asked_for() {
        let mut facts = Facts { port: Some(PortState::Taken), ..without_daemon() };
        assert_eq!(finding(&facts, "port").verdict, Verdict::Warn);
        facts.health.as_mut().expect("known").port_required = true;
        assert_eq!(finding(&facts, "port").verdict, Verdict::Fail);
        let moved = with_status(|status| status.node.port = 40_000);
        assert_eq!(finding(&moved, "port").verdict, Verdict::Warn);
    }

    #[test]
    fn a_device_that_is_heard_and_not_connected_points_at_the_firewall() {
        let facts = with_status(|status| status.peers[0].connected = false);
        let found = finding(&facts, "mdns");
        assert_eq!(found.verdict, Verdict::Warn);
        assert!(found.mend.expect("a way").contains("firewall"), "{}", found.figure);
        let deaf = Facts { announced: Some(Ok(Vec::new())), ..well() };
        assert!(finding(&deaf, "mdns").figure.contains("own announcement"));
    }

    #[test]
    fn a_full_disk_a_sleeping_radio_and_a_wrong_clock_are_told() {
        let low = with_health(|health| health.state.free_bytes = Some(1_000_000));
        assert_eq!(finding(&low, "state disk").verdict, Verdict::Fail);
        let low = with_health(|health| health.cache.free_bytes = Some(100_000_000));
        assert_eq!(finding(&low, "cache disk").verdict, Verdict::Warn);
        let closed = with_health(|health| {
            health.cache.obstacle = Some("/srv may not be written to: Permission denied".into());
        });
        let found = finding(&closed, "cache disk");
        assert_eq!(found.verdict, Verdict::Fail);
        assert!(found.mend.expect("a way").ends_with("[storage] cache_dir"), "{}", found.figure);
        let asleep = with_health(|health| {
            health.power_save = Some(crate::engine::status::PowerSave::On);
            health.interface = Some("wlan0".to_owned());
        });
        assert!(finding(&asleep, "wifi").mend.expect("a way").contains("iw dev wlan0"));
        let wrong = with_health(|health| health.wall_clock_synced = Some(false));
        assert_eq!(finding(&wrong, "wall clock").verdict, Verdict::Warn);
    }

    #[test]
    fn underruns_count_by_the_hour() {
        let dry = |underruns, uptime_s| {
            with_status(|status| {
                status.node.uptime_s = uptime_s;
                let sync = status.members[0].sync.as_mut().expect("synced");
                sync.underruns = underruns;
            })
        };
        assert_eq!(finding(&dry(1, 60), "underruns").verdict, Verdict::Ok);
        assert_eq!(finding(&dry(3, 60), "underruns").verdict, Verdict::Warn);
        assert_eq!(finding(&dry(10, 36_000), "underruns").verdict, Verdict::Ok);
    }

    #[test]
    fn it_fits_eighty_columns_and_commands_no_terminal() {
        let mut facts = Facts {
            settings: Err("/x.toml:3: unknown key `prot`\n  |\n3 | prot\n  | ^^^^".to_owned()),
            addresses: Vec::new(),
            sound: Some(Sound::Failed("\x1b[2Jbroken".to_owned(), vec!["hw:CARD=PCH".to_owned()])),
            ..without_daemon()
        };
        facts.health.as_mut().expect("known").output = "x".repeat(50);
        let shown = lines(&checks::judge(&facts), Look::PLAIN);
        for line in &shown {
            assert!(line.chars().count() <= 80, "{line}");
            assert!(!line.contains('\x1b'), "{line:?}");
        }
        assert!(shown[0].starts_with("fail daemon        none answers"), "{}", shown[0]);
        let colour = Look { colour: Colour::Ansi, ..Look::PLAIN };
        assert!(lines(&checks::judge(&facts), colour)[0].starts_with("\x1b[31mfail\x1b[0m daemon"));
    }
}
