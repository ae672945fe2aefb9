//! What the `robots.txt` of many hosts say, in little memory: rules that many hosts share are held once, and of each host its name and
//! eight bytes.

use super::RightsError;
use super::files::Answer;
use super::robots::{self, Rule};
use std::collections::HashMap;

/// What is known of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// It answered that there is no file (RFC 9309, 2.3.1.3).
    Absent,
    /// It did not answer, or with an error of its own (2.3.1.4).
    Unreachable,
    /// What it answered is no `robots.txt`.
    Malformed,
    /// Rules: an index into the policies.
    Rules(u32),
}

const ABSENT: u32 = u32::MAX;
const UNREACHABLE: u32 = u32::MAX - 1;
const MALFORMED: u32 = u32::MAX - 2;

impl State {
    fn code(self) -> u32 {
        match self {
            State::Absent => ABSENT,
            State::Unreachable => UNREACHABLE,
            State::Malformed => MALFORMED,
            State::Rules(policy) => policy,
        }
    }

    fn of(code: u32) -> State {
        match code {
            ABSENT => State::Absent,
            UNREACHABLE => State::Unreachable,
            MALFORMED => State::Malformed,
            policy => State::Rules(policy),
        }
    }
}

/// Which rules bind which agent: (index of the agent or `STAR`, index of the rules).
type Policy = Vec<(u16, u32)>;
/// The group for all others.
const STAR: u16 = u16::MAX;

/// Takes answers, and becomes a [`Table`].
#[derive(Default)]
pub(super) struct Builder {
    names: String,
    hosts: Vec<(u32, u32, u32)>,
    // Looked into, never walked through: their order does not matter.
    rules: HashMap<Vec<Rule>, u32>,
    policies: HashMap<Policy, u32>,
    rules_list: Vec<Box<[Rule]>>,
    policies_list: Vec<Policy>,
}

impl Builder {
    pub(super) fn add(&mut self, answer: &Answer<'_>, agents: &[String], star: bool) -> Result<(), RightsError> {
        let state = match answer.status {
            200..=299 => {
                let parsed = robots::parse(answer.body, agents);
                match parsed.malformed {
                    true => State::Malformed,
                    false => State::Rules(self.policy(parsed, star)?),
                }
            }
            // Redirections that led nowhere are "unavailable" (2.3.1.2).
            300..=499 => State::Absent,
            _ => State::Unreachable,
        };
        self.push(&answer.host, state)
    }

    fn push(&mut self, host: &str, state: State) -> Result<(), RightsError> {
        let start = u32::try_from(self.names.len()).map_err(|_| RightsError::TooMany)?;
        self.names.push_str(host);
        let end = u32::try_from(self.names.len()).map_err(|_| RightsError::TooMany)?;
        self.hosts.push((start, end, state.code()));
        Ok(())
    }

    fn policy(&mut self, parsed: robots::Robots, star: bool) -> Result<u32, RightsError> {
        let mut policy = Policy::new();
        let all_named = !parsed.named.is_empty() && parsed.named.iter().all(Option::is_some);
        let named = parsed.named.into_iter().enumerate().filter_map(|(agent, rules)| Some((agent as u16, rules?)));
        let others = (star && !all_named).then_some((STAR, parsed.star));
        for (agent, mut rules) in named.chain(others) {
            rules.sort();
            rules.dedup();
            // Without a prohibition, all is allowed.
            if rules.iter().any(|rule| !rule.allow) {
                let index = self.rules_index(rules)?;
                if !policy.iter().any(|(_, known)| *known == index) {
                    policy.push((agent, index));
                }
            }
        }
        self.policy_index(policy)
    }

    fn rules_index(&mut self, rules: Vec<Rule>) -> Result<u32, RightsError> {
        if let Some(&index) = self.rules.get(&rules) {
            return Ok(index);
        }
        let index = u32::try_from(self.rules_list.len()).map_err(|_| RightsError::TooMany)?;
        self.rules_list.push(rules.clone().into());
        self.rules.insert(rules, index);
        Ok(index)
    }

    fn policy_index(&mut self, policy: Policy) -> Result<u32, RightsError> {
        if let Some(&index) = self.policies.get(&policy) {
            return Ok(index);
        }
        let index = u32::try_from(self.policies_list.len()).ok().filter(|index| *index < MALFORMED);
        let index = index.ok_or(RightsError::TooMany)?;
        self.policies_list.push(policy.clone());
        self.policies.insert(policy, index);
        Ok(index)
    }

    /// A host that came several times (http and https, several crawls) has the rules of all its files, and of other states the last of
    /// absent, unreachable, malformed, rules.
    pub(super) fn finish(mut self) -> Result<Table, RightsError> {
        let mut hosts = std::mem::take(&mut self.hosts);
        let names = std::mem::take(&mut self.names);
        let name = |host: &(u32, u32, u32)| &names[host.0 as usize..host.1 as usize];
        hosts.sort_unstable_by(|a, b| name(a).cmp(name(b)));
        let mut table = Table::default();
        for same in hosts.chunk_by(|a, b| name(a) == name(b)) {
            let mut merged: Option<Policy> = None;
            let mut state = State::Absent;
            for &(_, _, code) in same {
                match State::of(code) {
                    State::Rules(policy) => {
                        merged.get_or_insert_default().extend(&self.policies_list[policy as usize]);
                    }
                    other => state = state.max(other),
                }
            }
            if let Some(mut policy) = merged {
                let several = same.len() > 1;
                if several {
                    policy.sort_by(|a, b| {
                        (a.0, &self.rules_list[a.1 as usize]).cmp(&(b.0, &self.rules_list[b.1 as usize]))
                    });
                    policy.dedup();
                }
                state = State::Rules(self.policy_index(policy)?);
            }
            // Not longer than what it was taken from.
            table.hosts.push((table.names.len() as u32, state.code()));
            table.names.push_str(name(&same[0]));
        }
        table.names.shrink_to_fit();
        table.hosts.shrink_to_fit();
        table.rules = self.rules_list.into();
        table.policies = self.policies_list;
        Ok(table)
    }
}

/// What many hosts say, to be looked up.
#[derive(Debug, Default)]
pub(super) struct Table {
    names: String,
    /// Where each host's name begins, and its state; sorted by name.
    hosts: Vec<(u32, u32)>,
    policies: Vec<Policy>,
    rules: Box<[Box<[Rule]>]>,
}

impl Table {
    fn name(&self, index: usize) -> &str {
        let end = self.hosts.get(index + 1).map_or(self.names.len(), |next| next.0 as usize);
        &self.names[self.hosts[index].0 as usize..end]
    }

    pub(super) fn len(&self) -> usize {
        self.hosts.len()
    }

    pub(super) fn get(&self, host: &str) -> Option<State> {
        let (mut low, mut high) = (0, self.hosts.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.name(middle).cmp(host) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(State::of(self.hosts[middle].1)),
            }
        }
        None
    }

    /// The first agent that a policy forbids a normalised path, `*` for all others, and the rule.
    pub(super) fn forbidden<'a>(&'a self, policy: u32, path: &str, agents: &'a [String]) -> Option<(&'a str, &'a str)> {
        self.policies[policy as usize].iter().find_map(|&(agent, rules)| {
            let rule = robots::deciding(&self.rules[rules as usize], path).filter(|rule| !rule.allow)?;
            let agent = agents.get(usize::from(agent)).map_or("*", String::as_str);
            Some((agent, &*rule.pattern))
        })
    }

    /// Bytes held: names, eight for each host, and the rules that differ.
    pub(super) fn bytes(&self) -> usize {
        let rules: usize =
            self.rules.iter().flat_map(|rules| rules.iter()).map(|rule| size_of::<Rule>() + rule.pattern.len()).sum();
        let policies: usize =
            self.policies.iter().map(|policy| size_of::<Policy>() + policy.len() * size_of::<(u16, u32)>()).sum();
        self.names.len() + self.hosts.len() * size_of::<(u32, u32)>() + rules + self.rules.len() * 16 + policies
    }
}
