//! Settings from the environment: `COATROOM__` and a key path, `COATROOM__LOG__LEVEL=debug`.
//!
//! The names follow from the JSON Schema, so every key that takes one value, a list or a mapping has one. A
//! value is read as YAML and put into the tree of the document before anything is checked; from then
//! on nothing knows where it came from but the positions, which name the variable. No snippet shows a
//! value, and a secret is a reference here too. The environment itself is an argument.
//!
//! The double underscore after the name is there because Kubernetes sets `COATROOM_PORT`,
//! `COATROOM_SERVICE_HOST` and others for a service of that name.

use std::ffi::OsString;
use std::ops::Range;

use serde_json::Value;

use super::diagnostic::Diagnostic;
use super::document::{self, Entry, Kind, Node};
use super::json_schema::{properties, resolved};
use super::mask;
use super::nearest::nearest;

/// What the names of these variables begin with.
pub(crate) const PREFIX: &str = "COATROOM__";

/// The variables of an environment that are settings, by name.
pub(crate) type Variables = [(String, OsString)];

/// A setting that came from the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Override {
    /// The variable.
    pub(crate) variable: String,
    /// The setting.
    pub(crate) path: Vec<String>,
}

/// What came of the variables.
#[derive(Default)]
pub(crate) struct Overrides {
    /// Those that are in the document now.
    pub(crate) applied: Vec<Override>,
    /// What is wrong with the others.
    pub(crate) errors: Vec<Diagnostic>,
    /// Which positions, all behind the end of the file, mean which variable.
    pub(crate) places: Vec<(Range<usize>, String)>,
}

/// The settings among the variables of this process.
pub(crate) fn environment() -> Vec<(String, OsString)> {
    let mut variables: Vec<_> = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect();
    variables.sort();
    variables
}

/// Puts the variables into the document. `end` is the length of the file.
pub(crate) fn apply(root: &mut Node, end: usize, variables: &Variables) -> Overrides {
    let mut overrides = Overrides::default();
    if variables.is_empty() {
        return overrides;
    }
    let schema = super::json_schema::schema();
    let mut next = end + 1;
    for (variable, value) in variables {
        let place = next..next + value.len() + 1;
        next = place.end;
        let shown: String = variable
            .chars()
            .filter(|c| !c.is_control())
            .take(LONGEST_NAME)
            .collect();
        overrides.places.push((place.clone(), shown));
        let setting = find(&schema, root, variable).and_then(|path| Ok((path, read(variable, value)?)));
        match setting {
            Ok((path, mut value)) => {
                value.shift(root.last_id() + 1, place.start);
                if path.iter().any(|name| mask::is_sensitive(name)) {
                    value.mark_sensitive();
                }
                if put(root, &path, value, &place) {
                    overrides.applied.push(Override {
                        variable: variable.clone(),
                        path,
                    });
                }
            }
            Err(wrong) => overrides.errors.push(Diagnostic {
                at: Some(place),
                path: Vec::new(),
                message: wrong.message,
                hint: wrong.hint,
            }),
        }
    }
    overrides
}

/// Why a variable is none of ours, or cannot be read.
#[derive(Debug)]
struct Wrong {
    message: String,
    hint: String,
}

fn wrong(message: impl Into<String>, hint: impl Into<String>) -> Wrong {
    Wrong {
        message: message.into(),
        hint: hint.into(),
    }
}

/// The key path that a name stands for.
fn find(schema: &Value, root: &Node, variable: &str) -> Result<Vec<String>, Wrong> {
    let names: Vec<&str> = variable
        .strip_prefix(PREFIX)
        .unwrap_or_default()
        .split("__")
        .collect();
    let mut path: Vec<String> = Vec::new();
    let mut at = schema;
    for (depth, name) in names.iter().copied().enumerate() {
        if path.last().is_some_and(|last| last == "routes") {
            return Err(wrong(ROUTES, ROUTES_HINT));
        }
        if path.as_slice() == ["apps"] {
            let id = application(root, name, variable)?;
            path.push(id);
            at = at.get("additionalProperties").unwrap_or(&Value::Null);
            continue;
        }
        if let [apps, id, providers] = path.as_slice()
            && (apps.as_str(), providers.as_str()) == ("apps", "providers")
        {
            let provider = provider(root, id, name)?;
            path.push(provider);
            at = at.get("additionalProperties").unwrap_or(&Value::Null);
            continue;
        }
        let Some(known) = section(schema, at) else {
            let setting = name_of(&path);
            return Err(if is_mapping(schema, at) {
                wrong(
                    format!("`{setting}` is one mapping, there is nothing below it"),
                    format!("write `{setting}='{{{}: …}}'`", shown_key(name)),
                )
            } else if at.get("$ref").is_some() {
                wrong(
                    format!("`{setting}` takes one value, a reference to a secret"),
                    format!("write `{setting}='{{file: PATH}}'` or `{setting}='{{env: NAME}}'`"),
                )
            } else {
                wrong(
                    format!("`{setting}` takes one value, there is nothing below it"),
                    format!("write `{setting}=…`"),
                )
            });
        };
        let Some((key, property)) = known.iter().find(|(key, _)| key.to_ascii_uppercase() == name) else {
            let keys: Vec<&str> = known.keys().map(String::as_str).collect();
            return Err(wrong(
                "no setting has this name",
                did_you_mean(&path, name, &keys, names.get(depth + 1..).unwrap_or_default()),
            ));
        };
        path.push(key.clone());
        at = property;
    }
    match section(schema, at) {
        Some(known) => {
            let keys: Vec<&str> = known.keys().map(String::as_str).collect();
            Err(wrong(
                "this is a section: a variable sets one value in it",
                did_you_mean(&path, "", &keys, &[]),
            ))
        }
        None if path.last().is_some_and(|last| last == "routes") => Err(wrong(ROUTES, ROUTES_HINT)),
        None if path.as_slice() == ["apps"] => Err(wrong(
            "this is a section: a variable sets one value in it",
            format!("name the application and a setting of it: `{PREFIX}APPS__SHOP__URL=…`"),
        )),
        None => Ok(path),
    }
}

/// The keys of a mapping that variables can reach into; a reference is one value.
fn section<'s>(schema: &'s Value, at: &'s Value) -> Option<&'s serde_json::Map<String, Value>> {
    let is_value = resolved(schema, at).get("maxProperties").is_some();
    if is_value { None } else { properties(schema, at) }
}

/// A name below such a mapping, as the file would have it.
fn shown_key(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(plain) {
        name.to_ascii_lowercase()
    } else {
        "NAME".to_owned()
    }
}

/// Whether a setting is a mapping whose names are the operator's own.
fn is_mapping(schema: &Value, at: &Value) -> bool {
    let at = resolved(schema, at);
    at.get("additionalProperties")
        .is_some_and(|of| *of != Value::Bool(false))
}

/// The id of an application that the file has.
fn application(root: &Node, name: &str, variable: &str) -> Result<String, Wrong> {
    let ids: Vec<&str> = match root.entry("apps").map(|apps| &apps.value.kind) {
        Some(Kind::Mapping(apps)) => apps.iter().map(|app| app.key.as_str()).collect(),
        Some(Kind::Null | Kind::Scalar { .. } | Kind::Sequence(_)) | None => Vec::new(),
    };
    if let Some(id) = ids.iter().find(|id| id.to_ascii_uppercase() == name) {
        return Ok((*id).to_owned());
    }
    let hint = match (nearest(name, &ids), ids.first()) {
        (Some(near), _) => {
            let wanted = format!("{PREFIX}APPS__{name}");
            let rest = variable.strip_prefix(&wanted).unwrap_or_default();
            format!(
                "did you mean `{PREFIX}APPS__{}{rest}`?",
                near.to_ascii_uppercase()
            )
        }
        (None, Some(_)) => format!(
            "the file has {}; a new application is added in the file",
            super::shape::list(&ids)
        ),
        (None, None) => "an application is added in the file, below `apps:`".to_owned(),
    };
    Err(wrong("the file has no application of this name", hint))
}

/// The name of a provider that the application in the file has; `-` is written `_`, which no name has.
fn provider(root: &Node, id: &str, name: &str) -> Result<String, Wrong> {
    let app = root.entry("apps").and_then(|apps| apps.value.entry(id));
    let providers = app.and_then(|app| app.value.entry("providers"));
    let names: Vec<&str> = match providers.map(|providers| &providers.value.kind) {
        Some(Kind::Mapping(providers)) => providers.iter().map(|provider| provider.key.as_str()).collect(),
        Some(Kind::Null | Kind::Scalar { .. } | Kind::Sequence(_)) | None => Vec::new(),
    };
    let written = |provider: &str| provider.to_ascii_uppercase().replace('-', "_");
    if let Some(provider) = names.iter().find(|provider| written(provider) == name) {
        return Ok((*provider).to_owned());
    }
    let hint = match names.as_slice() {
        [] => "a provider is added in the file, below `providers:`".to_owned(),
        names => format!(
            "the file has {}; a new provider is added in the file",
            super::shape::list(names)
        ),
    };
    Err(wrong(
        "the application in the file has no provider of this name",
        hint,
    ))
}

/// The nearest name with the `rest` behind it, or all that there are.
fn did_you_mean(path: &[String], name: &str, keys: &[&str], rest: &[&str]) -> String {
    let variable = |key: &str| {
        let mut path = path.to_vec();
        path.push(key.to_owned());
        name_of(&path)
    };
    match nearest(name, keys) {
        Some(near) => {
            let rest: String = rest.iter().map(|name| format!("__{name}")).collect();
            format!("did you mean `{}{rest}`?", variable(near))
        }
        None => {
            let names: Vec<String> = keys.iter().map(|key| variable(key)).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            format!("there are {}", super::shape::list(&names))
        }
    }
}

/// The variable of a setting.
fn name_of(path: &[String]) -> String {
    format!("{PREFIX}{}", path.join("__").to_ascii_uppercase())
}

/// The value, as a tree of its own.
fn read(variable: &str, value: &OsString) -> Result<Node, Wrong> {
    let text = value
        .to_str()
        .ok_or_else(|| wrong("the value is not UTF-8 text", "set it to UTF-8 text"))?;
    if text.trim().is_empty() {
        return Err(wrong(
            "the variable is empty",
            "give it a value, or unset it: then the file decides",
        ));
    }
    document::parse(text).map_err(|_| {
        wrong(
            "the value cannot be read as YAML",
            format!("quote it inside the variable: `{variable}='\"…\"'`; a list is `{variable}='[…, …]'`"),
        )
    })
}

/// Puts a value into the tree; parents that are missing are made, all of them at `place`. A parent
/// that is no mapping is left as it is, since the file is wrong then.
fn put(node: &mut Node, path: &[String], value: Node, place: &Range<usize>) -> bool {
    let Some((name, rest)) = path.split_first() else {
        *node = value;
        return true;
    };
    let next_id = value.last_id() + 1;
    let Kind::Mapping(entries) = &mut node.kind else {
        return false;
    };
    let index = match entries.iter().position(|entry| entry.key == *name) {
        Some(index) => index,
        None => {
            entries.push(Entry {
                key: name.clone(),
                key_span: place.clone(),
                value: Node {
                    id: next_id + rest.len(),
                    span: place.clone(),
                    sensitive: false,
                    kind: Kind::Mapping(Vec::new()),
                },
            });
            entries.len() - 1
        }
    };
    let entry = &mut entries[index];
    if rest.is_empty() {
        entry.key_span = place.clone();
    }
    put(&mut entry.value, rest, value, place)
}

const ROUTES: &str = "routes are written in the file: a path cannot be written in a variable's name";
const ROUTES_HINT: &str =
    "unset the variable, and change the route in the file; or keep one file for each environment";

/// Longer than any name of a setting.
const LONGEST_NAME: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const KEY: &str = "coatroom-key-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const CANARY: &str = "hunter2";

    fn file() -> String {
        format!(
            "keys: [{{command: [echo, {KEY}]}}]
log: {{level: warn}}
apps:
  shop:
    url: https://shop.example.com
    provider: {{issuer: https://login.example.com, client_id: shop, client_secret: {{command: [echo, x]}}}}
    routes: {{/api/: {{upstream: http://127.0.0.1:5000}}}}
"
        )
    }

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, OsString)> {
        pairs
            .iter()
            .map(|(name, value)| (format!("{PREFIX}{name}"), value.into()))
            .collect()
    }

    fn load_from(source: String, pairs: &[(&str, &str)]) -> Result<super::super::Loaded, String> {
        let (name, folder) = ("f.yaml".to_owned(), Path::new("/"));
        super::super::read_and_check(name, source, folder, &variables(pairs))
            .map_err(|report| report.to_string())
    }

    fn load(pairs: &[(&str, &str)]) -> Result<super::super::Loaded, String> {
        load_from(file(), pairs)
    }

    #[test]
    fn a_variable_wins_over_the_file_and_makes_missing_parents() {
        let loaded = load(&[
            ("LISTEN", "0.0.0.0:8443"),
            ("LOG__LEVEL", "debug"),
            ("LOG__FORMAT", "json"),
            ("REPLICAS", "3"),
            ("APPS__SHOP__URL", "https://other.example.com"),
            (
                "APPS__SHOP__ORIGINS",
                "[https://other.example.com, 'https://third.example.com']",
            ),
            ("APPS__SHOP__SESSION__IDLE", "10m"),
            ("APPS__SHOP__LOGIN__CALLBACK", "/signed-in"),
            ("APPS__SHOP__PROVIDER__ISSUER", "https://issuer.example.com"),
            ("APPS__SHOP__PROVIDER__PARAMETERS", "{audience: api}"),
            ("APPS__SHOP__PROVIDER__CLIENT_SECRET", "{command: [echo, y]}"),
        ])
        .unwrap_or_else(|report| panic!("{report}"));
        let app = loaded.applications.first().expect("one application");
        assert_eq!(loaded.listen.to_string(), "0.0.0.0:8443");
        assert_eq!(
            (loaded.log.level.as_str(), loaded.log.format.as_str()),
            ("debug", "json")
        );
        assert_eq!(loaded.summary.replicas, 3);
        assert_eq!(app.url.as_str(), "https://other.example.com");
        assert_eq!(app.origins.len(), 2);
        assert_eq!(app.session.idle.as_secs(), 600);
        assert_eq!(
            app.provider
                .as_ref()
                .map_or("", |provider| provider.issuer.as_str()),
            "https://issuer.example.com"
        );
        assert_eq!(
            app.provider
                .as_ref()
                .map_or(0, |provider| provider.authorization_parameters.len()),
            1
        );
        assert!(matches!(app.callback, coatroom_core::config::Callback::Spa(_)));
        assert_eq!(loaded.summary.overrides.len(), 11);
        let warnings = loaded.warnings.render("warning", super::super::Style::Plain);
        assert!(
            warnings.starts_with("warning: environment variable COATROOM__REPLICAS: replicas: "),
            "{warnings}"
        );
    }

    #[test]
    fn without_variables_nothing_changes() {
        let loaded = load(&[]).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(loaded.log.level.as_str(), "warn");
        assert_eq!(loaded.summary.overrides, []);
    }

    #[test]
    fn names_that_mean_no_setting_are_refused_with_what_would_fit() {
        let unknown = "no setting has this name";
        let section = "this is a section: a variable sets one value in it";
        let routes = "routes are written in the file";
        for (name, message, hint) in [
            ("LSTEN", unknown, "did you mean `COATROOM__LISTEN`?"),
            ("", unknown, "there are `COATROOM__ADMIN`"),
            ("listen", unknown, "did you mean `COATROOM__LISTEN`?"),
            ("FORWARD_AUTH", unknown, "there are `COATROOM__ADMIN`"),
            ("LGO__LEVEL", unknown, "did you mean `COATROOM__LOG__LEVEL`?"),
            ("LOG__LEVL", unknown, "did you mean `COATROOM__LOG__LEVEL`?"),
            (
                "LOG__",
                unknown,
                "there are `COATROOM__LOG__FORMAT` and `COATROOM__LOG__LEVEL`",
            ),
            (
                "LOG",
                section,
                "there are `COATROOM__LOG__FORMAT` and `COATROOM__LOG__LEVEL`",
            ),
            (
                "LISTEN__PORT",
                "`COATROOM__LISTEN` takes one value",
                "write `COATROOM__LISTEN=…`",
            ),
            (
                "APPS__SHOP__PROVIDER__PARAMETERS__AUDIENCE",
                "`COATROOM__APPS__SHOP__PROVIDER__PARAMETERS` is one mapping",
                "write `COATROOM__APPS__SHOP__PROVIDER__PARAMETERS='{audience: …}'`",
            ),
            (
                "APPS__SHOP__PROVIDER__PARAMETERS__a'b",
                "`COATROOM__APPS__SHOP__PROVIDER__PARAMETERS` is one mapping",
                "write `COATROOM__APPS__SHOP__PROVIDER__PARAMETERS='{NAME: …}'`",
            ),
            (
                "KEYS__0",
                "`COATROOM__KEYS` takes one value",
                "write `COATROOM__KEYS=…`",
            ),
            ("APPS", section, "name the application"),
            ("APPS__SHOP", section, "there are `COATROOM__APPS__SHOP__APP_URL`"),
            (
                "APPS__SHP__URL",
                "the file has no application of this name",
                "did you mean `COATROOM__APPS__SHOP__URL`?",
            ),
            (
                "APPS__ADMIN__URL",
                "the file has no application of this name",
                "the file has `shop`; a new application",
            ),
            ("APPS__SHOP__ROUTES", routes, "unset the variable"),
            ("APPS__SHOP__ROUTES__API", routes, "unset the variable"),
            ("APPS__SHOP__ROUTES__/api/__TIMEOUT", routes, "unset the variable"),
            (
                "APPS__SHOP__PROVIDER__CLIENT_SECRET__ENV",
                "`COATROOM__APPS__SHOP__PROVIDER__CLIENT_SECRET` takes one value, a reference",
                "write `COATROOM__APPS__SHOP__PROVIDER__CLIENT_SECRET='{file: PATH}'`",
            ),
            (
                "APPS__SHOP__PROVIDER__ISSUR",
                unknown,
                "did you mean `COATROOM__APPS__SHOP__PROVIDER__ISSUER`?",
            ),
        ] {
            let report = load(&[(name, CANARY)])
                .err()
                .unwrap_or_else(|| panic!("{name} is taken"));
            let start = format!("error: environment variable COATROOM__{name}: {message}");
            assert!(report.starts_with(&start), "{start}\n{report}");
            assert!(report.contains(&format!("\nhint: {hint}")), "{hint}\n{report}");
            assert!(!report.contains(CANARY), "{report}");
        }
    }

    #[test]
    fn values_that_are_wrong_name_the_variable_and_are_not_shown() {
        let secret = "APPS__SHOP__PROVIDER__CLIENT_SECRET";
        for (name, value, message) in [
            ("LISTEN", "", "the variable is empty"),
            ("LISTEN", " ", "the variable is empty"),
            ("LISTEN", "hunter2", "listen: expected an IP address with a port"),
            ("LISTEN", "[::]:80 # hunter2", "the value cannot be read as YAML"),
            ("LISTEN", "{hunter2: [", "the value cannot be read as YAML"),
            ("LISTEN", "a\n---\nhunter2", "the value cannot be read as YAML"),
            ("LISTEN", "*hunter2", "the value cannot be read as YAML"),
            ("LISTEN", "~", "listen: expected a value, found nothing"),
            ("LISTEN", "[hunter2]", "listen: expected an address"),
            ("WORKERS", "hunter2", "workers: expected a whole number"),
            ("WORKERS", "0", "workers: expected a number of data cores"),
            ("REPLICAS", "1001", "replicas: expected a number of processes"),
            ("LOG__LEVEL", "hunter2", "log.level: expected one of"),
            ("TLS__KEY", "{file: hunter2}", "tls: `certificate` is missing"),
            ("KEYS", "[]", "keys: `keys` is empty"),
            ("KEYS", "hunter2", "keys: expected a list"),
            ("KEYS", "[hunter2]", "keys[0]: a secret is never written here"),
            ("KEYS", "[{hunter2: x}]", "keys[0]: unknown key"),
            ("KEYS", "[{file: /hunter2}]", "keys[0]: the file cannot be read"),
            ("APPS__SHOP__URL", "https://hunter2:x@y", "apps.shop.url: "),
            (
                "APPS__SHOP__ORIGINS",
                "[https://a.example/x]",
                "apps.shop.origins: ",
            ),
            ("APPS__SHOP__SESSION__IDLE", "13h", "apps.shop.session.idle: "),
            (
                secret,
                "hunter2",
                "apps.shop.provider.client_secret: a secret is never",
            ),
            (
                secret,
                "{env: hunter2}",
                "apps.shop.provider.client_secret: the environment",
            ),
            (
                secret,
                "{file: a, env: hunter2}",
                "apps.shop.provider.client_secret: expected",
            ),
        ] {
            let report = load(&[(name, value)])
                .err()
                .unwrap_or_else(|| panic!("{name}={value} is taken"));
            let start = format!("error: environment variable COATROOM__{name}: {message}");
            assert!(report.starts_with(&start), "{start}\n{report}");
            assert!(report.contains("\nhint: ") && !report.contains(" | "), "{report}");
            assert!(!report.contains(CANARY), "{report}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_no_text_is_refused() {
        use std::os::unix::ffi::OsStringExt as _;
        let mut root = document::parse(&file()).unwrap_or_else(|error| panic!("{}", error.message));
        let variable = (format!("{PREFIX}LISTEN"), OsString::from_vec(vec![0xff]));
        let overrides = apply(&mut root, 0, &[variable]);
        let messages: Vec<_> = overrides
            .errors
            .iter()
            .map(|error| error.message.as_str())
            .collect();
        assert_eq!(messages, ["the value is not UTF-8 text"]);
        assert_eq!(overrides.applied, []);
    }

    #[test]
    fn errors_of_file_and_environment_are_shown_together_and_each_at_its_place() {
        let source = file().replace("level: warn", "level: loud");
        let report = load_from(source, &[("ADMIN", "nowhere"), ("COLOUR", "red")])
            .err()
            .expect("three errors");
        let heads: Vec<&str> = report
            .lines()
            .filter(|line| line.starts_with("error: "))
            .collect();
        let expected = [
            "error: f.yaml:2:14: log.level: ",
            "error: environment variable COATROOM__ADMIN: admin: ",
            "error: environment variable COATROOM__COLOUR: ",
        ];
        assert_eq!(heads.len(), expected.len(), "{report}");
        for (head, expected) in heads.iter().zip(expected) {
            assert!(head.starts_with(expected), "{report}");
        }
    }

    #[test]
    fn a_parent_of_the_wrong_shape_stays_the_files_error() {
        let source = file().replace("log: {level: warn}", "log: loud");
        let report = load_from(source, &[("LOG__LEVEL", "info")])
            .err()
            .expect("an error");
        assert!(
            report.starts_with("error: f.yaml:2:6: log: expected a mapping"),
            "{report}"
        );
    }

    #[test]
    fn two_applications_that_share_a_provider_are_set_apart() {
        let source = file().replace("provider: {", "provider: &shared {")
            + "  two:
    url: https://two.example.com
    provider: *shared
    routes: {/api/: {upstream: http://127.0.0.1:5000}}
";
        let loaded = load_from(source, &[("APPS__TWO__PROVIDER__CLIENT_ID", "two")])
            .unwrap_or_else(|report| panic!("{report}"));
        let ids: Vec<_> = loaded
            .applications
            .iter()
            .map(|app| {
                app.provider
                    .as_ref()
                    .map_or("", |provider| provider.client_id.as_str())
            })
            .collect();
        assert_eq!(ids, ["shop", "two"]);
    }

    #[test]
    fn one_of_several_providers_is_named_as_in_the_file() {
        let schema = super::super::json_schema::schema();
        let source = "apps: {shop: {providers: {corp: {issuer: a}, my-google: {issuer: b}}}, two: {}}";
        let root = document::parse(source).unwrap_or_else(|error| panic!("{}", error.message));
        for (name, outcome) in [
            (
                "SHOP__PROVIDERS__CORP__ISSUER",
                Ok("apps.shop.providers.corp.issuer"),
            ),
            (
                "SHOP__PROVIDERS__MY_GOOGLE__DPOP__ALGORITHM",
                Ok("apps.shop.providers.my-google.dpop.algorithm"),
            ),
            ("SHOP__DEFAULT_PROVIDER", Ok("apps.shop.default_provider")),
            (
                "SHOP__PROVIDERS__GOOGLE__ISSUER",
                Err("the application in the file has no provider of this name"),
            ),
            (
                "TWO__PROVIDERS__CORP__ISSUER",
                Err("the application in the file has no provider of this name"),
            ),
            (
                "SHOP__PROVIDERS__CORP",
                Err("this is a section: a variable sets one value in it"),
            ),
        ] {
            let found = find(&schema, &root, &format!("{PREFIX}APPS__{name}"));
            let found = found.map(|path| path.join(".")).map_err(|wrong| wrong.message);
            let outcome = outcome.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(found, outcome, "{name}");
        }
    }

    #[test]
    fn the_variables_of_the_guide_are_settings() {
        let guide = include_str!("../../../../docs/configuration.md");
        let block = guide.split("```sh\n").find(|block| block.starts_with(PREFIX));
        let block = block
            .and_then(|block| block.split("```").next())
            .expect("the examples");
        let read: Vec<_> = block
            .lines()
            .filter_map(|line| line.strip_prefix(PREFIX)?.split_once('='))
            .map(|(name, value)| (name, value.trim_matches('\'')))
            .collect();
        assert!(read.len() > 5);
        // The secret's file is not there.
        let report = load(&read).err().expect("no file");
        assert_eq!(report.matches("error: ").count(), 1, "{report}");
        assert!(report.contains("CLIENT_SECRET: apps.shop.provider.client_secret: the file cannot be read"));
    }

    #[test]
    fn every_setting_but_routes_and_sections_can_be_set() {
        let schema = super::super::json_schema::schema();
        let root = document::parse(&file()).unwrap_or_else(|error| panic!("{}", error.message));
        let sections = [
            "tls",
            "connections",
            "log",
            "hsts",
            "apps",
            "login",
            "logout",
            "provider",
            "client_certificate",
            "dpop",
            "endpoints",
            "user",
            "rate_limits",
            "address",
            "session",
            "routes",
        ];
        let mut count = 0;
        for (prefix, pointer) in [
            ("", "/properties"),
            ("TLS__", "/$defs/Tls/properties"),
            ("CONNECTIONS__", "/$defs/Connections/properties"),
            ("LOG__", "/$defs/Log/properties"),
            ("APPS__SHOP__", "/$defs/App/properties"),
            ("APPS__SHOP__HSTS__", "/$defs/Hsts/properties"),
            ("APPS__SHOP__LOGIN__", "/$defs/Login/properties"),
            ("APPS__SHOP__PROVIDER__", "/$defs/Provider/properties"),
            (
                "APPS__SHOP__PROVIDER__LOGOUT__",
                "/$defs/ProviderLogout/properties",
            ),
            ("APPS__SHOP__PROVIDER__DPOP__", "/$defs/Dpop/properties"),
            ("APPS__SHOP__PROVIDER__ENDPOINTS__", "/$defs/Endpoints/properties"),
            ("APPS__SHOP__PROVIDER__USER__", "/$defs/User/properties"),
            ("APPS__SHOP__SESSION__", "/$defs/Session/properties"),
            ("APPS__SHOP__RATE_LIMITS__", "/$defs/RateLimits/properties"),
            (
                "APPS__SHOP__RATE_LIMITS__ADDRESS__",
                "/$defs/RateLimit/properties",
            ),
        ] {
            let keys = schema
                .pointer(pointer)
                .and_then(Value::as_object)
                .expect(pointer)
                .keys();
            for key in keys {
                let name = format!("{PREFIX}{prefix}{}", key.to_ascii_uppercase());
                let is_section = sections.contains(&key.as_str());
                assert_eq!(find(&schema, &root, &name).is_err(), is_section, "{name}");
                count += usize::from(!is_section);
            }
        }
        assert!(count > 25, "{count}");
    }
}
