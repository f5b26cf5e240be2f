//! No return URL leads off the SPA's pages: the core's check against grammar and payload lists.

use coatroom_core::config::{
    Application, ApplicationConfig, Origin, ProviderConfig, RouteConfig, RouteTargetConfig,
};
use coatroom_core::return_to::ReturnTo;
use coatroom_core::secret::Secret;

use crate::chance::{Chance, cases, report};
use crate::redirects::{Site, generate, payloads};

/// An application with the readers' view of it.
struct Target {
    application: Application,
    site: Site<'static>,
    host: &'static str,
}

fn checked(config: ApplicationConfig) -> Application {
    match config.check() {
        Ok(application) => application,
        Err(problems) => panic!("the test's configuration is wrong: {problems:?}"),
    }
}

fn upstream(path: &str) -> RouteConfig {
    RouteConfig::new(
        path,
        RouteTargetConfig::Upstream("http://127.0.0.1:5000".to_owned()),
    )
}

fn config() -> ApplicationConfig {
    let provider = ProviderConfig::new("https://login.example.com", "shop", Secret::new("s"));
    ApplicationConfig::new("shop", "https://shop.example.com", provider).route(upstream("/api/"))
}

/// The SPA beside its agent, on a sibling with two origins, and behind a route to an upstream.
fn targets() -> [Target; 3] {
    let own = config().route(RouteConfig::new("/", RouteTargetConfig::Static("./dist".into())));
    let mut siblings = config();
    siblings.app_url = Some("https://www.example.com".to_owned());
    siblings.origins = Some(vec![
        "https://www.example.com".to_owned(),
        "https://beta.example.com:8443".to_owned(),
    ]);
    let mut home = upstream("/");
    home.auth = Some("none".to_owned());
    let behind = config().route(home);
    let no_pages = &["/auth", "/api"];
    let agent = "https://shop.example.com";
    [
        Target {
            application: checked(own),
            site: Site {
                agent,
                listed: &["https://shop.example.com"],
                no_pages,
                lenient_pages: false,
            },
            host: "shop.example.com",
        },
        Target {
            application: checked(siblings),
            site: Site {
                agent,
                listed: &["https://www.example.com", "https://beta.example.com:8443"],
                no_pages,
                lenient_pages: false,
            },
            host: "www.example.com",
        },
        Target {
            application: checked(behind),
            site: Site {
                agent,
                listed: &["https://shop.example.com"],
                no_pages,
                lenient_pages: true,
            },
            host: "shop.example.com",
        },
    ]
}

/// Tries one input in every way it can come in; whether it was accepted.
fn attack(target: &Target, input: &str, escapes: &mut Vec<String>) -> bool {
    let application = &target.application;
    let origin = Origin::parse("https://beta.example.com:8443").expect("an origin");
    let stranger = Origin::parse("https://evil.example").expect("an origin");
    let mut accepted = false;
    for from in [None, Some(&origin), Some(&stranger)] {
        let Ok(url) = ReturnTo::parse(input, from, application) else {
            continue;
        };
        accepted = true;
        if let Some(escape) = target.site.escape(url.as_str()) {
            escapes.push(format!("{input:?}: {escape}"));
        }
        match ReturnTo::revalidate(url.as_str(), application) {
            Ok(again) if again == url => {}
            Ok(again) => escapes.push(format!("{input:?}: {} became {}", url.as_str(), again.as_str())),
            Err(_) => escapes.push(format!("{input:?}: {} was not accepted again", url.as_str())),
        }
    }
    accepted
}

#[test]
fn no_generated_return_url_leaves_the_listed_pages() {
    let targets = targets();
    let mut chance = Chance::new(0x00c0_a700);
    let (mut escapes, mut accepted) = (Vec::new(), 0);
    let cases = cases(40_000);
    for number in 0..cases {
        let target = &targets[number % targets.len()];
        let input = generate(&mut chance, target.host);
        accepted += usize::from(attack(target, &input, &mut escapes));
    }
    report("open redirect, grammar", cases, &escapes);
    assert!(
        accepted > cases / 100,
        "only {accepted} were accepted: nothing was judged"
    );
    assert!(
        accepted < cases / 2,
        "{accepted} were accepted: they were no attacks"
    );
}

#[test]
fn no_payload_of_the_public_lists_leaves_the_listed_pages() {
    let (mut escapes, mut tried) = (Vec::new(), 0);
    for target in &targets() {
        for payload in payloads(target.host) {
            attack(target, &payload, &mut escapes);
            tried += 1;
        }
    }
    report("open redirect, payload lists", tried, &escapes);
    assert!(tried >= 1_392, "the families came to {tried}");
}

#[test]
fn the_oracle_knows_an_escape_when_it_sees_one() {
    let [own, siblings, _] = targets();
    for location in [
        "//evil.example/",
        "/\\evil.example",
        "https://evil.example/",
        "https://shop.example.com@evil.example/",
        "https://shop.example.com.evil.example/",
        "https://shop.example.com:444/",
        "http://shop.example.com/",
        "javascript:alert(1)",
        "https:evil.example",
        "/auth/login",
        "/x/../api/orders",
        "/%61pi/orders",
        "/a\tb",
    ] {
        assert!(own.site.escape(location).is_some(), "{location}");
    }
    for location in [
        "/",
        "/deep?x=//evil.example#/auth",
        "https://shop.example.com/authors",
    ] {
        assert_eq!(own.site.escape(location), None, "{location}");
    }
    assert!(siblings.site.escape("https://shop.example.com/").is_some());
    assert_eq!(siblings.site.escape("https://beta.example.com:8443/auth/x"), None);
}
