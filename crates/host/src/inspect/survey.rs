//! Walks a unit's tables, and keeps a bounded part of what it finds.

use std::collections::BTreeMap;

use machine::{OldMemory, PAGE_SIZE, PhysicalAddress, Position, Range};
use reach::{Binding, Budget, Obstacle, Piece, Route, Spent, Subject, Tables, Target};

use super::device::DeviceName;

/// Most tables that are read for one unit: those of 16 TiB in pages of 4 KiB.
const TABLES: u64 = 1 << 23;
/// Most tables that are read for one route: if its tables form a loop, the other routes still get their turn.
const TABLES_OF_ROUTE: u64 = 1 << 21;
/// Most requesters and obstacles that are kept.
const ENTRIES: usize = 1 << 16;
/// Most runs of one route that are kept.
const RUNS: usize = 1 << 20;

/// The requested part of the survey; without limits it is everything.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SurveyScope {
    /// Only this device.
    pub(super) device: Option<DeviceName>,
    /// Only the page at this physical address.
    pub(super) address: Option<u64>,
}

/// What a unit's tables say.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// By each route of translation: who uses it, and where it leads.
    pub(super) routes: Vec<Surveyed>,
    /// Obstacles: requests whose target is not known.
    pub(super) obstacles: Vec<(Subject, Obstacle)>,
    /// Requesters and obstacles that are not kept.
    pub(super) unlisted: u64,
    /// Whether some tables were not read, because there are too many.
    pub(super) is_cut: bool,
    /// Some table of pages could not be read.
    pub(super) has_gaps: bool,
}

/// A route, who uses it, and where it leads.
#[derive(Debug)]
pub(super) struct Surveyed {
    pub(super) route: Route,
    pub(super) users: Vec<(Subject, Binding)>,
    pub(super) runs: Runs,
}

/// Runs: consecutive pieces, merged; at most `RUNS` of them.
#[derive(Debug, Default)]
pub(super) struct Runs {
    pub(super) listed: Vec<Piece>,
    pub(super) unlisted: u64,
    /// Bytes of I/O addresses that may be read.
    pub(super) readable: u64,
    /// Bytes of I/O addresses that may be written.
    pub(super) writable: u64,
    /// Some table could not be read.
    has_gaps: bool,
    /// The run that goes on.
    open: Option<Piece>,
}

impl Survey {
    /// Walks the tables of a unit of this segment.
    pub(super) fn take<M: OldMemory>(tables: &Tables<'_, M>, segment: u16, scope: SurveyScope) -> Self {
        let mut survey = Self::default();
        let mut budget = Budget::new(TABLES);
        let is_wanted = |place| is_wanted(place, segment, scope.device);
        let users = survey.find_users(tables, &mut budget, is_wanted);
        for (route, users) in users {
            let runs = survey.find_runs(tables, route, &mut budget, scope.address);
            if scope.address.is_none() || runs.count() > 0 {
                survey.routes.push(Surveyed { route, users, runs });
            }
        }
        survey
    }

    /// Whether everything that was requested is known.
    pub(super) fn is_whole(&self) -> bool {
        let is_unknown = |(_, obstacle): &(Subject, Obstacle)| obstacle.is_unknown();
        let all_listed = self.unlisted == 0 && self.routes.iter().all(|surveyed| surveyed.runs.unlisted == 0);
        !self.is_cut && !self.has_gaps && all_listed && !self.obstacles.iter().any(is_unknown)
    }

    fn find_users<M: OldMemory>(
        &mut self,
        tables: &Tables<'_, M>,
        budget: &mut Budget,
        is_wanted: impl Fn(Subject) -> bool,
    ) -> BTreeMap<Route, Vec<(Subject, Binding)>> {
        let mut users: BTreeMap<Route, Vec<_>> = BTreeMap::new();
        let mut kept = 0;
        let done = tables.each_requester(budget, &mut |place, binding| {
            if !is_wanted(place) {
                return;
            }
            if kept == ENTRIES {
                self.unlisted += 1;
                return;
            }
            kept += 1;
            match binding {
                Ok(binding) => users.entry(binding.route).or_default().push((place, binding)),
                Err(obstacle) => self.obstacles.push((place, obstacle)),
            }
        });
        self.note_end(done);
        users
    }

    fn find_runs<M: OldMemory>(
        &mut self,
        tables: &Tables<'_, M>,
        route: Route,
        budget: &mut Budget,
        address: Option<u64>,
    ) -> Runs {
        let mut runs = Runs::default();
        let page = address.map(|address| {
            let start = PhysicalAddress::new(address).align_down(PAGE_SIZE);
            Range::new(start, start.saturating_add(PAGE_SIZE))
        });
        let mut share = budget.lend(TABLES_OF_ROUTE);
        let done = tables.each_piece(route, &mut share, &mut |piece| match page {
            Some(page) => runs.push_part(piece, page),
            None => runs.push(piece),
        });
        budget.give_back(share);
        runs.close();
        self.has_gaps |= runs.has_gaps;
        self.note_end(done);
        runs
    }

    fn note_end(&mut self, done: Result<(), Spent>) {
        self.is_cut |= done.is_err();
    }
}

fn is_wanted(place: Subject, segment: u16, device: Option<DeviceName>) -> bool {
    let Some(device) = device else { return true };
    match place {
        Subject::Devices { first, last } => device.is_among(segment, first..=last),
        Subject::Pasids(requester) => device.is(segment, requester.source),
        Subject::Requester(requester) => device.means(segment, requester),
    }
}

impl Runs {
    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.listed.len() as u64 + self.unlisted
    }

    /// Adds a piece that follows those before.
    fn push(&mut self, piece: Piece) {
        match piece.target {
            Target::Memory { rights, .. } => {
                self.readable += if rights.read { piece.len } else { 0 };
                self.writable += if rights.write { piece.len } else { 0 };
            }
            Target::Obstacle(obstacle) => self.has_gaps |= obstacle.is_unknown(),
        }
        if !self.open.as_mut().is_some_and(|open| open.extend(&piece)) {
            self.close();
            self.open = Some(piece);
        }
    }

    /// Adds the part of a piece that leads to `memory`; notes pieces that may lead there unseen.
    fn push_part(&mut self, piece: Piece, memory: Range<PhysicalAddress>) {
        match piece.target {
            Target::Memory { address, rights, level } => {
                let part = Range::new(address, address.saturating_add(piece.len)).intersection(memory);
                if !part.is_empty() {
                    let target = Target::Memory { address: part.start, rights, level };
                    self.push(Piece {
                        iova: piece.iova.saturating_add(part.start.count_since(address)),
                        len: part.len(),
                        target,
                    });
                }
            }
            Target::Obstacle(obstacle) => self.has_gaps |= obstacle.is_unknown(),
        }
    }

    fn close(&mut self) {
        match self.open.take() {
            Some(run) if self.listed.len() < RUNS => self.listed.push(run),
            Some(_) => self.unlisted += 1,
            None => {}
        }
    }
}
