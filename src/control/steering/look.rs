//! What people are shown, as of now.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::clock;
use crate::decide::detector::Detector;
use crate::exchange::board::{BoardView, Entry};
use crate::exchange::snapshot::View;
use crate::model::id::ProviderId;
use crate::model::operator::StandingOrder;

type Told = (Arc<VecDeque<Arc<Entry>>>, Arc<[StandingOrder]>);

/// The first look, with the journal's last entries and the operator's orders.
pub(super) fn first(
    detector: &Detector,
    view: Arc<View>,
    (recent, orders): Told,
    now: Instant,
) -> BoardView {
    let (upstreams, pools, providers) = (Vec::new(), Vec::new(), Vec::new());
    let mut board = BoardView {
        at: clock::wall(),
        view,
        upstreams,
        pools,
        providers,
        orders,
        drills: Arc::new([]),
        recent,
    };
    again(detector, &mut board, now);
    board
}

/// Draws anew what there is news of; all of it under another topology.
pub(super) fn again(detector: &Detector, board: &mut BoardView, now: Instant) {
    let topology = &board.view.routing.topology;
    board.at = clock::wall();
    let same = (board.upstreams.len(), board.pools.len())
        == (topology.upstreams.len(), topology.pools.len());
    if same {
        for (id, _) in topology.upstreams().filter(|(_, it)| detector.is_news(it.pool)) {
            board.upstreams[id.index()] = detector.upstream(id, now);
        }
        for (id, _) in topology.pools().filter(|(id, _)| detector.is_news(*id)) {
            board.pools[id.index()] = detector.pool(id);
        }
    } else {
        board.upstreams = topology.upstreams().map(|(id, _)| detector.upstream(id, now)).collect();
        board.pools = topology.pools().map(|(id, _)| detector.pool(id)).collect();
    }
    let providers = (0..topology.providers.len()).map(ProviderId::new);
    board.providers = providers.map(|id| detector.provider(id)).collect();
}
