//! Attacks by generator against the pure core: return URLs and request targets.
//!
//! Every generator is seeded and deterministic, prints how many cases it tried, and is judged by an
//! oracle that shares no code with what it judges. `COATROOM_CASES=n` sets the number of cases.

mod chance;
mod open_redirect;
mod paths;
mod randomness;
mod readings;
mod redirects;
