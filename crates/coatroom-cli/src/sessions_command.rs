//! `coatroom sessions`: operators list and end sessions in the store itself, whether or not anything
//! serves them.
//!
//! What is asked for, who may be asked, how it is shown and how it exits are here; finding and ending
//! is a [`SessionAdmin`]'s. Nothing here shows a token, a subject or an address with a password, and
//! what a browser once called itself is shown without control characters: this is a terminal.

mod connected;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use coatroom::clock::{Clock as _, SystemClock};
use coatroom_core::config::{Application, SessionStorage, StoreKind};
use coatroom_core::session::metadata::PublicSessionId;
use coatroom_core::time::UnixTime;

use self::connected::Connected;
use crate::check::table::table;
use crate::config::{self, shown};

/// What to do with sessions.
#[derive(Subcommand)]
pub(crate) enum Action {
    /// List the sessions of a user, or of a session at the provider
    #[command(after_help = EXIT_CODES)]
    List(Asked),
    /// End them: delete them, note it for all replicas, close their WebSockets and streams
    #[command(after_help = EXIT_CODES)]
    End(Asked),
}

/// Which sessions.
#[derive(Args)]
pub(crate) struct Asked {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", env = "COATROOM_CONFIG")]
    config: PathBuf,
    /// The application; all that keep sessions in a store, if not given
    #[arg(long, value_name = "ID")]
    app: Option<String>,
    #[command(flatten)]
    whose: Whose,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Whose {
    /// The sessions of a user: the subject, as the provider's ID token has it in `sub`
    #[arg(long, value_name = "SUB")]
    sub: Option<String>,
    /// The sessions that belong to one at the provider: as the ID token has it in `sid`
    #[arg(long, value_name = "SID")]
    sid: Option<String>,
    /// One session, by its public id: `id` in the answers of `session` and `sessions`
    #[arg(long, value_name = "ID", value_parser = public_id, allow_hyphen_values = true)]
    session: Option<PublicSessionId>,
}

/// Which sessions of an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which<'a> {
    /// Those of a user of the application's provider: `sub` of the ID token.
    Subject(&'a str),
    /// Those that belong to a session at the provider: `sid` of the ID token.
    ProviderSession(&'a str),
    /// One, by its public id.
    Session(PublicSessionId),
}

/// Whether there was anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// At least one session; or nobody can know, and it is noted.
    Some,
    /// None.
    None,
}

/// A session as its metadata in the store tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedSession {
    /// Its public id.
    pub(crate) id: String,
    /// When the user signed in.
    pub(crate) created_at: UnixTime,
    /// The last sign of the user.
    pub(crate) last_active: UnixTime,
    /// What the browser called itself at the sign-in; anything.
    pub(crate) user_agent: Option<String>,
}

/// Works on the sessions of applications in their stores. Calls block until they are done.
pub(crate) trait SessionAdmin {
    /// The living sessions.
    ///
    /// # Errors
    /// When the store cannot be had.
    fn list(&self, application: &Application, which: Which<'_>) -> anyhow::Result<Vec<ListedSession>>;

    /// Ends sessions: deletes records, sets marks so that nothing older comes back, and announces it
    /// to every replica. What was deleted; with a revocation store nobody can know.
    ///
    /// # Errors
    /// As [`list`](Self::list). Done again, it does no harm.
    fn end(&self, application: &Application, which: Which<'_>) -> anyhow::Result<Vec<ListedSession>>;
}

/// Lists or ends, and prints what was found.
///
/// # Errors
/// When the configuration is wrong, no store can be asked, or one cannot be had.
pub(crate) fn run(action: &Action) -> anyhow::Result<Found> {
    let (Action::List(asked) | Action::End(asked)) = action;
    let loaded = config::load(&asked.config)?;
    let applications = selected(&loaded.applications, asked.app.as_deref(), action)?;
    let admin = Connected::new(&loaded)?;
    let (text, found) = answer(action, &applications, &admin, SystemClock.now())?;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("the sessions cannot be written to standard output")?;
    Ok(found)
}

/// The applications that can be asked.
fn selected<'l>(
    applications: &'l [Application],
    id: Option<&str>,
    action: &Action,
) -> anyhow::Result<Vec<&'l Application>> {
    let named = applications
        .iter()
        .filter(|application| id.is_none_or(|id| application.id.as_str() == id));
    let mut refusals = Vec::new();
    let mut found = Vec::new();
    for application in named {
        match refusal(application, action) {
            Some((why, hint)) => refusals.push((application.id.as_str(), why, hint)),
            None => found.push(application),
        }
    }
    match (found.is_empty(), refusals.as_slice()) {
        (false, _) => Ok(found),
        (true, []) => {
            let ids: Vec<_> = applications
                .iter()
                .map(|application| application.id.as_str())
                .collect();
            anyhow::bail!(
                "the configuration has no application of this id\nhint: write `--app {}`",
                ids.join("` or `--app ")
            )
        }
        (true, [(id, why, hint), ..]) => anyhow::bail!("sessions of `{id}` {why}\nhint: {hint}"),
    }
}

/// Why nobody can be asked about an application's sessions, and what to do instead.
fn refusal(application: &Application, action: &Action) -> Option<(&'static str, &'static str)> {
    if application.provider.is_none() {
        return Some((
            "are opened by an instance that signs users in, and this one only forwards API calls",
            "run it with the agent's configuration",
        ));
    }
    let storage = &application.session.storage;
    let Some(settings) = storage.settings() else {
        return Some((
            "are in cookies alone: no store knows of them",
            "keep them in one, `session: {store: {url: {env: REDIS_URL}}}`, or what has ended, \
             `session: {revocation_store: {url: {env: REDIS_URL}}}`",
        ));
    };
    if settings.kind == StoreKind::Memory {
        return Some((
            "are noted in the memory of the process that serves them, which nobody else reaches",
            "keep them in a store, for example `session: {store: \"sqlite:sessions.db\"}`",
        ));
    }
    match (storage, action) {
        (SessionStorage::CookieWithRevocations(_), Action::List(_)) => Some((
            "are in cookies: the revocation store can end them, and cannot list them",
            "end them, `coatroom sessions end …`, or keep them in a store, `session: {store: …}`",
        )),
        (SessionStorage::CookieWithRevocations(_), Action::End(asked)) if asked.whose.session.is_some() => {
            Some((
                "are in cookies: what ends one of them is its whole id, and the public id is a digest",
                "end all of the user, `--sub SUB`, or those of a session at the provider, `--sid SID`",
            ))
        }
        _ => None,
    }
}

/// What is printed.
fn answer(
    action: &Action,
    applications: &[&Application],
    admin: &dyn SessionAdmin,
    now: UnixTime,
) -> anyhow::Result<(String, Found)> {
    let (Action::List(asked) | Action::End(asked)) = action;
    let which = asked.whose.which();
    let mut sessions = Vec::new();
    let mut is_noted = false;
    for application in applications {
        let id = application.id.as_str();
        let found = match action {
            Action::List(_) => admin.list(application, which),
            Action::End(_) => admin.end(application, which),
        };
        let found = found.with_context(|| format!("sessions of `{id}`"))?;
        sessions.extend(found.into_iter().map(|session| (id, session)));
        is_noted |= !application.session.storage.is_stateful();
    }
    let found = if sessions.is_empty() && !is_noted {
        Found::None
    } else {
        Found::Some
    };
    let text = if asked.json {
        json(action, &sessions, is_noted)
    } else {
        tabular(action, &sessions, is_noted, now)?
    };
    Ok((text, found))
}

fn json(action: &Action, sessions: &[(&str, ListedSession)], is_noted: bool) -> String {
    let sessions: Vec<_> = sessions
        .iter()
        .map(|(application, session)| {
            serde_json::json!({
                "application": application,
                "session": session.id,
                "created_at": session.created_at.0,
                "last_active_at": session.last_active.0,
                "user_agent": session.user_agent,
            })
        })
        .collect();
    let answer = match action {
        Action::List(_) => serde_json::json!({"sessions": sessions}),
        Action::End(_) => serde_json::json!({"ended": sessions, "noted": is_noted}),
    };
    format!("{answer}\n")
}

fn tabular(
    action: &Action,
    sessions: &[(&str, ListedSession)],
    is_noted: bool,
    now: UnixTime,
) -> anyhow::Result<String> {
    let mut out = String::new();
    let ago = |time: UnixTime| {
        let seconds = now.seconds_from(time);
        // Nobody counts the seconds of a day.
        let coarse = match seconds {
            86_400.. => seconds - seconds % 3_600,
            3_600.. => seconds - seconds % 60,
            _ => seconds,
        };
        format!("{} ago", shown(std::time::Duration::from_secs(coarse)))
    };
    let rows = sessions.iter().map(|(application, session)| {
        let agent: String = session
            .user_agent
            .iter()
            .flat_map(|text| text.chars())
            .filter(|c| !c.is_control() && !is_invisible(*c))
            .take(LONGEST_AGENT)
            .collect();
        [
            (*application).to_owned(),
            session.id.clone(),
            ago(session.created_at),
            ago(session.last_active),
            agent,
        ]
    });
    let heading = match action {
        Action::List(_) => "sessions",
        Action::End(_) => "ended",
    };
    let head = ["application", "session", "created", "last used", "browser"];
    table(&mut out, heading, head, rows)?;
    if is_noted {
        out.push_str("  noted: what began until now has ended, on every replica\n");
    } else if sessions.is_empty() {
        out.push_str("  no session was found\n");
    }
    Ok(out)
}

/// Characters that turn a line around or hide in it.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn public_id(text: &str) -> Result<PublicSessionId, &'static str> {
    PublicSessionId::parse(text).ok_or("a public id is 11 characters, such as `AAECAwQFBgc`")
}

impl Whose {
    fn which(&self) -> Which<'_> {
        match (&self.sub, &self.sid, &self.session) {
            (Some(sub), ..) => Which::Subject(sub),
            (None, Some(sid), _) => Which::ProviderSession(sid),
            (None, None, Some(session)) => Which::Session(*session),
            // clap lets none pass without one of them; no user has an empty name
            (None, None, None) => Which::Subject(""),
        }
    }
}

const EXIT_CODES: &str =
    "Exit codes: 0 found or ended, 1 refused or failed, 2 the command line is wrong, 3 none found";

/// More of a browser's name tells nothing more.
const LONGEST_AGENT: usize = 80;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use clap::Parser as _;
    use coatroom_core::config::{
        ApplicationConfig, ProviderConfig, RouteConfig, RouteTargetConfig, SessionConfig, StoreConfig,
    };
    use coatroom_core::secret::Secret;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(subcommand)]
        action: Action,
    }

    fn action(line: &str) -> Action {
        let words = ["sessions"].into_iter().chain(line.split_whitespace());
        Line::try_parse_from(words)
            .unwrap_or_else(|error| panic!("{error}"))
            .action
    }

    fn application(id: &str, storage: &str) -> Application {
        let store = |url: &str| {
            let settings = StoreConfig::new(Secret::new(url)).check();
            Box::new(settings.unwrap_or_else(|problems| panic!("{problems:?}")))
        };
        let storage = match storage.split_once(' ') {
            Some(("store", url)) => SessionStorage::Store(store(url)),
            Some(("revocations", url)) => SessionStorage::CookieWithRevocations(store(url)),
            _ => SessionStorage::Cookie,
        };
        let provider = ProviderConfig::new("https://login.example.com", "shop", Secret::new("hush"));
        let mut config = ApplicationConfig::new(id, format!("https://{id}.example.com"), provider)
            .route(RouteConfig::new("/", RouteTargetConfig::Inner));
        config.session = SessionConfig {
            storage,
            ..SessionConfig::default()
        };
        config.check().unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    /// Has these sessions of every application, and notes what it was asked.
    struct Scripted(Vec<ListedSession>, RefCell<Vec<String>>);

    impl SessionAdmin for Scripted {
        fn list(&self, application: &Application, which: Which<'_>) -> anyhow::Result<Vec<ListedSession>> {
            let asked = format!("list {} {which:?}", application.id.as_str());
            self.1.borrow_mut().push(asked);
            Ok(self.0.clone())
        }

        fn end(&self, application: &Application, which: Which<'_>) -> anyhow::Result<Vec<ListedSession>> {
            let asked = format!("end {} {which:?}", application.id.as_str());
            self.1.borrow_mut().push(asked);
            Ok(self.0.clone())
        }
    }

    fn session(user_agent: &str) -> ListedSession {
        ListedSession {
            id: "s1".to_owned(),
            created_at: UnixTime(1_000),
            last_active: UnixTime(100_000),
            user_agent: Some(user_agent.to_owned()),
        }
    }

    fn answered(line: &str, storage: &str, sessions: Vec<ListedSession>) -> (String, Found, Vec<String>) {
        let application = application("shop", storage);
        let admin = Scripted(sessions, RefCell::default());
        let (text, found) =
            answer(&action(line), &[&application], &admin, UnixTime(100_061)).expect("answered");
        (text, found, admin.1.into_inner())
    }

    #[test]
    fn sessions_are_asked_for_in_exactly_one_way() {
        for (line, good) in [
            ("list --config f --sub a", true),
            ("end -c f --sid a --app shop --json", true),
            ("end --config f --session AAECAwQFBgc", true),
            ("end --config f --session -AECAwQFBgc", true),
            ("end --config f --session AAECAwQFBg", false),
            ("end --config f --session --json", false),
            ("list --config f", false),
            ("end --config f", false),
            ("end --config f --sub a --sid b", false),
            ("end --config f --sub", false),
            ("end --sub a", false),
            ("delete --config f --sub a", false),
        ] {
            let words = ["sessions"].into_iter().chain(line.split_whitespace());
            assert_eq!(Line::try_parse_from(words).is_ok(), good, "{line}");
        }
    }

    #[test]
    fn who_cannot_be_asked_is_told_why_and_what_to_do() {
        for (storage, line, expected) in [
            ("store redis://h", "list -c f --sub a", ""),
            ("store sqlite:/s", "end -c f --sub a --app shop", ""),
            ("revocations redis://h", "end -c f --sub a", ""),
            ("cookie", "list -c f --sub a", "are in cookies alone"),
            ("cookie", "end -c f --sub a", "are in cookies alone"),
            ("store memory", "end -c f --sub a", "in the memory of the process"),
            (
                "revocations memory",
                "end -c f --sub a",
                "in the memory of the process",
            ),
            ("revocations redis://h", "list -c f --sub a", "cannot list them"),
            (
                "revocations redis://h",
                "end -c f --session AAECAwQFBgc",
                "its whole id",
            ),
            ("store redis://h", "end -c f --session AAECAwQFBgc", ""),
            (
                "store redis://h",
                "list -c f --sub a --app shoe",
                "no application of this id\nhint: write `--app shop`",
            ),
        ] {
            let applications = [application("shop", storage)];
            let action = action(line);
            let (Action::List(asked) | Action::End(asked)) = &action;
            match selected(&applications, asked.app.as_deref(), &action) {
                Ok(found) => assert_eq!((found.len(), expected), (1, ""), "{storage} {line}"),
                Err(error) => {
                    let said = error.to_string();
                    assert!(
                        !expected.is_empty() && said.contains(expected),
                        "{storage} {line}: {said}"
                    );
                    assert!(said.contains("\nhint: "), "{said}");
                }
            }
        }
    }

    #[test]
    fn without_an_id_all_applications_that_can_be_asked_are() {
        let applications = [application("a", "cookie"), application("b", "store redis://h")];
        let found = selected(&applications, None, &action("list -c f --sub a")).expect("one");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].id.as_str(), "b");
    }

    #[test]
    fn sessions_are_listed_as_a_table() {
        let (text, found, asked) = answered(
            "list -c f --sub alice",
            "store redis://h",
            vec![session("Firefox")],
        );
        assert_eq!(found, Found::Some);
        assert_eq!(asked, ["list shop Subject(\"alice\")"]);
        assert_eq!(
            text,
            "  sessions
    application  session  created   last used  browser
    shop         s1       1d3h ago  1m1s ago   Firefox
"
        );
    }

    #[test]
    fn sessions_are_listed_and_ended_as_json() {
        let row = r#"{"application":"shop","created_at":1000,"last_active_at":100000,"session":"s1","user_agent":"Firefox"}"#;
        let (text, ..) = answered(
            "list -c f --sid a --json",
            "store redis://h",
            vec![session("Firefox")],
        );
        assert_eq!(text, format!("{{\"sessions\":[{row}]}}\n"));
        let (text, found, asked) = answered(
            "end -c f --session AAECAwQFBgc --json",
            "store redis://h",
            vec![session("Firefox")],
        );
        assert_eq!(text, format!("{{\"ended\":[{row}],\"noted\":false}}\n"));
        assert_eq!(
            (found, asked),
            (
                Found::Some,
                vec![format!(
                    "end shop {:?}",
                    Which::Session(public_id("AAECAwQFBgc").expect("one"))
                )]
            )
        );
    }

    #[test]
    fn none_found_is_said_and_has_an_exit_code_of_its_own() {
        for (line, storage, text, found) in [
            (
                "list -c f --sub a",
                "store redis://h",
                "  no session was found\n",
                Found::None,
            ),
            (
                "end -c f --sub a",
                "store redis://h",
                "  no session was found\n",
                Found::None,
            ),
            (
                "list -c f --sub a --json",
                "store redis://h",
                "{\"sessions\":[]}\n",
                Found::None,
            ),
            (
                "end -c f --sub a",
                "revocations redis://h",
                "  noted: what began until now has ended, on every replica\n",
                Found::Some,
            ),
            (
                "end -c f --sub a --json",
                "revocations redis://h",
                "{\"ended\":[],\"noted\":true}\n",
                Found::Some,
            ),
        ] {
            let answered = answered(line, storage, Vec::new());
            assert_eq!((answered.0.as_str(), answered.1), (text, found), "{line}");
        }
    }

    #[test]
    fn what_a_browser_called_itself_does_nothing_to_a_terminal() {
        let agent = "Fire\u{1b}[2J\u{7}fox\r\n\u{202e}".to_owned() + &"x".repeat(500);
        let (text, ..) = answered("list -c f --sub a", "store redis://h", vec![session(&agent)]);
        assert!(text.contains("Fire[2Jfoxxxx"), "{text:?}");
        assert!(
            text.chars()
                .all(|c| c == '\n' || (!c.is_control() && c.is_ascii())),
            "{text:?}"
        );
        assert!(text.lines().all(|line| line.len() < 200));
    }
}
