//! A set of many names in little memory: one text and the bounds in it.

/// Sorted names, 4 bytes each beside their letters.
#[derive(Debug, Default)]
pub(crate) struct Names {
    text: String,
    ends: Vec<u32>,
}

impl Names {
    /// The set of these names. What does not fit into 4 GiB is left out; [`lists::read`](super::lists::read) never gives as much.
    pub(crate) fn new(mut names: Vec<String>) -> Names {
        names.sort_unstable();
        names.dedup();
        let mut set = Names::default();
        for name in names.iter().filter(|name| !name.is_empty()) {
            let Ok(end) = u32::try_from(set.text.len() + name.len()) else { break };
            set.text.push_str(name);
            set.ends.push(end);
        }
        set
    }

    fn get(&self, i: usize) -> &str {
        let start = i.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        &self.text[start..self.ends[i] as usize]
    }

    /// Whether it has this name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(middle).cmp(name) {
                std::cmp::Ordering::Equal => return true,
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        false
    }

    /// Whether it has none.
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::Names;

    #[test]
    fn names_are_found() {
        let set = Names::new(["b", "a", "ab", "b", "", "é"].map(String::from).to_vec());
        for name in ["a", "ab", "b", "é"] {
            assert!(set.contains(name), "{name}");
        }
        for name in ["", "aa", "c", "abc"] {
            assert!(!set.contains(name), "{name}");
        }
        assert!(Names::new(Vec::new()).is_empty() && !Names::default().contains("a"));
    }
}
