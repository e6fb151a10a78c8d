//! A context against a daemon in miniature: what needs a connection that breaks, or replies in a chosen order.

mod ahead;
mod fusion;
mod loss;
mod replies;
mod secured;
mod server;
