//! The operator's listener: is it alive, is it ready, what does it count, what does it think.
//! Reads what the planes share and changes nothing.

pub mod inspect;
pub mod live;
pub mod problem;
pub mod router;
pub mod scrape;
pub mod server;
#[cfg(test)]
mod tests;
pub mod token;
