//! A request that is forwarded under one route's rule is nobody's path under a stricter rule: the
//! core's routing against every reading in `readings.rs`, on route tables made at random.

use coatroom_core::config::{
    Application, ApplicationConfig, Auth, ProviderConfig, Route, RouteConfig, RouteTarget, RouteTargetConfig,
};
use coatroom_core::route::{Resolved, Target, resolve};
use coatroom_core::secret::Secret;
use http::Method;

use crate::chance::{Chance, cases, report};
use crate::readings::READINGS;

/// A table of routes; none when the draw does not make a configuration.
fn table(chance: &mut Chance) -> Option<Application> {
    let provider = ProviderConfig::new("https://login.example.com", "shop", Secret::new("s"));
    let mut config = ApplicationConfig::new("shop", "https://shop.example.com", provider);
    if chance.once_in(3) {
        config.base_path = Some(chance.pick(&["/bff", "/auth/x", "/Sign-In"]).to_owned());
    }
    for _ in 0..2 + chance.below(5) {
        let upstream = chance.pick(&[
            "http://127.0.0.1:5000",
            "http://127.0.0.1:5000/base",
            "http://127.0.0.1:6000",
        ]);
        let mut route = RouteConfig::new(
            chance.pick(PREFIXES),
            RouteTargetConfig::Upstream(upstream.to_owned()),
        );
        route.auth = Some(chance.pick(&["none", "optional", "required"]).to_owned());
        route.strip_prefix = chance.once_in(4);
        if chance.once_in(4) {
            route.methods = Some(vec!["GET".to_owned()]);
        }
        if config.routes.iter().all(|known| known.path != route.path) {
            config = config.route(route);
        }
    }
    config.check().ok()
}

/// A request target made of the table's own words.
fn target(chance: &mut Chance) -> String {
    let mut path = String::new();
    // one trick in a path is seldom refused, many nearly always
    let tricks = *chance.pick(&[&3, &12, &40]);
    for _ in 0..=chance.below(5) {
        path += if chance.once_in(tricks) {
            chance.pick(SEPARATORS)
        } else {
            "/"
        };
        let word = if chance.once_in(tricks) {
            chance.pick(ODD_WORDS)
        } else {
            chance.pick(WORDS)
        };
        for letter in word.chars() {
            path += &match letter.is_ascii() && !chance.once_in(tricks * 3) {
                true => letter.to_string(),
                false => written(letter, chance),
            };
        }
        if chance.once_in(tricks) {
            path += chance.pick(BEHIND);
        }
    }
    if chance.once_in(6) {
        path += "/";
    }
    if chance.once_in(40) {
        path += &"/a".repeat(2_000);
    }
    if chance.once_in(8) {
        path += chance.pick(&[
            "?x=/api/admin",
            "?../../api",
            "?",
            "#/api",
            "?#",
            "%23/api",
            "%3f/api",
        ]);
    }
    path
}

fn written(letter: char, chance: &mut Chance) -> String {
    if !letter.is_ascii() {
        return encoded(letter);
    }
    let byte = u32::from(letter);
    match chance.below(8) {
        0 => letter.to_uppercase().collect(),
        1 => format!("%{byte:02x}"),
        2 => format!("%{byte:02X}"),
        3 => format!("%25{byte:02x}"),
        4 => format!("%2525{byte:02x}"),
        5 => format!("%{:02x}%{:02x}", 0xc0 | (byte >> 6), 0x80 | (byte & 0x3f)),
        6 => encoded(char::from_u32(byte + 0xfee0).unwrap_or(letter)),
        _ => format!("%u00{byte:02x}"),
    }
}

fn encoded(character: char) -> String {
    let mut bytes = [0; 4];
    character
        .encode_utf8(&mut bytes)
        .bytes()
        .map(|byte| format!("%{byte:02X}"))
        .collect()
}

/// The rule of a path by a careless reader: the longest prefix it is at or below.
fn rule_of<'a>(application: &'a Application, path: &str, ignores_case: bool) -> Rule<'a> {
    let fold = |text: &str| {
        if ignores_case {
            text.to_lowercase()
        } else {
            text.to_owned()
        }
    };
    let path = fold(path);
    // a prefix is known in its plain form to whoever decodes, as written to others
    let below = |prefix: &str| {
        [fold(&crate::redirects::decoded(prefix)), fold(prefix)]
            .iter()
            .any(|prefix| {
                path.strip_prefix(prefix.trim_end_matches('/'))
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
    };
    if below(&application.base_path) {
        return Rule::Agent;
    }
    application
        .routes
        .iter()
        .filter(|route| below(route.prefix.as_str()))
        .max_by_key(|route| route.prefix.as_str().len())
        .map_or(Rule::Nothing, Rule::Route)
}

enum Rule<'a> {
    Agent,
    Route(&'a Route),
    Nothing,
}

fn is_stricter(than: &Route, other: &Route) -> bool {
    let rank = |auth| match auth {
        Auth::None => 0,
        Auth::Optional => 1,
        Auth::Required | Auth::Bearer => 2,
    };
    rank(other.auth) > rank(than.auth) || (other.methods.is_some() && than.methods.is_none())
}

/// How a target that was accepted gets past a rule; none if it does not.
fn escape(application: &Application, text: &str) -> Result<Option<String>, ()> {
    let target = Target::parse(text).map_err(drop)?;
    let resolved = resolve(application, &Method::GET, &target.path).map_err(drop)?;
    let Resolved::Proxy { index, route } = resolved else {
        return Ok(None);
    };
    assert!(matches!(route.target, RouteTarget::Upstream(_)));
    let sent = route.forwarded_target(&target);
    let sent_path = sent.split('?').next().unwrap_or_default();
    if !sent.starts_with('/') || sent.starts_with("//") || !sent.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(Some(format!("{text:?} is sent as {sent:?}")));
    }
    for reading in READINGS {
        let read = (reading.read)(target.path.as_str());
        let past = match rule_of(application, &read, reading.ignores_case) {
            Rule::Agent => Some("the agent".to_owned()),
            Rule::Route(other) if is_stricter(route, other) => Some(other.prefix.as_str().to_owned()),
            Rule::Route(_) => None,
            // a reading that leaves the table leaves the route's own prefix
            Rule::Nothing => Some("nothing".to_owned()),
        };
        if let Some(past) = past {
            let matched = application.routes[index].prefix.as_str();
            return Ok(Some(format!(
                "{text:?} is forwarded under {matched:?}; {} reads {read:?}: {past}",
                reading.name
            )));
        }
        let read_sent = (reading.read)(sent_path);
        if read_sent.contains("/../") || read_sent.ends_with("/..") {
            return Ok(Some(format!(
                "{text:?} is sent as {sent:?}: {} sees dots",
                reading.name
            )));
        }
    }
    Ok(None)
}

#[test]
fn no_reading_of_a_forwarded_path_is_under_a_stricter_rule() {
    let mut chance = Chance::new(0x00c0_a7a1);
    let (mut escapes, mut forwarded, mut tables) = (Vec::new(), 0, 0);
    let cases = cases(30_000);
    let mut application = None;
    for number in 0..cases {
        if number % 50 == 0 || application.is_none() {
            application = std::iter::repeat_with(|| table(&mut chance))
                .take(1_000)
                .flatten()
                .next();
            tables += 1;
        }
        let application = application.as_ref().expect("one table in a thousand is good");
        match escape(application, &target(&mut chance)) {
            Ok(Some(escape)) => escapes.push(escape),
            Ok(None) => forwarded += 1,
            Err(()) => {}
        }
    }
    report("path normalisation", cases, &escapes);
    assert!(tables >= cases / 50);
    assert!(
        forwarded > cases / 20,
        "only {forwarded} were forwarded: nothing was judged"
    );
}

#[test]
fn the_models_find_a_hole_where_there_is_one() {
    let provider = ProviderConfig::new("https://login.example.com", "shop", Secret::new("s"));
    let route = |path: &str, auth: Option<&str>| {
        let target = RouteTargetConfig::Upstream("http://127.0.0.1:5000".to_owned());
        let mut route = RouteConfig::new(path, target);
        route.auth = auth.map(str::to_owned);
        route
    };
    let config = ApplicationConfig::new("shop", "https://shop.example.com", provider)
        .route(route("/", Some("none")))
        .route(route("/api/", None));
    let application = match config.check() {
        Ok(application) => application,
        Err(problems) => panic!("{problems:?}"),
    };
    let open = application
        .routes
        .iter()
        .find(|route| route.prefix.as_str() == "/")
        .expect("the open route");
    for path in [
        "/public/..;/api/x",
        "/%2561pi/x",
        "/API/x",
        "/x/..%5capi",
        "/api./x",
        "/%EF%BD%81pi/x",
        "/x%EF%BC%8F..%EF%BC%8Fapi",
    ] {
        let found = READINGS.iter().any(|reading| {
            let read = (reading.read)(path);
            matches!(
                rule_of(&application, &read, reading.ignores_case),
                Rule::Route(other) if is_stricter(open, other)
            )
        });
        assert!(found, "{path}");
        assert!(
            !matches!(escape(&application, path), Ok(Some(_))),
            "{path} is forwarded without a session"
        );
    }
}

const PREFIXES: &[&str] = &[
    "/",
    "/api",
    "/api/",
    "/api/admin",
    "/api/public",
    "/public",
    "/a",
    "/a/b",
    "/a/b/c",
    "/files",
    "/API2",
    "/v1.2",
    "/kiosk",
    "/shop/items",
    "/caf%C3%A9",
    "/~user",
    "/auth2",
    "/b-side_x",
];

const WORDS: &[&str] = &[
    "api",
    "admin",
    "public",
    "a",
    "b",
    "c",
    "files",
    "api2",
    "v1.2",
    "kiosk",
    "shop",
    "items",
    "caf\u{e9}",
    "~user",
    "auth",
    "bff",
    "x",
    "login",
    "session",
    "sign-in",
];

const ODD_WORDS: &[&str] = &[
    "..",
    ".",
    "...",
    "",
    "\u{212a}iosk",
    "publi\u{ff43}",
    "\u{17f}hop",
    "api\u{2024}",
];

const SEPARATORS: &[&str] = &[
    "//",
    "\\",
    "/./",
    "/../",
    "/%2e%2e/",
    "/..;/",
    "/..%2f",
    "%2f",
    "%2F",
    "%5c",
    "%252f",
    "%255c",
    "/;x=y/",
    "/%2e/",
    "/.;a/",
    "%EF%BC%8F",
    "%E2%88%95",
    "%EF%BC%BC",
    "/%EF%BC%8E%EF%BC%8E/",
    "%c0%af",
    "/%00/",
    "/..%00/",
    "/..%20/",
    "/%20../",
    "%u002f",
    "%uff0f",
    "/%E2%84%AA/",
    "%E2%81%84",
    "%E2%88%96",
    "%EF%B9%A8",
    "/..%EF%BC%9B/",
    "/..%CD%BEx/",
    "%E2%84%80",
    "%25EF%25BC%258F",
];

const BEHIND: &[&str] = &[
    ";",
    ";x",
    ";jsessionid=1",
    ".",
    "..",
    "%20",
    "%2e",
    "%00",
    "%09",
    "%3b",
    "%3bx",
    "%253b",
    " ",
    "+",
    "%E2%80%8B",
    "%23",
    "%3f",
    "%25",
    ",v=1",
    "%E3%80%82",
    "%EF%BC%9B",
];
