//! What happened when: requests by provider and losses, in equal cells of time, for a drawing.
//!
//! Bounded: a replay of any length has at most `MOST` cells.

use std::ops::Range;
use std::time::Duration;

/// Most cells.
const MOST: u32 = 20_000;
/// No cell is shorter.
const SHORTEST: Duration = Duration::from_secs(1);

/// Cells of a whole replay.
#[derive(Clone, Debug, Default)]
pub struct Series {
    step: Duration,
    cells: Vec<Cell>,
}

/// What happened in one stretch of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    /// Requests by the provider that answered, in the scenario's order.
    pub served: Vec<f32>,
    /// Requests lost.
    pub lost: f32,
    /// Requests that would have been lost through the first provider alone.
    pub lost_without: f32,
}

impl Cell {
    fn add(&mut self, other: &Self) {
        if self.served.len() < other.served.len() {
            self.served.resize(other.served.len(), 0.0);
        }
        self.served.iter_mut().zip(&other.served).for_each(|(mine, theirs)| *mine += theirs);
        self.lost += other.lost;
        self.lost_without += other.lost_without;
    }
}

impl Series {
    /// Of a replay so long, with so many providers.
    pub fn new(length: Duration, providers: usize) -> Self {
        let step = (length / MOST).max(SHORTEST);
        let count = length.as_nanos().div_ceil(step.as_nanos()) as usize;
        let cell = Cell { served: vec![0.0; providers], ..Cell::default() };
        Self { step, cells: vec![cell; count] }
    }

    /// The cell of a time; after the end there is none.
    pub fn at(&mut self, at: Duration) -> Option<&mut Cell> {
        let place = at.as_nanos() / self.step.as_nanos().max(1);
        self.cells.get_mut(place as usize)
    }

    /// Adds to every cell of a span what is its part of `whole`.
    pub fn spread(&mut self, span: Range<Duration>, whole: &Cell) {
        let length = (span.end - span.start).as_secs_f64();
        let mut at = span.start;
        while at < span.end {
            let cell = (at.as_nanos() / self.step.as_nanos().max(1)) as u32;
            let next = (self.step * (cell + 1)).min(span.end);
            let part = ((next - at).as_secs_f64() / length) as f32;
            if let Some(mine) = self.at(at) {
                mine.add(&Cell {
                    served: whole.served.iter().map(|all| all * part).collect(),
                    lost: whole.lost * part,
                    lost_without: whole.lost_without * part,
                });
            }
            at = next;
        }
    }

    /// A stretch of it in so many columns, or fewer where cells are not that fine.
    pub fn columns(&self, span: Range<Duration>, most: u32) -> Vec<Cell> {
        let whole = (span.end - span.start).as_nanos();
        let width = whole.div_ceil(u128::from(most.max(1))).max(self.step.as_nanos()).max(1);
        let count = whole.div_ceil(width) as usize;
        let mut columns = vec![Cell::default(); count];
        for (place, cell) in self.cells.iter().enumerate() {
            let at = self.step * place as u32;
            if span.contains(&at) {
                columns[((at - span.start).as_nanos() / width) as usize].add(cell);
            }
        }
        columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_span_is_spread_over_its_cells_by_time() {
        let mut series = Series::new(seconds(10), 1);
        let whole = Cell { served: vec![30.0], lost: 3.0, lost_without: 6.0 };
        series.spread(Duration::from_millis(1500)..Duration::from_millis(4500), &whole);
        let served: Vec<f32> = series.cells.iter().map(|cell| cell.served[0]).collect();
        for (found, wanted) in served.iter().zip([0.0, 5.0, 10.0, 10.0, 5.0, 0.0]) {
            assert!((found - wanted).abs() < 1e-3, "{served:?}");
        }
    }

    #[test]
    fn columns_hold_what_their_cells_hold() {
        let mut series = Series::new(seconds(100), 1);
        for n in 0..100 {
            series.at(seconds(n)).expect("a cell").lost += 1.0;
        }
        let columns = series.columns(seconds(20)..seconds(60), 10);
        assert_eq!(columns.len(), 10);
        assert!(columns.iter().all(|column| (column.lost - 4.0).abs() < 1e-6));
        assert_eq!(series.columns(seconds(0)..seconds(5), 480).len(), 5, "no finer than cells");
    }

    #[test]
    fn a_fortnight_has_no_more_cells_than_allowed() {
        let series = Series::new(seconds(14 * 86_400), 5);
        assert!(series.cells.len() <= MOST as usize);
        assert!(Series::default().columns(seconds(0)..seconds(1), 480).len() <= 480);
    }
}
