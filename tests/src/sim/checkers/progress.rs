//! The run goes on.

use super::super::Summary;
use super::Checker;

/// Every round is recorded, members' work counts, and whoever is up at the end has followed to the end.
#[derive(Debug)]
pub struct Progress {
    /// Contributions that count, at least, in thousandths of the members of all rounds.
    pub share_permille: u64,
}

impl Checker for Progress {
    fn name(&self) -> &'static str {
        "progress"
    }

    fn end(&mut self, summary: &Summary) -> Result<(), String> {
        if summary.records != summary.rounds + 1 {
            return Err(format!(
                "{} of {} records after {} s",
                summary.records,
                summary.rounds + 1,
                summary.now_ms / 1000
            ));
        }
        if summary.honest_at_end != summary.honest_alive {
            return Err(format!("{} of {} members saw the end", summary.honest_at_end, summary.honest_alive));
        }
        if summary.contributions * 1000 < summary.member_rounds * self.share_permille {
            let (got, of) = (summary.contributions, summary.member_rounds);
            return Err(format!("only {got} contributions in {of} member rounds"));
        }
        if summary.empty_rounds * 20 > summary.rounds + 20 {
            return Err(format!("{} of {} rounds without a contribution", summary.empty_rounds, summary.rounds));
        }
        Ok(())
    }
}
