//! Which header and cookie names pass: the lists of the header hygiene, and nothing else.
//!
//! Names arrive in lower case (`http::HeaderName`). RFC 9110 §7.6.1 for the hop-by-hop fields,
//! RFC 7239, RFC 8441, RFC 9440 and the products' own documentation for the rest.

/// Whether a request header is never the client's to send to an upstream.
///
/// Credentials, hop-by-hop fields, everything by which proxies tell upstreams who and where the
/// client is, everything that rewrites method or target, and every name that a CGI-like upstream
/// could take for another one (`x_forwarded_user`, `x.forwarded.user`).
pub(super) fn never_forwarded(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !name.bytes().all(plain) {
        return true;
    }
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    match name.as_bytes().first() {
        Some(b'a') => name == "authorization" || begins(&["ali-cdn-real-ip", "akamai-"]),
        Some(b'c') => {
            matches!(name, "cookie" | "cookie2" | "connection" | "client-ip")
                || begins(&[
                    "cf-",
                    "client-cert",
                    "cloudfront-viewer-address",
                    "cdn-real-ip",
                    "cluster-client-ip",
                ])
        }
        Some(b'd') => name == "dpop",
        Some(b'f') => matches!(name, "forwarded" | "front-end-https") || begins(&["forwarded-", "fastly-"]),
        Some(b'h') => name == "http2-settings",
        Some(b'i') => begins(&["iv-user", "iv-groups", "iv-creds"]),
        Some(b'k') => name == "keep-alive",
        Some(b'm') => begins(&["mellon-"]),
        Some(b'o') => begins(&["oidc-"]),
        // `proxy` alone becomes `HTTP_PROXY` in the environment of a CGI-like upstream
        Some(b'p') => name == "proxy" || begins(&["proxy-"]),
        Some(b'r') => begins(&["remote-", "real-ip"]),
        Some(b's') => begins(&["ssl-", "shib-", "sm-user", "sm-serversession"]),
        Some(b't') => {
            matches!(name, "te" | "transfer-encoding" | "true-client-ip") || begins(&["tailscale-"])
        }
        Some(b'u') => name == "upgrade",
        Some(b'w') => begins(&["wl-proxy-"]),
        Some(b'x') => begins(&X_PREFIXES),
        _ => false,
    }
}

/// Whether a response header is never the upstream's to send to a browser.
pub(super) fn never_returned(name: &str) -> bool {
    match name.as_bytes().first() {
        Some(b'a') => name.starts_with("access-control-"),
        Some(b'c') => matches!(name, "clear-site-data" | "connection"),
        // what our next proof repeats is between the API and us
        Some(b'd') => name == DPOP_NONCE,
        Some(b'k') => name == "keep-alive",
        Some(b'p') => name.starts_with("proxy-"),
        Some(b't') => matches!(name, "te" | "transfer-encoding" | "token-handler-error"),
        Some(b'u') => name == "upgrade",
        _ => false,
    }
}

/// What a proof of possession has to repeat (RFC 9449 §8).
pub(super) const DPOP_NONCE: &str = "dpop-nonce";

/// What frames, describes or addresses a message: not to be had removed by way of `Connection`,
/// and not allowed in trailers (RFC 9110 §6.5.1).
pub(super) const FRAMING: [&str; 8] = [
    "host",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "trailer",
];

/// `x-…` names that tell an upstream who, where or what the client is.
const X_PREFIXES: [&str; 52] = [
    "x-access-token",
    "x-amzn-oidc-",
    "x-anonymous-consumer",
    "x-api-gateway-",
    "x-apigateway-",
    "x-appengine-",
    "x-arr-",
    "x-auth",
    "x-azure-",
    "x-client-cert",
    "x-client-dn",
    "x-client-ip",
    "x-client-ssl",
    "x-client-verify",
    "x-cluster-client-ip",
    "x-consumer-",
    "x-credential-",
    "x-custom-ip-",
    "x-endpoint-api-",
    "x-envoy-",
    "x-forwarded",
    "x-forward-",
    "x-goog-authenticated-",
    "x-goog-iap-",
    "x-host",
    "x-http-destination",
    "x-http-host-",
    "x-http-method",
    "x-id-token",
    "x-jwt",
    "x-method-override",
    "x-middleware-",
    "x-ms-client-principal",
    "x-ms-token-",
    "x-original-",
    "x-originating-",
    "x-override-",
    "x-pomerium-",
    "x-proto",
    "x-proxyuser-",
    "x-real-ip",
    "x-remote-",
    "x-rewrite-",
    "x-scheme",
    "x-ssl-",
    "x-tls-",
    "x-token-subject",
    "x-token-user-",
    "x-url-scheme",
    "x-user",
    "x-vouch-",
    "x-webauth-",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tells_who_or_where_a_client_is_never_goes_upstream() {
        for name in [
            "authorization",
            "proxy-authorization",
            "cookie",
            "connection",
            "proxy-connection",
            "keep-alive",
            "te",
            "transfer-encoding",
            "upgrade",
            "http2-settings",
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-forwarded-port",
            "x-forwarded-uri",
            "x-forwarded-method",
            "x-forwarded-user",
            "x-forwarded-email",
            "x-forwarded-groups",
            "x-forwarded-access-token",
            "x-forwarded-client-cert",
            "x-forwarded-prefix",
            "x-forwarded",
            "x-real-ip",
            "x-original-url",
            "x-original-uri",
            "x-original-host",
            "x-rewrite-url",
            "x-client-ip",
            "true-client-ip",
            "cf-connecting-ip",
            "x-cluster-client-ip",
            "fastly-client-ip",
            "x-envoy-original-path",
            "x-envoy-external-address",
            "x-http-method-override",
            "x-http-method",
            "x-method-override",
            "x-middleware-",
            "x-auth-request-user",
            "x-auth-user",
            "x-authenticated-user",
            "x-authentik-username",
            "remote-user",
            "remote-groups",
            "x-remote-user",
            "x-webauth-user",
            "x-user",
            "x-vouch-",
            "x-user-id",
            "x-ssl-client-dn",
            "ssl-client-cert",
            "ssl-client-verify",
            "x-client-cert",
            "client-cert",
            "client-cert-chain",
            "oidc-claim-sub",
            "x-ms-client-principal",
            "x-ms-client-principal-id",
            "x-ms-token-aad-id-token",
            "x-goog-iap-jwt-assertion",
            "x-goog-authenticated-user-email",
            "x-amzn-oidc-data",
            "x-pomerium-jwt-assertion",
            "cf-access-jwt-assertion",
            "tailscale-user-login",
            "x-jwt-assertion",
            "dpop",
            "x-host",
            "x_forwarded_user",
            "oidc_claim_sub",
            "remote_user",
            "x-forwarded_for",
            "x.forwarded.user",
            "x-forwarded-for!",
            "client-ip",
            "cluster-client-ip",
            "real-ip",
            "proxy",
            "front-end-https",
            "iv-user",
            "sm-user",
            "shib-session-id",
            "mellon-name-id",
            "x-anonymous-consumer",
            "x-custom-ip-authorization",
            "x-http-destinationurl",
            "x-middleware-subrequest",
            "x-originating-ip",
            "x-proto",
            "x-scheme",
            "x-token-subject",
            "x-token-user-name",
            "x-url-scheme",
            "x-vouch-user",
            "wl-proxy-client-ip",
            "x-consumer-username",
        ] {
            assert!(never_forwarded(name), "{name}");
        }
    }

    #[test]
    fn what_an_api_needs_goes_upstream() {
        for name in [
            "accept",
            "accept-encoding",
            "accept-language",
            "cache-control",
            "content-type",
            "content-length",
            "content-encoding",
            "date",
            "expect",
            "host",
            "if-match",
            "if-none-match",
            "idempotency-key",
            "origin",
            "priority",
            "range",
            "referer",
            "sec-fetch-site",
            "sec-websocket-key",
            "sec-websocket-protocol",
            "traceparent",
            "tracestate",
            "trailer",
            "user-agent",
            "via",
            "x-request-id",
            "x-correlation-id",
            "x-requested-with",
            "x-api-version",
            "grpc-timeout",
            "x-grpc-web",
            "x-tenant",
            "depth",
            "destination",
            "x-csrf-token",
            "x-xsrf-token",
            "last-event-id",
            "save-data",
        ] {
            assert!(!never_forwarded(name), "{name}");
        }
    }
}
