//! Choosing the next token. Randomness is BLAKE3's extendable output of the seed: one seed and one sequence of logits,
//! one text.

use super::model::GenerateError;

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0: always the likeliest token. 1: as the model says.
    pub temperature: f64,
    /// Only the likeliest tokens that together have this probability.
    pub top_p: f64,
    /// Logits of tokens that were just used are divided by this where positive, multiplied where negative. 1: off.
    pub repetition_penalty: f64,
    /// How many of the last tokens count as just used.
    pub repetition_window: usize,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling { temperature: 0.4, top_p: 0.9, repetition_penalty: 1.2, repetition_window: 48 }
    }
}

impl Sampling {
    /// Whether every setting is in its range.
    ///
    /// # Errors
    /// [`GenerateError::Setting`].
    pub fn check(&self) -> Result<(), GenerateError> {
        let rule = |holds: bool, name, got, rule| match holds {
            true => Ok(()),
            false => Err(GenerateError::Setting { name, got, rule }),
        };
        rule((0.0..=100.0).contains(&self.temperature), "temperature", self.temperature, "from 0 to 100")?;
        rule(self.top_p > 0.0 && self.top_p <= 1.0, "top-p", self.top_p, "above 0, at most 1")?;
        let penalty = self.repetition_penalty;
        rule((1.0..=100.0).contains(&penalty), "repetition-penalty", penalty, "from 1 to 100")
    }
}

/// A source of choices.
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    banned: Vec<u32>,
    random: blake3::OutputReader,
}

impl Sampler {
    /// A sampler that never chooses a token of `banned`.
    pub fn new(sampling: Sampling, banned: Vec<u32>, seed: u64) -> Sampler {
        let mut hasher = blake3::Hasher::new_derive_key("essaim/1 generate");
        hasher.update(&seed.to_le_bytes());
        Sampler { sampling, banned, random: hasher.finalize_xof() }
    }

    /// The next token after `history`, given `logits` of every token.
    ///
    /// # Errors
    /// [`GenerateError::NotFinite`] when the logits are no numbers, or every token is banned.
    pub fn choose(&mut self, logits: &[f32], history: &[u32]) -> Result<u32, GenerateError> {
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Err(GenerateError::NotFinite);
        }
        let mut scores: Vec<f64> = logits.iter().map(|&logit| f64::from(logit)).collect();
        self.penalise(&mut scores, history);
        for &token in &self.banned {
            if let Some(score) = scores.get_mut(token as usize) {
                *score = f64::NEG_INFINITY;
            }
        }
        let mut order: Vec<(u32, f64)> =
            (0u32..).zip(scores).filter(|(_, score)| *score != f64::NEG_INFINITY).collect();
        // Ties go to the lower id, so that the order is one.
        order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let &(likeliest, best) = order.first().ok_or(GenerateError::NotFinite)?;
        if self.sampling.temperature == 0.0 {
            return Ok(likeliest);
        }
        let weight = |score: f64| ((score - best) / self.sampling.temperature).exp();
        let total: f64 = order.iter().map(|(_, score)| weight(*score)).sum();
        let mut kept = Vec::new();
        let mut mass = 0.0;
        for &(token, score) in &order {
            mass += weight(score);
            kept.push((token, mass));
            if mass >= self.sampling.top_p * total {
                break;
            }
        }
        let point = self.uniform() * mass;
        Ok(kept.iter().find(|(_, up_to)| point < *up_to).map_or(likeliest, |(token, _)| *token))
    }

    fn penalise(&self, scores: &mut [f64], history: &[u32]) {
        let recent = history.len().saturating_sub(self.sampling.repetition_window);
        let mut used = history.get(recent..).unwrap_or_default().to_vec();
        used.sort_unstable();
        used.dedup();
        for token in used {
            if let Some(score) = scores.get_mut(token as usize) {
                let penalty = self.sampling.repetition_penalty;
                *score = if *score > 0.0 { *score / penalty } else { *score * penalty };
            }
        }
    }

    /// The next number from 0 up to 1.
    fn uniform(&mut self) -> f64 {
        let mut bytes = [0u8; 8];
        self.random.fill(&mut bytes);
        (u64::from_le_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greedy() -> Sampling {
        Sampling { temperature: 0.0, repetition_penalty: 1.0, ..Sampling::default() }
    }

    #[test]
    fn without_temperature_the_likeliest_allowed_token_wins() {
        let logits = [0.5, 3.0, 3.0, -1.0];
        assert_eq!(Sampler::new(greedy(), vec![], 1).choose(&logits, &[]).unwrap(), 1);
        assert_eq!(Sampler::new(greedy(), vec![1], 1).choose(&logits, &[]).unwrap(), 2);
        let penalised = Sampling { repetition_penalty: 10.0, ..greedy() };
        assert_eq!(Sampler::new(penalised, vec![], 1).choose(&logits, &[1, 2]).unwrap(), 0);
    }

    #[test]
    fn one_seed_one_text_and_frequencies_follow_the_model() {
        let sampling = Sampling { temperature: 1.0, top_p: 1.0, repetition_penalty: 1.0, repetition_window: 0 };
        let logits = [0.0f32, (3.0f32).ln()];
        let draw = |seed| {
            let mut sampler = Sampler::new(sampling, vec![], seed);
            (0..4000).map(|_| sampler.choose(&logits, &[]).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
        let ones = draw(5).iter().filter(|&&token| token == 1).count();
        assert!((2850..3150).contains(&ones), "{ones} of 4000, 3000 expected");
    }

    #[test]
    fn top_p_cuts_the_tail_and_damage_is_an_error() {
        let sampling = Sampling { temperature: 1.0, top_p: 0.7, repetition_penalty: 1.0, repetition_window: 0 };
        let mut sampler = Sampler::new(sampling, vec![], 9);
        let logits = [0.0f32, (3.0f32).ln()];
        assert!((0..1000).all(|_| sampler.choose(&logits, &[]).unwrap() == 1), "0.75 covers 0.7 alone");
        assert!(matches!(sampler.choose(&[f32::NAN, 1.0], &[]), Err(GenerateError::NotFinite)));
        assert!(Sampling { top_p: 0.0, ..sampling }.check().is_err());
        assert!(Sampling { temperature: f64::NAN, ..sampling }.check().is_err());
        assert!(Sampling::default().check().is_ok());
    }
}
