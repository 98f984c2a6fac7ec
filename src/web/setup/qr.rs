//! A QR code as SVG, made in the process.

use std::fmt::Write as _;

use qrcode::{Color, EcLevel, QrCode};

/// The code of a URL, as an element to stand in a page; `None` if it is too long for one. Dark on white whatever the page
/// looks like, with the margin that readers need (ISO/IEC 18004 §6.3.8).
pub(super) fn svg(url: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(url.as_bytes(), EcLevel::M).ok()?;
    let width = code.width();
    let mut path = String::new();
    for (y, row) in code.to_colors().chunks(width).enumerate() {
        let mut x = 0;
        while x < width {
            let run = row[x..].iter().take_while(|color| **color == Color::Dark).count();
            if run > 0 {
                // A String takes everything.
                let _ = write!(path, "M{} {}h{run}v1h-{run}z", x + MARGIN, y + MARGIN);
            }
            x += run.max(1);
        }
    }
    let side = width + 2 * MARGIN;
    Some(format!(
        "<svg class=\"qr\" viewBox=\"0 0 {side} {side}\" role=\"img\" aria-label=\"QR code of this page's address\" \
         shape-rendering=\"crispEdges\"><path fill=\"#fff\" d=\"M0 0h{side}v{side}H0z\"/><path fill=\"#000\" d=\"{path}\"/></svg>"
    ))
}

const MARGIN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dark_module_is_painted_once() {
        let url = "http://192.168.178.20:8080/";
        let svg = svg(url).unwrap();
        let code = QrCode::with_error_correction_level(url, EcLevel::M).unwrap();
        let dark = code.to_colors().into_iter().filter(|color| *color == Color::Dark).count();
        let run = |piece: &str| piece.split_once('h')?.1.split_once("v1h-")?.0.parse::<usize>().ok();
        let painted: usize = svg.split('M').filter_map(run).sum();
        assert_eq!(painted, dark);
        assert_eq!(super::svg(&"x".repeat(3000)), None);
    }
}
