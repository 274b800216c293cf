//! Codecs as the command line names them.

use host::Codec;

/// Any codec.
pub(crate) fn any(name: &str) -> Result<Codec, String> {
    among(Codec::ALL, name)
}

/// One that the capture kernel knows.
pub(crate) fn in_capture_kernel(name: &str) -> Result<Codec, String> {
    among(Codec::EVERYWHERE, name)
}

fn among(codecs: &[Codec], name: &str) -> Result<Codec, String> {
    Codec::named(name, codecs).ok_or_else(|| {
        let names: Vec<_> = codecs.iter().map(|codec| codec.name()).collect();
        format!("there are {}", names.join(", "))
    })
}
