//! The whole service in-process: the real Layer, a scripted provider, a cookie-keeping browser and
//! a manual clock. One binary; no sleeps, no order.

mod cookies;
mod cross_site;
mod embedding;
mod outages;
mod proxy;
mod refresh;
mod secrets;
mod sign_in;
mod sign_out;
mod support;
