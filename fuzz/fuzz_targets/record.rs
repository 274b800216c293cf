//! The takeover's record, as a dump contains it: a record that can be decoded can be encoded, and then decodes to the
//! same value.

#![no_main]

use libfuzzer_sys::fuzz_target;
use record::Record;

fuzz_target!(|bytes: &[u8]| {
    let Ok(record) = Record::decode(bytes) else { return };
    let _ = record.counts();
    let Ok(written) = record.clone().encode() else { return };
    if written.len() == bytes.len() {
        assert_eq!(Record::decode(&written).as_ref(), Ok(&record));
    }
});
