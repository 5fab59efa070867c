//! Which content coding a client gets (RFC 9110 section 12.5.3).

#[cfg(test)]
mod tests;

use granary_splice::Encoding;
use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

/// Chooses among `available`, which stand in the order in which we like to send them.
///
/// The client's weights come first, our order second. When nothing of it is acceptable, it is the plain
/// document: that is more use than an error.
pub fn negotiate(headers: &HeaderMap, available: &[Encoding]) -> Encoding {
    let accepted = Accepted::read(headers);
    let mut best = (Encoding::Identity, 0);
    for encoding in available {
        let weight = accepted.weight(*encoding);
        if weight > best.1 {
            best = (*encoding, weight);
        }
    }
    best.0
}

/// The weights of a request, in thousandths; `None` for what it does not name.
#[derive(Debug, Default)]
struct Accepted {
    identity: Option<u16>,
    gzip: Option<u16>,
    zstd: Option<u16>,
    others: Option<u16>,
}

impl Accepted {
    fn read(headers: &HeaderMap) -> Self {
        let mut accepted = Self::default();
        for item in headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()) {
            for item in item.split(',') {
                let mut parts = item.split(';');
                let coding = parts.next().unwrap_or_default().trim();
                let slot = match coding {
                    "*" => &mut accepted.others,
                    _ if coding.eq_ignore_ascii_case("zstd") => &mut accepted.zstd,
                    _ if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") => {
                        &mut accepted.gzip
                    }
                    _ if coding.eq_ignore_ascii_case("identity") => &mut accepted.identity,
                    _ => continue,
                };
                *slot = Some(parts.find_map(weight).unwrap_or(1000));
            }
        }
        accepted
    }

    fn weight(&self, encoding: Encoding) -> u16 {
        match encoding {
            // Acceptable unless ruled out, but never better than a coding that is asked for.
            Encoding::Identity => self.identity.or(self.others.filter(|weight| *weight == 0)).unwrap_or(1),
            Encoding::Gzip => self.gzip.or(self.others).unwrap_or(0),
            Encoding::Zstd => self.zstd.or(self.others).unwrap_or(0),
        }
    }
}

/// Reads `q=0.5` in thousandths. What is malformed counts as not wanted.
fn weight(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, fraction) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    Some(match whole {
        "1" => 1000,
        "0" if digits => format!("{fraction:0<3}").parse().unwrap_or(0),
        _ => 0,
    })
}
