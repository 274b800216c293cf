//! Names the bits of an AMD-Vi unit's registers (3.4).

use amdvi::control::{BufferBase, Control, DeviceTableBase, ExclusionBase, Status};
use amdvi::feature::{ExtendedFeature, ExtendedFeature2};
use amdvi::registers::{self, Register, device_table_segment};
use machine::Level;

use super::names;

/// The name of the register and the meaning of its value, if the specification has a register there.
pub(super) fn told(found: &record::Register) -> Option<(&'static str, String)> {
    let segments = (1..8).filter_map(device_table_segment);
    let mut all = registers::ALL.into_iter().chain(segments);
    let register = all.find(|register| register.offset == usize::from(found.offset))?;
    Some((register.name, meaning(register, found.value)))
}

fn meaning(register: Register, value: u64) -> String {
    match register {
        registers::COMMAND_BUFFER | registers::EVENT_LOG | registers::PPR_LOG | registers::GA_LOG => {
            buffer(BufferBase::from_bits(value))
        }
        registers::CONTROL => control(Control::from_bits(value)),
        registers::EXCLUSION_BASE => names(&[
            (ExclusionBase::from_bits(value).enabled(), "ExEn"),
            (ExclusionBase::from_bits(value).all(), "Allow"),
        ]),
        registers::EXTENDED_FEATURE => features(ExtendedFeature::from_bits(value)),
        registers::EXTENDED_FEATURE_2 => {
            names(&[(ExtendedFeature2::from_bits(value).ht_range_ignore(), "HtRangeIgnore")])
        }
        registers::STATUS => status(Status::from_bits(value)),
        registers::DEVICE_TABLE => device_table(DeviceTableBase::from_bits(value)),
        other if (1..8).filter_map(device_table_segment).any(|segment| segment == other) => {
            device_table(DeviceTableBase::from_bits(value))
        }
        _ => String::new(),
    }
}

fn device_table(base: DeviceTableBase) -> String {
    format!("{} entries at {:#x}", base.entries(), base.table().start)
}

fn buffer(base: BufferBase) -> String {
    match base.entries() {
        Some(entries) => format!("{entries} entries at {:#x}", base.address()),
        None => "no buffer".to_owned(),
    }
}

fn control(control: Control) -> String {
    let set = names(&[
        (control.enabled(), "IommuEn"),
        (control.ht_tunnel(), "HtTunEn"),
        (control.event_log(), "EventLogEn"),
        (control.event_interrupt(), "EventIntEn"),
        (control.completion_interrupt(), "ComWaitIntEn"),
        (control.coherent(), "Coherent"),
        (control.command_buffer(), "CmdBufEn"),
        (control.ppr_log(), "PPRLogEn"),
        (control.ppr(), "PPREn"),
        (control.guest_translation(), "GTEn"),
        (control.ga(), "GAEn"),
        (control.ga_log(), "GALogEn"),
        (control.enhanced_ppr(), "EPHEn"),
        (control.xt(), "XTEn"),
        (control.xt_interrupt(), "IntCapXTEn"),
        (control.guest_cr3_address(), "GCR3TRPMode"),
        (control.snp_avic() != 0, "SNPAVICEn"),
    ]);
    match control.segments() {
        1 => set,
        segments => format!("{set}; {segments} device table segments"),
    }
}

fn features(features: ExtendedFeature) -> String {
    let levels = |level: Option<Level>| level.map_or(0, Level::number);
    let set = names(&[
        (features.ppr(), "PPRSup"),
        (features.xt(), "XTSup"),
        (features.nx(), "NXSup"),
        (features.gt(), "GTSup"),
        (features.ia(), "IASup"),
        (features.ga(), "GASup"),
        (features.he(), "HESup"),
        (features.pc(), "PCSup"),
        (features.gio(), "GIoSup"),
        (features.host_accessed(), "HASup"),
        (features.enhanced_ppr(), "EPHSup"),
        (features.host_dirty(), "HDSup"),
        (features.snp(), "SNPSup"),
    ]);
    let (host, guest) = (levels(features.host_levels()), levels(features.guest_levels()));
    format!("host tables of {host} levels, guest tables of {guest}; {set}")
}

fn status(status: Status) -> String {
    names(&[
        (status.event_overflow(), "EventOverflow"),
        (status.event_log_runs(), "EventLogRun"),
        (status.command_buffer_runs(), "CmdBufRun"),
        (status.ppr_overflow(), "PprOverflow"),
        (status.ppr_log_runs(), "PprLogRun"),
        (status.ga_log_runs(), "GALogRun"),
        (status.ga_overflow(), "GALOverflow"),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a dead Linux leaves on QEMU.
    #[test]
    fn what_is_set_is_told_by_name() {
        assert_eq!(
            meaning(registers::CONTROL, 0x3_148F),
            "IommuEn HtTunEn EventLogEn EventIntEn Coherent CmdBufEn GTEn GAEn"
        );
        assert_eq!(meaning(registers::DEVICE_TABLE, 0x124_8001), "256 entries at 0x1248000");
        assert_eq!(meaning(registers::COMMAND_BUFFER, 9 << 56 | 0x7000), "512 entries at 0x7000");
        assert_eq!(meaning(registers::STATUS, 0x18), "EventLogRun CmdBufRun");
        let features = "host tables of 6 levels, guest tables of 0; PPRSup GTSup IASup GASup HESup";
        assert_eq!(meaning(registers::EXTENDED_FEATURE, 0x29D3), features);
    }

    #[test]
    fn registers_are_found_where_they_are() {
        let told = |offset| told(&record::Register { offset, value: 0 }).map(|(name, _)| name);
        assert_eq!((told(0x18), told(0x100)), (Some("Control"), Some("DeviceTableSegment1")));
        assert_eq!(told(0x1000), None);
    }
}
