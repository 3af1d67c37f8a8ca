//! `groovebox vote`: call votes, vote, and see how they stand.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::confirm::{Unasked, confirm};
use super::failure::Failure;
use super::screen::Look;
use super::session::{Session, understand};
use super::table::{Column, Tone, cell, clip, table, word};
use super::text::{ago, lasting};
use super::watch::{View, WatchArgs, watch};
use crate::engine::Status;
use crate::engine::status::{
    CandidateStatus, PastVoteStatus, PersonStatus, RoomStatus, VoteStatus,
};

/// Cells of a bar at the most; a vote that needs fewer has one for each.
const BAR: u32 = 10;

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct VoteArgs {
    #[command(subcommand)]
    pub(super) verb: Option<VoteVerb>,
    /// Your vote: yes, no, or in an election a name
    #[arg(value_name = "yes|no|NAME")]
    pub(super) choice: Option<String>,
    /// In which vote, where several are open
    #[arg(long = "in", value_name = "KIND", requires = "choice")]
    pub(super) kind: Option<Kind>,
}

#[derive(Subcommand, Debug)]
pub(super) enum VoteVerb {
    /// Call an election of the DJ
    Elect,
    /// Call a vote to remove the DJ; tells first what that means
    Mutiny {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Call a vote to skip what plays
    Skip,
    /// Call a vote to send somebody out
    Kick {
        /// Whom
        name: String,
    },
    /// Show the open votes (the default)
    Status(WatchArgs),
    /// Show how votes ended
    History,
}

/// What a vote is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Kind {
    #[value(alias = "elect")]
    Election,
    Mutiny,
    Skip,
    Kick,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Election => "election",
            Kind::Mutiny => "mutiny",
            Kind::Skip => "skip",
            Kind::Kick => "kick",
        }
    }
}

pub(super) async fn run(args: VoteArgs, session: &mut Session) -> Result<(), Failure> {
    if let Some(choice) = args.choice {
        let mut body = json!({ "choice": choice });
        if let Some(kind) = args.kind {
            body["in"] = json!(kind.name());
        }
        session.post("/votes/ballot", body).await?;
        return how_it_stands(session).await;
    }
    match args.verb.unwrap_or(VoteVerb::Status(WatchArgs { watch: false })) {
        VoteVerb::Elect => session.post("/votes", json!({ "kind": "election" })).await?,
        VoteVerb::Mutiny { yes } => {
            let status = session.status().await?;
            if let Some(told) = what_a_mutiny_means(&status) {
                confirm(&told, "Call it?", yes, Unasked::GoOn)?;
            }
            session.post("/votes", json!({ "kind": "mutiny" })).await?;
        }
        VoteVerb::Skip => session.post("/votes", json!({ "kind": "skip" })).await?,
        VoteVerb::Kick { name } => {
            session.post("/votes", json!({ "kind": "kick", "who": name })).await?;
        }
        VoteVerb::Status(WatchArgs { watch: false }) => {
            let all = |status: &Status, look| lines(&status.votes, look);
            return session.show_of_room(|status| json!(status.votes), all).await;
        }
        VoteVerb::Status(WatchArgs { watch: true }) => {
            let json = |status: &Status| serde_json::to_value(&status.votes).unwrap_or(Value::Null);
            let lines = |status: &Status, look: Look| lines(&status.votes, look);
            return watch(session, View { json, lines, brief }).await;
        }
        VoteVerb::History => {
            let all = |past: &Vec<PastVoteStatus>, look| past_lines(past, look);
            return session.show("/votes/history", all).await;
        }
    }
    how_it_stands(session).await
}

/// After a vote: the open ones, or how the last one ended, since that may have been the vote
/// that decided.
async fn how_it_stands(session: &Session) -> Result<(), Failure> {
    let status = session.status().await?;
    if status.votes.is_empty() {
        let past: Vec<PastVoteStatus> = understand(session.get("/votes/history").await?)?;
        if let Some(last) = past.first() {
            session.tell(&outcome(last));
        }
    }
    for vote in &status.votes {
        session.tell(&progress(vote));
    }
    Ok(())
}

/// What calling a mutiny would do; nothing where there is nobody to rise against.
fn what_a_mutiny_means(status: &Status) -> Option<Vec<String>> {
    let room = status.room.as_ref()?;
    let dj = room.dj.as_ref()?;
    let (required, electorate) = needed(room, &status.people);
    let setting = |key: &str| room.settings.get(key).map_or("", String::as_str);
    let next = if setting("auto_random_dj") == "true" {
        "somebody else is drawn by lot to be DJ"
    } else {
        "everybody elects the next DJ"
    };
    let people = if electorate == 1 { "the one person" } else { "the people" };
    Some(vec![
        format!("This calls a vote to remove {dj} as DJ, open for {}.", setting("vote_timeout")),
        format!("It takes {required} votes of {people} here ({electorate}); yours is the first."),
        format!("If it passes, {next}, and {dj} cannot be DJ for {}.", setting("dj_cooldown")),
        "If it fails, you cannot call another one for 5 minutes.".to_owned(),
    ])
}

/// How many votes a mutiny would need now, and of how many.
fn needed(room: &RoomStatus, people: &[PersonStatus]) -> (u64, u64) {
    let setting = |key: &str| room.settings.get(key).filter(|value| *value != "-");
    let guests_vote = setting("guests_may").is_some_and(|may| may.contains("vote"));
    let votes = |person: &&PersonStatus| person.here && (guests_vote || person.role != "guest");
    let electorate = people.iter().filter(votes).count() as u64;
    let share = setting("mutiny_threshold").or_else(|| setting("vote_threshold"));
    let share = share.and_then(|share| share.parse::<f64>().ok()).unwrap_or(0.51);
    // In hundredths of a percent, as the room counts.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1")]
    let share = (share.clamp(0.0, 1.0) * 10_000.0).round() as u64;
    ((electorate * share).div_ceil(10_000).max(1), electorate)
}

/// `mutiny against anna`
pub(super) fn title(kind: &str, about: Option<&str>) -> String {
    match (kind, about) {
        ("mutiny", Some(dj)) => format!("mutiny against {dj}"),
        ("skip", Some(track)) => format!("skip of {track}"),
        ("kick", Some(person)) => format!("kick of {person}"),
        ("election", _) => "election of the DJ".to_owned(),
        (kind, _) => kind.to_owned(),
    }
}

/// `mutiny against anna  ███░░ 3 of 5, 1 against, 41 s left`
pub(super) fn progress(vote: &VoteStatus) -> String {
    format!("{}, {} left", standing(vote), lasting(vote.closes_in_ms))
}

/// The same without the time, which changes by itself.
pub(super) fn standing(vote: &VoteStatus) -> String {
    let title = title(&vote.kind, vote.target.as_deref());
    let first = vote.tally.first().map_or(0, |candidate| candidate.votes);
    let votes_for = if vote.kind == "election" { first } else { vote.votes_for };
    let figures = format!("{votes_for} of {}", vote.required);
    let mut parts = vec![format!("{title}  {} {figures}", bar(votes_for, vote.required))];
    if vote.kind == "election" {
        parts.extend(vote.tally.iter().map(|c| format!("{} {}", c.name, c.votes)));
    } else if vote.against > 0 {
        parts.push(format!("{} against", vote.against));
    }
    parts.join(", ")
}

/// A cell for each vote that is needed, as far as there is room.
pub(super) fn bar(votes: u32, required: u32) -> String {
    let cells = required.clamp(1, BAR);
    let full = votes.min(required) * cells / required.max(1);
    "█".repeat(full as usize) + &"░".repeat((cells - full) as usize)
}

/// How a vote ended: `mutiny against anna: passed with 5 of 5`
pub(super) fn outcome(past: &PastVoteStatus) -> String {
    let about = past.about.as_deref().filter(|_| past.kind != "election");
    let title = title(&past.kind, about);
    let (votes, required) = (past.votes_for, past.required);
    match (past.result.as_str(), &past.about) {
        ("elected", Some(winner)) => format!("{title}: {winner} was elected with {votes}"),
        ("passed", _) => format!("{title}: passed with {votes} of {required}"),
        ("moot", _) => format!("{title}: over, there is nothing left to decide"),
        _ => format!("{title}: failed with {votes} of {required}"),
    }
}

pub(super) fn lines(votes: &[VoteStatus], look: Look) -> Vec<String> {
    if votes.is_empty() {
        return vec!["no vote is open; `groovebox vote --help` shows how to call one".to_owned()];
    }
    let columns = [
        Column::Left("VOTE"),
        Column::Left("CALLED BY"),
        Column::Left("FOR"),
        Column::Right("AGAINST"),
        Column::Right("LEFT"),
        Column::Left("YOURS"),
    ];
    let mut lines = table(&columns, votes.iter().map(row).collect(), look);
    for vote in votes.iter().filter(|vote| vote.kind == "election") {
        let votes = |c: &CandidateStatus| format!("{} {}", c.name, c.votes);
        let tally = vote.tally.iter().map(votes).collect::<Vec<_>>().join(", ");
        let tally = if tally.is_empty() { "nobody has voted yet".to_owned() } else { tally };
        lines.push(clip(&format!("election: {tally}; {} decide", vote.required), look));
    }
    lines
}

fn row(vote: &VoteStatus) -> Vec<comfy_table::Cell> {
    let election = vote.kind == "election";
    let first = vote.tally.first().map_or(0, |candidate| candidate.votes);
    let votes_for = if election { first } else { vote.votes_for };
    let yours = match (&vote.my_vote, vote.may_vote) {
        (Some(choice), _) => cell(choice, Tone::Good),
        (None, true) => cell("not yet", Tone::Weak),
        (None, false) => word("none"),
    };
    let against = if election { "–".to_owned() } else { vote.against.to_string() };
    vec![
        word(title(&vote.kind, vote.target.as_deref())),
        word(vote.caller.as_deref().unwrap_or("the room")),
        word(format!("{} {votes_for} of {}", bar(votes_for, vote.required), vote.required)),
        word(against),
        word(lasting(vote.closes_in_ms)),
        yours,
    ]
}

fn brief(status: &Status) -> String {
    match status.votes.as_slice() {
        [] => "no vote is open".to_owned(),
        votes => votes.iter().map(standing).collect::<Vec<_>>().join(" · "),
    }
}

pub(super) fn past_lines(past: &[PastVoteStatus], look: Look) -> Vec<String> {
    if past.is_empty() {
        return vec!["nothing has been voted on yet".to_owned()];
    }
    let columns = [
        Column::Right("OPENED"),
        Column::Left("VOTE"),
        Column::Left("CALLED BY"),
        Column::Left("RESULT"),
        Column::Right("FOR"),
        Column::Right("AGAINST"),
        Column::Right("NEEDED"),
    ];
    let row = |past: &PastVoteStatus| {
        let about = past.about.as_deref().filter(|_| past.kind != "election");
        let (result, tone) = match (past.result.as_str(), &past.about) {
            ("elected", Some(winner)) => (format!("elected {winner}"), Tone::Good),
            ("passed", _) => ("passed".to_owned(), Tone::Good),
            (result, _) => (result.to_owned(), Tone::Weak),
        };
        vec![
            word(ago(past.opened_ago_ms)),
            word(title(&past.kind, about)),
            word(past.caller.as_deref().unwrap_or("the room")),
            cell(result, tone),
            word(past.votes_for.to_string()),
            word(past.against.to_string()),
            word(format!("{} of {}", past.required, past.electorate)),
        ]
    };
    table(&columns, past.iter().rev().map(row).collect(), look)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::sample;

    #[test]
    fn a_bar_has_a_cell_for_each_vote_that_is_needed() {
        let cases =
            [(0, 1, "░"), (3, 5, "███░░"), (9, 5, "█████"), (7, 25, "██░░░░░░░░"), (0, 0, "░")];
        for (votes, required, expected) in cases {
            assert_eq!(bar(votes, required), expected, "{votes} of {required}");
        }
    }

    #[test]
    fn how_votes_stand_and_end_in_one_line() {
        let votes = sample::votes();
        let [election, mutiny] = &votes[..] else { panic!("two") };
        assert_eq!(progress(mutiny), "mutiny against anna  ███░░ 3 of 5, 1 against, 41 s left");
        assert_eq!(standing(election), "election of the DJ  ██░░░ 2 of 5, carla 2, ben 1");
        let past = &sample::past_votes()[0];
        assert_eq!(outcome(past), "mutiny against ben: passed with 2 of 2");
        let end = |kind: &str, about: &str, result: &str| {
            let of = |text: &str| text.to_owned();
            let (kind, result, about) = (of(kind), of(result), Some(of(about)));
            outcome(&PastVoteStatus { kind, about, result, ..past.clone() })
        };
        assert_eq!(
            end("election", "carla", "elected"),
            "election of the DJ: carla was elected with 2"
        );
        assert_eq!(end("kick", "ben", "failed"), "kick of ben: failed with 2 of 2");
    }

    #[test]
    fn a_mutiny_is_explained_before_it_is_called() {
        let mut status = sample::status();
        assert_eq!(what_a_mutiny_means(&status), None, "there is no DJ");
        status.people = sample::people();
        let room = status.room.as_mut().expect("one");
        room.dj = Some("anna".to_owned());
        for (key, value) in [
            ("vote_threshold", "0.51"),
            ("vote_timeout", "1m"),
            ("dj_cooldown", "5m"),
            ("mutiny_threshold", "-"),
        ] {
            room.settings.insert(key.to_owned(), value.to_owned());
        }
        let told = what_a_mutiny_means(&status).expect("there is a DJ").join(" ");
        for part in
            ["remove anna as DJ", "2 votes of the people here (2)", "elects the next", "for 5m"]
        {
            assert!(told.contains(part), "{part}: {told}");
        }
        let room = status.room.as_mut().expect("one");
        room.settings.insert("mutiny_threshold".to_owned(), "1".to_owned());
        room.settings.insert("auto_random_dj".to_owned(), "true".to_owned());
        let told = what_a_mutiny_means(&status).expect("there is a DJ").join(" ");
        assert!(told.contains("drawn by lot"), "{told}");
    }
}
