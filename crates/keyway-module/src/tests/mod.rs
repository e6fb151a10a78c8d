//! A context against a daemon in miniature: what needs a connection that breaks, or replies in a chosen order.

mod ahead;
mod application;
mod fusion;
mod gateway;
mod logins;
mod loss;
mod operations;
mod renewal;
mod replies;
mod secured;
mod server;
mod silence;
