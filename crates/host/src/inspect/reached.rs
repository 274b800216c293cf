//! The memory that devices could reach, in the form in which it is shown.

use machine::{Level, PAGE_SHIFT, Requester};
use reach::{Binding, Obstacle, Piece, Stages, Subject, Target};
use serde::Serialize;

use super::hex::Hex;
use super::survey::{Survey, Surveyed};

/// What the devices of a unit could reach.
#[derive(Debug, Serialize)]
pub struct ReachView {
    /// The routes of translation, with their users.
    pub routes: Vec<RouteView>,
    /// The requests that lead nowhere, or whose target is unknown.
    pub obstacles: Vec<ObstacleView>,
    /// Users and obstacles that are not listed.
    pub unlisted: u64,
    /// Whether some tables were not read, because there are too many.
    pub cut: bool,
    /// Whether everything that was requested is known.
    pub whole: bool,
}

/// A route of translation, its users, and the memory to which it leads.
#[derive(Debug, Serialize)]
pub struct RouteView {
    /// Who uses it.
    pub users: Vec<UserView>,
    /// Which stages translate.
    pub translation: &'static str,
    /// Root tables: of the first stage, of the second, of both.
    pub tables: Vec<Hex>,
    /// Width of I/O addresses; `None` in pass-through.
    pub address_bits: Option<u32>,
    /// Bytes of I/O addresses that may be read.
    pub readable_bytes: u64,
    /// Bytes of I/O addresses that may be written.
    pub writable_bytes: u64,
    /// Where the I/O addresses lead, in their order.
    pub runs: Vec<RunView>,
    /// Runs that are not listed.
    pub unlisted_runs: u64,
}

/// A user of a route of translation, or several with consecutive ids.
#[derive(Debug, Serialize)]
pub struct UserView {
    /// Bus, device and function: `00:14.0`.
    pub device: String,
    /// The last device, if there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// PASID of its requests, if they have one.
    pub pasid: Option<u32>,
    /// Domain-id, as it was found.
    pub domain: u16,
    /// Whether the device may keep translations itself (ATS).
    pub device_tlb: bool,
    /// Devices and PASID in one.
    #[serde(skip)]
    pub name: String,
}

/// Consecutive I/O addresses that lead to consecutive memory in the same way.
#[derive(Debug, Serialize)]
pub struct RunView {
    /// The first I/O address.
    pub iova: Hex,
    /// How many bytes.
    pub bytes: u64,
    /// The first physical address, if they lead to memory.
    pub physical: Option<Hex>,
    /// The allowed accesses.
    pub rights: Option<String>,
    /// Size of the pages that map them; `None` if no table does.
    pub page_bytes: Option<u64>,
    /// Why they lead nowhere, or why the target is unknown.
    pub obstacle: Option<String>,
}

/// Requests whose target is not known.
#[derive(Debug, Serialize)]
pub struct ObstacleView {
    /// Whose requests.
    pub place: String,
    /// What is known.
    pub what: String,
}

impl ReachView {
    pub(super) fn new(survey: Survey, memory: &dumpfile::Dump) -> Self {
        let whole = survey.is_whole();
        let Survey { routes, obstacles, unlisted, is_cut, has_gaps: _ } = survey;
        let obstacle = |(place, obstacle): (Subject, Obstacle)| ObstacleView {
            place: told_place(place),
            what: told(obstacle, memory),
        };
        Self {
            routes: routes.into_iter().map(|surveyed| RouteView::new(surveyed, memory)).collect(),
            obstacles: obstacles.into_iter().map(obstacle).collect(),
            unlisted,
            cut: is_cut,
            whole,
        }
    }
}

impl RouteView {
    fn new(surveyed: Surveyed, memory: &dumpfile::Dump) -> Self {
        let Surveyed { route, users, runs } = surveyed;
        let (translation, tables, address_bits) = match route.stages {
            Stages::PassThrough => ("pass-through", vec![], None),
            Stages::Blocked => ("blocked", vec![], None),
            Stages::Second(root) => ("second stage", vec![root], Some(root.top.width())),
            Stages::First(first) => ("first stage", vec![first.root], Some(first.root.top.width())),
            Stages::Nested { first, second } => {
                ("nested", vec![first.root, second], Some(first.root.top.width()))
            }
        };
        Self {
            users: users.into_iter().map(UserView::new).collect(),
            translation,
            tables: tables.into_iter().map(|root| Hex(root.address.get())).collect(),
            address_bits,
            readable_bytes: runs.readable,
            writable_bytes: runs.writable,
            runs: runs.listed.iter().map(|run| RunView::new(run, memory)).collect(),
            unlisted_runs: runs.unlisted,
        }
    }
}

impl UserView {
    fn new((subject, binding): (Subject, Binding)) -> Self {
        let Binding { domain, device_tlb, route: _ } = binding;
        let (first, last, pasid) = match subject {
            Subject::Devices { first, last } if first == last => (first, None, None),
            Subject::Devices { first, last } => (first, Some(last.to_string()), None),
            Subject::Pasids(Requester { source, pasid })
            | Subject::Requester(Requester { source, pasid }) => (source, None, pasid),
        };
        Self { device: first.to_string(), last, pasid, domain, device_tlb, name: told_place(subject) }
    }
}

impl RunView {
    fn new(run: &Piece, memory: &dumpfile::Dump) -> Self {
        let (physical, rights, page_bytes, obstacle) = match run.target {
            Target::Memory { address, rights, level } => {
                (Some(Hex(address.get())), Some(rights.to_string()), level.map(Level::span), None)
            }
            Target::Obstacle(obstacle) => (None, None, None, Some(told(obstacle, memory))),
        };
        Self { iova: Hex(run.iova.get()), bytes: run.len, physical, rights, page_bytes, obstacle }
    }
}

fn told_place(place: Subject) -> String {
    match place {
        Subject::ALL => "all devices".to_owned(),
        Subject::Devices { first, last } if first == last => first.to_string(),
        Subject::Devices { first, last } => format!("{first} to {last}"),
        Subject::Pasids(first) => format!("PASIDs from {first} on"),
        Subject::Requester(requester) => requester.to_string(),
    }
}

/// An obstacle; if something could not be read, also why.
fn told(obstacle: Obstacle, memory: &dumpfile::Dump) -> String {
    match obstacle {
        Obstacle::Unreadable(address) => match memory.check_page(address.get() >> PAGE_SHIFT) {
            Err(reason) => format!("unknown: {obstacle}: {reason}"),
            Ok(()) => format!("unknown: {obstacle}"),
        },
        _ => format!("faults: {obstacle}"),
    }
}
