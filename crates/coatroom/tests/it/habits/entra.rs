//! Microsoft Entra ID: one issuer for many tenants, an `iat` that is five minutes old, groups that are
//! elsewhere, a front-channel logout without `iss`, `interaction_required` at the token endpoint.

use std::sync::Arc;

use coatroom::{StoredSessions, Whose};
use coatroom_core::config::{ApplicationConfig, SessionStorage};
use http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};

use super::{asked, login_error, refresh, script, sign_in, sign_out, with_preset};
use crate::support::browser::Browser;
use crate::support::provider::Fault;
use crate::support::{OLD_KEY, Rig, checked, config, provider_of, ring, store_settings};

const OURS: &str = "8eaef023-2b34-4da1-9baa-8bc8c9d6a490";
const PARTNERS: &str = "82229342-1101-4ab6-817b-70c0747630f3";
const STRANGERS: &str = "00000000-aaaa-bbbb-cccc-dddddddddddd";
/// Where personal accounts are.
const PERSONAL: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// What `/organizations` says of itself, and a user of a tenant.
fn fake(rig: &Rig) {
    script(rig, |script, origin| {
        script.metadata = json!({
            "issuer": format!("{origin}/{{tenantid}}/v2.0"),
            "revocation_endpoint": null,
            "authorization_response_iss_parameter_supported": null,
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
        });
        script.jwk = json!({"issuer": format!("{origin}/{{tenantid}}/v2.0"), "x5t": "x"});
        script.refresh_wants = Some(("scope", "offline_access"));
        script.token_members = json!({"ext_expires_in": 3599, "scope": "openid profile"});
    });
    be_of(rig, OURS);
}

/// The next ID tokens are of this tenant.
fn be_of(rig: &Rig, tenant: &str) {
    script(rig, |script, origin| {
        script.claims = json!({"iss": format!("{origin}/{tenant}/v2.0"), "tid": tenant, "ver": "2.0"});
    });
}

fn allow(config: &mut ApplicationConfig, tenants: &[&str]) {
    let provider = provider_of(config);
    provider.issuer = format!("{}/organizations/v2.0", provider.issuer);
    provider.habits.preset = Some("entra".to_owned());
    provider.habits.allowed_tenants = tenants.iter().map(|&tenant| tenant.to_owned()).collect();
    provider.habits.danger_any_tenant = tenants.is_empty();
}

async fn rig(tenants: &[&str]) -> Rig {
    let rig = with_preset("entra", |config| allow(config, tenants)).await;
    fake(&rig);
    rig
}

/// The same with sessions in a store.
async fn stored(tenants: &[&str]) -> Rig {
    let bare = Rig::stored().await;
    let storage = SessionStorage::Store(Box::new(store_settings()));
    let rig = bare.replica_with(storage, |config| allow(config, tenants));
    fake(&rig);
    rig
}

/// Signs in as somebody of this tenant.
async fn signed_in(rig: &Rig, tenant: &str) -> Browser {
    be_of(rig, tenant);
    let mut browser = rig.browser();
    let answer = sign_in(rig, &mut browser, "", None).await;
    assert_eq!(login_error(&answer), "", "{tenant}");
    assert!(browser.is_signed_in().await, "{tenant}");
    browser
}

async fn frontchannel(browser: &Browser, query: &str) -> StatusCode {
    let request = Request::get(format!("/auth/frontchannel-logout?{query}"))
        .header(header::HOST, "shop.example")
        .body(http_body_util::Full::default())
        .expect("a good request");
    browser.send(request).await.status
}

#[tokio::test]
async fn users_of_the_listed_tenants_sign_in_refresh_and_sign_out() {
    let rig = rig(&[OURS, PARTNERS]).await;
    for tenant in [OURS, PARTNERS] {
        let mut browser = signed_in(&rig, tenant).await;
        assert_eq!(asked(&rig)["scope"], "openid profile offline_access");
        let claims = browser.session().await["id_token_claims"].clone();
        assert_eq!(claims["tid"], tenant);
        assert_eq!(claims["iss"], format!("{}/{tenant}/v2.0", rig.provider.issuer));
        refresh(&mut browser).await;
        let (page, told) = sign_out(&mut browser).await;
        assert_eq!(page, format!("{}/end", rig.provider.issuer));
        assert!(told.contains_key("id_token_hint"));
    }
}

#[tokio::test]
async fn whoever_has_a_tenant_of_their_own_stays_outside() {
    let rig = rig(&[OURS]).await;
    let origin = rig.provider.issuer.clone();
    let issuer = |tenant: &str| format!("{origin}/{tenant}/v2.0");
    for (name, claims) in [
        (
            "another tenant",
            json!({"iss": issuer(STRANGERS), "tid": STRANGERS}),
        ),
        (
            "personal accounts",
            json!({"iss": issuer(PERSONAL), "tid": PERSONAL}),
        ),
        (
            "our tid in another's token",
            json!({"iss": issuer(STRANGERS), "tid": OURS}),
        ),
        (
            "our iss in another's token",
            json!({"iss": issuer(OURS), "tid": STRANGERS}),
        ),
        ("no tid", json!({"iss": issuer(OURS), "tid": null})),
        ("a list of tids", json!({"iss": issuer(OURS), "tid": [OURS]})),
        (
            "the placeholder",
            json!({"iss": issuer("{tenantid}"), "tid": "{tenantid}"}),
        ),
        (
            "what stands for all",
            json!({"iss": issuer("organizations"), "tid": "organizations"}),
        ),
        (
            "upper case",
            json!({"iss": issuer(&OURS.to_uppercase()), "tid": OURS.to_uppercase()}),
        ),
        (
            "the issuer of version 1",
            json!({"iss": format!("{origin}/{OURS}/"), "tid": OURS}),
        ),
        (
            "another host",
            json!({"iss": format!("https://evil.example/{OURS}/v2.0"), "tid": OURS}),
        ),
    ] {
        rig.provider.script().claims = claims;
        let mut browser = rig.browser();
        let answer = sign_in(&rig, &mut browser, "", None).await;
        assert_eq!(login_error(&answer), "provider_error", "{name}");
        assert!(!browser.is_signed_in().await, "{name}");
    }
}

#[tokio::test]
async fn any_tenant_is_let_in_only_when_that_is_written_down() {
    let rig = rig(&[]).await;
    for tenant in [OURS, STRANGERS] {
        signed_in(&rig, tenant).await;
    }
    script(&rig, |script, origin| {
        script.claims = json!({"iss": format!("{origin}/{OURS}/v2.0"), "tid": STRANGERS});
    });
    let answer = sign_in(&rig, &mut rig.browser(), "", None).await;
    assert_eq!(login_error(&answer), "provider_error");
}

#[tokio::test]
async fn the_key_of_one_tenant_signs_for_no_other() {
    for (key_of, good) in [("{tenantid}", true), (OURS, true), (PERSONAL, false)] {
        let rig = rig(&[OURS]).await;
        script(&rig, |script, origin| {
            script.jwk = json!({"issuer": format!("{origin}/{key_of}/v2.0")});
        });
        let answer = sign_in(&rig, &mut rig.browser(), "", None).await;
        let expected = if good { "" } else { "provider_error" };
        assert_eq!(login_error(&answer), expected, "{key_of}");
    }
}

#[tokio::test]
async fn whoever_says_to_have_answered_must_be_the_tenant_of_the_token() {
    let rig = rig(&[OURS, PARTNERS]).await;
    let issuer = |tenant: &str| format!("{}/{tenant}/v2.0", rig.provider.issuer);
    for (iss, good) in [
        (None, true),
        (Some(issuer(OURS)), true),
        (Some(issuer(PARTNERS)), false),
        (Some(issuer(STRANGERS)), false),
        (Some(issuer("{tenantid}")), false),
        (Some(issuer("organizations")), false),
        (Some(rig.provider.issuer.clone()), false),
        (Some(String::new()), false),
    ] {
        let mut browser = rig.browser();
        let answer = sign_in(&rig, &mut browser, "", iss.as_deref()).await;
        assert_eq!(login_error(&answer).is_empty(), good, "{iss:?}");
        assert_eq!(browser.is_signed_in().await, good, "{iss:?}");
    }
}

#[tokio::test]
async fn a_refresh_brings_no_user_of_another_tenant() {
    let rig = rig(&[OURS, PARTNERS]).await;
    let mut browser = signed_in(&rig, OURS).await;
    be_of(&rig, PARTNERS);
    let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(answer.error_code(), "provider_error");
    assert_eq!(browser.session().await["id_token_claims"]["tid"], OURS);
}

#[tokio::test]
async fn the_same_sub_in_another_tenant_finishes_no_step_up() {
    let rig = rig(&[OURS, PARTNERS]).await;
    let mut browser = signed_in(&rig, OURS).await;
    for (tenant, good) in [(PARTNERS, false), (OURS, true)] {
        be_of(&rig, tenant);
        rig.provider.script().claims["acr"] = "gold".into();
        let answer = sign_in(&rig, &mut browser, "acr_values=gold", None).await;
        assert_eq!(login_error(&answer).is_empty(), good, "{tenant}");
        assert_eq!(browser.session().await["id_token_claims"]["tid"], OURS);
    }
}

#[tokio::test]
async fn nobody_sees_or_ends_sessions_of_the_same_sub_in_another_tenant() {
    let rig = stored(&[OURS, PARTNERS]).await;
    let mut ours = signed_in(&rig, OURS).await;
    let mut partners = signed_in(&rig, PARTNERS).await;
    let list = partners.fetch(Method::GET, "/auth/sessions", "").await.json();
    assert_eq!(list["sessions"].as_array().map(Vec::len), Some(1), "{list}");
    let answer = partners
        .fetch(Method::POST, "/auth/logout", "everywhere=true")
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert!(!partners.is_signed_in().await);
    assert!(ours.is_signed_in().await);
}

#[tokio::test]
async fn a_logout_token_ends_sessions_of_its_own_tenant_alone() {
    let rig = stored(&[OURS, PARTNERS]).await;
    let mut ours = signed_in(&rig, OURS).await;
    let mut partners = signed_in(&rig, PARTNERS).await;
    let post = async |browser: &Browser, iss: String, tid: &str| {
        let token = rig
            .provider
            .logout_token(&json!({"iss": iss, "tid": tid, "sid": null}));
        let request = Request::post("/auth/backchannel-logout")
            .header(header::HOST, "shop.example")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(format!("logout_token={token}").into())
            .expect("a good request");
        browser.send(request).await.status
    };
    let issuer = |tenant: &str| format!("{}/{tenant}/v2.0", rig.provider.issuer);
    for (iss, tid) in [
        (issuer(STRANGERS), STRANGERS),
        (issuer(OURS), STRANGERS),
        (rig.provider.issuer.clone(), OURS),
    ] {
        assert_eq!(post(&ours, iss, tid).await, StatusCode::BAD_REQUEST);
    }
    assert!(ours.is_signed_in().await && partners.is_signed_in().await);
    assert_eq!(post(&ours, issuer(PARTNERS), PARTNERS).await, StatusCode::OK);
    assert!(ours.is_signed_in().await);
    assert!(!partners.is_signed_in().await);
}

#[tokio::test]
async fn a_front_channel_logout_without_iss_ends_the_session_of_its_sid() {
    let rig = stored(&[OURS, PARTNERS]).await;
    let mut browser = signed_in(&rig, PARTNERS).await;
    assert_eq!(frontchannel(&browser, "sid=another").await, StatusCode::OK);
    assert_eq!(
        frontchannel(&browser, "sid=provider-session&iss=https%3A%2F%2Fevil.example").await,
        StatusCode::BAD_REQUEST
    );
    assert!(browser.is_signed_in().await);
    assert_eq!(
        frontchannel(&browser, "sid=provider-session").await,
        StatusCode::OK
    );
    assert!(!browser.is_signed_in().await);
    // with tenants that nobody can name it is not known whose the session is
    let any = stored(&[]).await;
    let mut browser = signed_in(&any, STRANGERS).await;
    assert_eq!(
        frontchannel(&browser, "sid=provider-session").await,
        StatusCode::BAD_REQUEST
    );
    assert!(browser.is_signed_in().await);
}

#[tokio::test]
async fn an_operator_finds_a_user_in_the_listed_tenants_or_in_one_that_is_named() {
    let storage = || SessionStorage::Store(Box::new(store_settings()));
    for (tenants, whose, found) in [
        (&[OURS, PARTNERS][..], "alice".to_owned(), 2),
        (&[OURS, PARTNERS], format!("{OURS}/alice"), 1),
        (&[OURS, PARTNERS], format!("{STRANGERS}/alice"), 0),
        (&[], format!("{PARTNERS}/alice"), 1),
        (&[], "alice".to_owned(), 0),
    ] {
        let rig = stored(tenants).await;
        for tenant in [OURS, PARTNERS] {
            signed_in(&rig, tenant).await;
        }
        let mut config = config(&rig.provider.issuer);
        config.session.storage = storage();
        allow(&mut config, tenants);
        let application = Arc::new(checked(config));
        let operator = StoredSessions::new(application, Arc::new(ring(&[OLD_KEY])), rig.store.clone());
        let operator = operator.expect("an agent's application");
        let listed = operator
            .list(Whose::User(&whose))
            .await
            .expect("the store is well");
        assert_eq!(listed.len(), found, "{tenants:?} {whose}");
    }
}

#[tokio::test]
async fn metadata_of_one_tenant_are_not_those_of_many() {
    let rig = rig(&[OURS]).await;
    script(&rig, |script, origin| {
        script.metadata = json!({"issuer": format!("{origin}/organizations/v2.0")});
    });
    let answer = rig.browser().fetch(Method::POST, "/auth/login/start", "").await;
    assert_eq!(answer.error_code(), "provider_error");
}

#[tokio::test]
async fn an_id_token_that_is_five_minutes_old_when_it_comes_is_taken() {
    let rig = rig(&[OURS]).await;
    let now = rig.now();
    let claims = rig.provider.script().claims.clone();
    for (iat, nbf, good) in [
        (now - 300, now - 300, true),
        (now - 3000, now - 3000, true),
        (now + 10, now + 10, true),
        (now + 11, now, false),
        (now, now + 11, false),
    ] {
        let mut dated = claims.clone();
        dated["iat"] = iat.into();
        dated["nbf"] = nbf.into();
        rig.provider.script().claims = dated;
        let answer = sign_in(&rig, &mut rig.browser(), "", None).await;
        assert_eq!(login_error(&answer).is_empty(), good, "{iat} {nbf}");
    }
}

#[tokio::test]
async fn a_user_of_too_many_groups_is_never_shown_as_one_of_none() {
    let overage = json!({
        "_claim_names": {"groups": "src1"},
        "_claim_sources": {"src1": {
            "endpoint": "https://graph.microsoft.com/v1.0/users/u/getMemberObjects",
            "access_token": "canary-of-a-source",
        }},
        "hasgroups": true,
    });
    for wanted in [None, Some(vec!["sub".to_owned(), "groups".to_owned()])] {
        let rig = with_preset("entra", |config| {
            allow(config, &[OURS]);
            config.session.claims = wanted.clone();
        })
        .await;
        fake(&rig);
        let mut claims = rig.provider.script().claims.clone();
        for (name, value) in overage.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        rig.provider.script().claims = claims;
        let mut browser = rig.browser();
        sign_in(&rig, &mut browser, "", None).await;
        let shown = browser.session().await["id_token_claims"].clone();
        assert_eq!(shown["groups"], Value::Null);
        assert_eq!(shown["_claim_names"], json!({"groups": "src1"}), "{wanted:?}");
        assert_eq!(
            shown["_claim_sources"],
            json!({"src1": {"endpoint": "https://graph.microsoft.com/v1.0/users/u/getMemberObjects"}}),
            "{wanted:?}"
        );
        assert_eq!(shown["hasgroups"], true, "{wanted:?}");
    }
}

#[tokio::test]
async fn a_refresh_that_wants_the_user_ends_in_a_new_sign_in() {
    let rig = rig(&[OURS]).await;
    let mut browser = signed_in(&rig, OURS).await;
    rig.provider.script().token_fault = Some(Fault::Answer(
        400,
        "application/json",
        r#"{"error":"interaction_required","suberror":"basic_action","error_codes":[50076]}"#,
    ));
    let answer = browser.fetch(Method::POST, "/auth/refresh", "").await;
    assert_eq!(answer.error_code(), "session_expired");
    rig.provider.script().token_fault = None;
    assert!(!browser.is_signed_in().await);
}

#[tokio::test]
async fn a_code_that_wants_the_user_is_told_to_the_app_and_begins_nothing() {
    let rig = rig(&[OURS]).await;
    rig.provider.script().token_fault = Some(Fault::Answer(
        400,
        "application/json",
        r#"{"error":"interaction_required","suberror":"basic_action","error_codes":[50076]}"#,
    ));
    let mut browser = rig.browser();
    let answer = sign_in(&rig, &mut browser, "", None).await;
    assert_eq!(login_error(&answer), "interaction_required");
    assert!(!browser.is_signed_in().await);
}
