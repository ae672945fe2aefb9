//! Licences that differ in their version alone.

use spdx::LicenseItem;

/// A licence taken apart: `GFDL-1.2-no-invariants-or-later` is the family `GFDL`, version 1.2 or later, with the tail `no-invariants`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Family {
    name: String,
    version: Vec<u32>,
    or_later: bool,
    tail: String,
}

impl Family {
    pub(super) fn of(item: &LicenseItem) -> Family {
        match item {
            LicenseItem::Spdx { id, or_later } => Family::of_id(id.name, *or_later),
            LicenseItem::Other(_) => {
                Family { name: item.to_string(), version: Vec::new(), or_later: false, tail: String::new() }
            }
        }
    }

    fn of_id(id: &str, plus: bool) -> Family {
        let (id, or_later) =
            match (id.strip_suffix("-or-later").or_else(|| id.strip_suffix('+')), id.strip_suffix("-only")) {
                (Some(id), _) => (id, true),
                (_, Some(id)) => (id, plus),
                _ => (id, plus),
            };
        let parts: Vec<&str> = id.split('-').collect();
        let numbers = |part: &str| part.split('.').map(|number| number.parse().ok()).collect::<Option<Vec<u32>>>();
        let Some((at, version)) = parts.iter().enumerate().find_map(|(at, part)| Some((at, numbers(part)?))) else {
            return Family { name: id.to_owned(), version: Vec::new(), or_later, tail: String::new() };
        };
        let name = parts[..at].join("-");
        let tail = parts[at + 1..].join("-");
        // National ports of Creative Commons grant the same.
        let is_port = name.starts_with("CC-") && tail.len() <= 3 && tail.chars().all(|c| c.is_ascii_uppercase());
        Family { name, version, or_later, tail: if is_port { String::new() } else { tail } }
    }

    /// Whether taking this licence means taking `wanted`.
    pub(super) fn covers(&self, wanted: &Family) -> bool {
        self.name == wanted.name
            && self.tail == wanted.tail
            && match (self.or_later, wanted.or_later) {
                (false, false) => self.version == wanted.version,
                (false, true) => self.version >= wanted.version,
                (true, false) => wanted.version >= self.version,
                // Some version is later than both.
                (true, true) => true,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::Family;

    #[test]
    fn later_versions_are_covered() {
        let covers = |a: &str, b: &str| Family::of_id(a, false).covers(&Family::of_id(b, false));
        for (allowed, wanted, expected) in [
            ("GPL-2.0-only", "GPL-2.0-only", true),
            ("GPL-2.0-only", "GPL-3.0-only", false),
            ("GPL-3.0-only", "GPL-2.0-or-later", true),
            ("GPL-2.0-only", "GPL-3.0-or-later", false),
            ("GPL-1.0-or-later", "GPL-3.0-only", true),
            ("GPL-3.0-or-later", "GPL-2.0-only", false),
            ("GPL-3.0-or-later", "GPL-2.0-or-later", true),
            ("GPL-1.0-or-later", "LGPL-3.0-only", false),
            ("GFDL-1.1-no-invariants-or-later", "GFDL-1.2-no-invariants-or-later", true),
            ("GFDL-1.1-no-invariants-or-later", "GFDL-1.3-or-later", false),
            ("GFDL-1.1-no-invariants-or-later", "GFDL-1.2-invariants-only", false),
            ("CC-BY-3.0", "CC-BY-3.0-AT", true),
            ("CC-BY-3.0", "CC-BY-SA-3.0", false),
            ("CC-BY-3.0", "CC-BY-4.0", false),
            ("BSD-3-Clause", "BSD-3-Clause-Clear", false),
            ("MIT", "MIT", true),
            ("MIT", "MIT-0", false),
        ] {
            assert_eq!(covers(allowed, wanted), expected, "{allowed} {wanted}");
        }
    }
}
