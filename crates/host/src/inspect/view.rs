//! The values that are shown of a dump. JSON contains exactly these.

use std::path::PathBuf;

use amdvi::control::{Control, DeviceTableBase, ExclusionBase, ExclusionLimit};
use amdvi::feature::{ExtendedFeature, ExtendedFeature2};
use amdvi::registers::device_table_segment;
use reach::{AmdViRegisters, Tables, UnitRegisters, UnitSetup, VtdRegisters};
use record::{Architecture, Counts, UnitFate, UnitRecord};
use serde::Serialize;
use vtd::capability::{Capability, ExtendedCapability};
use vtd::control::{GlobalStatus, RootTableAddress};
use vtd::registers::{CAP, ECAP, GSTS, RTADDR};

use super::InspectError;
use super::dump::RecordedDump;
use super::hex::Hex;
use super::reached::ReachView;
use super::recorded::TakeoverView;
use super::registers;
use super::survey::{Survey, SurveyScope};

/// What is shown of a dump.
#[derive(Debug, Serialize)]
pub struct Inspected {
    /// Its file.
    pub dump: PathBuf,
    /// Release of the kernel that died.
    pub kernel: String,
    /// Whether the dump was finished.
    pub dump_complete: bool,
    /// Version of the capture kernel.
    pub holdover: String,
    /// Width of physical addresses.
    pub host_address_bits: u32,
    /// What was taken over, of all units.
    pub counts: Counts,
    /// The remapping units that were asked for.
    pub units: Vec<UnitView>,
    /// Units that the record leaves out.
    pub unlisted_units: u64,
    /// Whether everything that was requested is known.
    pub whole: bool,
    /// The request. JSON has the rest too; the text for people does not.
    #[serde(skip)]
    pub asked: Asked,
}

/// The kind of request, which decides what people see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// All that there is.
    Everything,
    /// What one device could reach.
    Device,
    /// Who could reach one page.
    Address,
}

/// A remapping unit.
#[derive(Debug, Serialize)]
pub struct UnitView {
    /// Physical address of its registers.
    pub base: Hex,
    /// PCI segment of its devices.
    pub segment: u16,
    /// Whether it was taken over.
    pub state: &'static str,
    /// Why it was not taken over.
    pub why: Option<String>,
    /// Its registers as they were found.
    pub registers: Vec<RegisterView>,
    /// The results for its contexts and domains; `None` if it was not taken over.
    pub takeover: Option<TakeoverView>,
    /// The memory that devices could reach; `None` if there were no tables to walk.
    pub reach: Option<ReachView>,
}

/// A register as it was found.
#[derive(Debug, Serialize)]
pub struct RegisterView {
    /// Its name in the specification, or its offset if that has none.
    pub name: String,
    /// What it held.
    pub value: Hex,
    /// The names of what was set, or empty.
    pub meaning: String,
}

impl Inspected {
    /// Shows the record, and walks the tables of the units that are asked for.
    pub(super) fn new(
        dump: &RecordedDump,
        base: Option<Hex>,
        scope: SurveyScope,
    ) -> Result<Self, InspectError> {
        let inspected = Self::of_units(dump, base, scope);
        match base {
            Some(base) if inspected.units.is_empty() => Err(InspectError::NoUnit { base }),
            _ => Ok(inspected),
        }
    }

    /// Shows the record, and walks the tables of all units.
    pub(super) fn everything(dump: &RecordedDump) -> Self {
        Self::of_units(dump, None, SurveyScope::default())
    }

    fn of_units(dump: &RecordedDump, base: Option<Hex>, scope: SurveyScope) -> Self {
        let record = &dump.record;
        let chosen = record.units.listed.iter().filter(|unit| base.is_none_or(|base| Hex(unit.base) == base));
        let units: Vec<UnitView> =
            chosen.map(|unit| UnitView::new(unit, record.host_address_bits, &dump.memory, scope)).collect();
        Self {
            dump: dump.path.clone(),
            kernel: dump.release.clone(),
            dump_complete: dump.is_complete,
            holdover: record.writer.to_string(),
            host_address_bits: record.host_address_bits,
            counts: record.counts(),
            whole: units.iter().all(UnitView::is_whole) && record.units.unlisted == 0,
            units,
            unlisted_units: record.units.unlisted,
            asked: Asked::of(scope),
        }
    }
}

impl Asked {
    fn of(scope: SurveyScope) -> Self {
        match (scope.device, scope.address) {
            (_, Some(_)) => Self::Address,
            (Some(_), None) => Self::Device,
            (None, None) => Self::Everything,
        }
    }
}

impl UnitView {
    fn new(unit: &UnitRecord, host_address_bits: u32, memory: &dumpfile::Dump, scope: SurveyScope) -> Self {
        let (state, why, takeover) = match &unit.state {
            UnitFate::TakenOver(takeover) => ("taken over", None, Some(takeover)),
            UnitFate::Off => ("translation off", None, None),
            UnitFate::Absent(why) => ("not there", Some(why.to_string()), None),
            UnitFate::Lost(why) => ("not taken over", Some(why.to_string()), None),
        };
        let tables = translating(unit, host_address_bits).map(|unit| Tables::new(memory, unit));
        let survey = tables.map(|tables| Survey::take(&tables, unit.segment, scope));
        Self {
            base: Hex(unit.base),
            segment: unit.segment,
            state,
            why,
            registers: unit
                .registers
                .listed
                .iter()
                .map(|found| RegisterView::new(found, unit.architecture))
                .collect(),
            takeover: takeover.map(|takeover| TakeoverView::new(takeover, unit.architecture)),
            reach: survey.map(|survey| ReachView::new(survey, memory)),
        }
    }

    fn is_whole(&self) -> bool {
        let takeover_is_whole = self.takeover.as_ref().is_none_or(TakeoverView::is_whole);
        takeover_is_whole && self.reach.as_ref().is_none_or(|reach| reach.whole)
    }
}

/// The settings by which a unit's tables are read; `None` if its translation was off, or nothing is known of it.
fn translating(unit: &UnitRecord, host_address_bits: u32) -> Option<UnitSetup> {
    let registers = match unit.architecture {
        Architecture::Vtd => UnitRegisters::Vtd(vtd_registers(unit)?),
        Architecture::AmdVi => UnitRegisters::AmdVi(amdvi_registers(unit)?),
    };
    Some(UnitSetup { registers, host_address_bits })
}

fn vtd_registers(unit: &UnitRecord) -> Option<VtdRegisters> {
    let status = GlobalStatus::from_bits(unit.register(GSTS.offset)? as u32);
    let registers = VtdRegisters {
        root: RootTableAddress::from_bits(unit.register(RTADDR.offset)?),
        capability: Capability::from_bits(unit.register(CAP.offset)?),
        extended: ExtendedCapability::from_bits(unit.register(ECAP.offset)?),
    };
    status.tes().then_some(registers)
}

fn amdvi_registers(unit: &UnitRecord) -> Option<AmdViRegisters> {
    let register = |register: amdvi::registers::Register| unit.register(register.offset);
    let control = Control::from_bits(register(amdvi::registers::CONTROL)?);
    let mut device_tables = [DeviceTableBase::from_bits(register(amdvi::registers::DEVICE_TABLE)?); 8];
    for (index, base) in device_tables.iter_mut().enumerate().take(control.segments()).skip(1) {
        *base = DeviceTableBase::from_bits(register(device_table_segment(index)?)?);
    }
    let features = ExtendedFeature::from_bits(register(amdvi::registers::EXTENDED_FEATURE)?);
    let features_2 = ExtendedFeature2::from_bits(register(amdvi::registers::EXTENDED_FEATURE_2)?);
    let exclusion_base = ExclusionBase::from_bits(register(amdvi::registers::EXCLUSION_BASE)?);
    let exclusion_limit = ExclusionLimit::from_bits(register(amdvi::registers::EXCLUSION_LIMIT)?);
    let registers =
        AmdViRegisters { device_tables, control, features, features_2, exclusion_base, exclusion_limit };
    control.enabled().then_some(registers)
}

impl RegisterView {
    fn new(found: &record::Register, architecture: Architecture) -> Self {
        let (name, meaning) = registers::told(found, architecture);
        Self { name, value: Hex(found.value), meaning }
    }
}
