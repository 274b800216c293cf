//! What is shown of a dump, as values: JSON for programs as it is; [`text`](super::text) is made of it for people.

use std::path::PathBuf;

use anyhow::{Result, bail};
use reach::Tables;
use record::{Counts, State, Unit};
use serde::Serialize;
use vtd::capability::{Capability, ExtendedCapability};
use vtd::control::{GlobalStatus, RootTableAddress};
use vtd::registers::{CAP, ECAP, GSTS, RTADDR};

use super::dump::Dump;
use super::hex::Hex;
use super::reached::ReachView;
use super::recorded::TakeoverView;
use super::registers;
use super::survey::{Survey, Wanted};

/// What is shown of a dump.
#[derive(Debug, Serialize)]
pub struct Inspected {
    pub dump: PathBuf,
    pub kernel: String,
    /// Whether the dump was finished.
    pub dump_complete: bool,
    /// Version of the capture kernel.
    pub holdover: String,
    pub host_address_bits: u32,
    pub counts: Counts,
    pub units: Vec<UnitView>,
    /// Units that the record leaves out.
    pub unlisted_units: u64,
    /// Whether everything that was asked for could be told.
    pub whole: bool,
    #[serde(skip)]
    pub asked: Asked,
}

/// What was asked for decides what people are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Everything,
    Device,
    Address,
}

/// A remapping unit.
#[derive(Debug, Serialize)]
pub struct UnitView {
    pub base: Hex,
    pub segment: u16,
    pub state: &'static str,
    /// Why it was not taken over.
    pub why: Option<String>,
    pub registers: Vec<RegisterView>,
    pub takeover: Option<TakeoverView>,
    /// What devices could reach; `None` if there were no tables to ask.
    pub reach: Option<ReachView>,
}

/// A register as it was found.
#[derive(Debug, Serialize)]
pub struct RegisterView {
    pub name: String,
    pub value: Hex,
    pub meaning: String,
}

/// Reads the record, and walks the tables of the units that are asked for.
pub fn inspect(dump: &Dump, base: Option<u64>, wanted: Wanted) -> Result<Inspected> {
    let record = &dump.record;
    let chosen = record.units.listed.iter().filter(|unit| base.is_none_or(|base| unit.base == base));
    let units: Vec<UnitView> =
        chosen.map(|unit| UnitView::new(unit, record.host_address_bits, &dump.memory, wanted)).collect();
    if let (Some(base), true) = (base, units.is_empty()) {
        bail!("the record names no remapping unit at {base:#x}");
    }
    Ok(Inspected {
        dump: dump.path.clone(),
        kernel: dump.release.clone(),
        dump_complete: dump.is_complete,
        holdover: record.writer.to_string(),
        host_address_bits: record.host_address_bits,
        counts: record.counts(),
        whole: units.iter().all(UnitView::is_whole) && record.units.unlisted == 0,
        units,
        unlisted_units: record.units.unlisted,
        asked: match (wanted.device, wanted.address) {
            (_, Some(_)) => Asked::Address,
            (Some(_), None) => Asked::Device,
            (None, None) => Asked::Everything,
        },
    })
}

impl UnitView {
    fn new(unit: &Unit, host_address_bits: u32, memory: &dumpfile::Dump, wanted: Wanted) -> Self {
        let (state, why, takeover) = match &unit.state {
            State::TakenOver(takeover) => ("taken over", None, Some(takeover)),
            State::Off => ("translation off", None, None),
            State::Lost(why) => ("not taken over", Some(why.to_string()), None),
        };
        let tables = translating(unit, host_address_bits).map(|unit| Tables::new(memory, unit));
        let survey = tables.map(|tables| Survey::take(&tables, unit.segment, wanted));
        Self {
            base: Hex(unit.base),
            segment: unit.segment,
            state,
            why,
            registers: unit.registers.listed.iter().map(RegisterView::new).collect(),
            takeover: takeover.map(TakeoverView::new),
            reach: survey.map(|survey| ReachView::new(survey, memory)),
        }
    }

    fn is_whole(&self) -> bool {
        let takeover_is_whole = self.takeover.as_ref().is_none_or(TakeoverView::is_whole);
        takeover_is_whole && self.reach.as_ref().is_none_or(|reach| reach.whole)
    }
}

/// What decides how a unit's tables are read; `None` if its translation was off, or nothing is known of it.
fn translating(unit: &Unit, host_address_bits: u32) -> Option<reach::Unit> {
    let status = GlobalStatus::from_bits(unit.register(GSTS)? as u32);
    status.tes().then_some(reach::Unit {
        root: RootTableAddress::from_bits(unit.register(RTADDR)?),
        capability: Capability::from_bits(unit.register(CAP)?),
        extended: ExtendedCapability::from_bits(unit.register(ECAP)?),
        host_address_bits,
    })
}

impl RegisterView {
    fn new(found: &record::Register) -> Self {
        let register = registers::at(found.offset);
        Self {
            name: register
                .map_or_else(|| format!("{:#x}", found.offset), |register| register.name.to_owned()),
            value: Hex(found.value),
            meaning: register.map(|register| registers::meaning(register, found.value)).unwrap_or_default(),
        }
    }
}
