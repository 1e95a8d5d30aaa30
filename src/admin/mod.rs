//! The operator's listener: is it alive, is it ready, what does it count, what does it think, why
//! did it move, and the operator's word; the console is a page on top of that. Reads what the planes share; what is to change is asked of
//! the steering loop.

pub mod body;
pub mod command;
pub mod console;
pub mod drill;
pub mod events;
pub mod explain;
pub mod guard;
pub mod history;
pub mod inspect;
pub mod live;
pub mod openapi;
pub mod operations;
pub mod problem;
pub mod query;
pub mod reload;
pub mod router;
pub mod scrape;
pub mod server;
#[cfg(test)]
mod tests;
pub mod token;
pub mod view;
