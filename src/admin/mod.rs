//! The operator's listener: is it alive, is it ready, what does it count, what does it think, why
//! did it move, and the operator's word. Reads what the planes share; what is to change is asked of
//! the steering loop.

pub mod command;
pub mod drill;
pub mod explain;
pub mod history;
pub mod inspect;
pub mod live;
pub mod problem;
pub mod query;
pub mod router;
pub mod scrape;
pub mod server;
#[cfg(test)]
mod tests;
pub mod token;
pub mod view;
