//! The QR code of a payment address, as the path of an inline SVG.

use std::fmt::Write;

use qrcode::{Color, EcLevel, QrCode};

pub struct Qr {
    /// The number of modules on a side, with the quiet zone.
    pub size: usize,
    /// A rectangle for each run of dark modules.
    pub path: String,
}

/// The quiet zone that scanners need on each side.
const QUIET: usize = 4;

/// `None` if the text is too long for a code.
pub fn qr(text: &str) -> Option<Qr> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M).ok()?;
    let width = code.width();
    let mut path = String::new();
    for (y, row) in code.to_colors().chunks(width).enumerate() {
        let mut x = 0;
        for run in row.chunk_by(|one, next| one == next) {
            if run.first() == Some(&Color::Dark) {
                let length = run.len();
                _ = write!(path, "M{} {}h{length}v1h-{length}z", x + QUIET, y + QUIET);
            }
            x += run.len();
        }
    }
    Some(Qr { size: width + 2 * QUIET, path })
}
