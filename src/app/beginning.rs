//! What the control plane begins with: the operator's address, and what was kept before.

use std::net::{SocketAddr, TcpListener};

use super::inherit::{Inheritance, Role};
use super::plane::PlaneError;
use super::thread::Register;
use crate::admin::token::Token;
use crate::clock;
use crate::config::{Admin, Config};
use crate::control::keeper::{self, LastWord};
use crate::control::memory;
use crate::control::orders::Moment;
use crate::control::steering::Keeping;
use crate::net::bind;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::setup::Chain;

/// The operator's socket and token.
pub(super) struct AdminSocket {
    pub(super) socket: TcpListener,
    pub(super) address: SocketAddr,
    pub(super) token: Option<Token>,
}

impl AdminSocket {
    /// The same once more, for a process that takes over.
    pub(super) fn lend(&self) -> Result<TcpListener, PlaneError> {
        let refused = |source| PlaneError::Admin { address: self.address, source };
        self.socket.try_clone().map_err(refused)
    }
}

/// Takes the operator's address over, or binds it; `named` are those of the listeners.
pub(super) fn bind_admin(
    admin: &Admin,
    named: &[SocketAddr],
    inherited: &mut Inheritance,
) -> Result<AdminSocket, PlaneError> {
    let refused = |source| PlaneError::Admin { address: admin.address, source };
    let claimed = inherited.claim(Role::Admin, admin.address, named).map_err(refused)?.pop();
    let socket = match claimed {
        Some(socket) => socket,
        None => bind::listeners(admin.address, 1).map_err(refused)?.remove(0),
    };
    socket.set_nonblocking(true).map_err(refused)?;
    let address = socket.local_addr().map_err(refused)?;
    Ok(AdminSocket { socket, address, token: token_of(admin) })
}

/// What has to be shown there.
pub(super) fn token_of(admin: &Admin) -> Option<Token> {
    admin.token.as_ref().and_then(|token| Token::new(token.expose()))
}

/// Starts to keep what outlives the process, where the file says so; with what was kept before. What the
/// process that is replaced says itself goes before what stands in `state_dir`.
pub(super) fn keeping(
    config: &Config,
    metrics: &Metrics,
    said: Option<Vec<u8>>,
    register: &Register,
) -> Result<(Keeping, Option<LastWord>), PlaneError> {
    let start = |folder| keeper::start(folder, metrics, register.of_panic("keeper"));
    let kept = config.state_dir.as_deref().map(start);
    let (keeper, last_word, mut restored) = match kept.transpose().map_err(PlaneError::Keeper)? {
        Some((keeper, last_word, restored)) => (Some(keeper), Some(last_word), restored),
        None => (None, None, keeper::Restored::default()),
    };
    let at = Moment { now: clock::now(), wall: clock::wall() };
    match said.map(|bytes| memory::read(&bytes, at)) {
        Some(Ok(remembered)) => restored.remembered = remembered,
        // Of another release, perhaps; what stands in `state_dir` may do.
        Some(Err(error)) => {
            tracing::error!(error = %Chain(&error), "what the old process knew is not understood");
        }
        None => {}
    }
    Ok((Keeping { keeper, restored, stale: config.resolver.stale }, last_word))
}
