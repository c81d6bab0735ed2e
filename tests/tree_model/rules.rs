//! What must hold, whatever happens in whatever order.
//!
//! Must never go by what the tree thinks, but where that is what is judged.

use svtree::pure::config::NeedsRestart;
use svtree::pure::machine::Phase;
use svtree::pure::standing::{Gate, Stand, Standing};
use svtree::pure::time::Moment;
use svtree::pure::tree::GroupState;

use crate::law::Law;
use crate::world::{UNIT, World};

impl World {
    /// A program is about to be started.
    pub fn check_start(&mut self, number: usize) -> Result<(), String> {
        let name = &self.scene.modules[number].name;
        let part = &self.parts[number];
        if part.program.is_some() {
            return Err(format!("a second copy of {name} is started"));
        }
        if part.finish.is_some() {
            return Err(format!("{name} is started while its finish runs"));
        }
        if !matches!(part.force, Gate::Open | Gate::Once) {
            return Err(format!("{name} is started against the word {:?}", part.force));
        }
        if let Some((other, _)) = part.before.iter().find(|(other, pid)| self.parts[*other].program == Some(*pid)) {
            let other = &self.scene.modules[*other].name;
            return Err(format!("{name} is started again, and {other} runs from before"));
        }
        // Where nothing is under way, what was heard is true.
        if !self.heard && self.parts.iter().all(|part| part.reports.is_empty()) && part.mail.is_empty() {
            for other in self.law.needs[number].iter().flatten() {
                let other_part = &self.parts[*other];
                if part.bond.is_some() && !(other_part.lives && other_part.machine.is_ready()) {
                    return Err(format!("{name} is started, and {} is not ready", self.scene.modules[*other].name));
                }
            }
        }
        let part = &mut self.parts[number];
        part.uses_up();
        part.before.clear();
        Ok(())
    }

    /// A program that was to run has ended, or could not be started.
    pub fn has_died(&mut self, number: usize) {
        if self.parts[number].bond.is_none() {
            return;
        }
        let along = self.law.taken_along(number);
        let run: Vec<_> = along.into_iter().filter_map(|other| Some((other, self.parts[other].program?))).collect();
        // Where an edit has just made a group of them, it may start again by its own rules until it has heard of that.
        if self.parts[number].force != Gate::Open {
            self.parts[number].before.extend(&run);
        }
        self.doomed.extend(run);
    }

    /// After the tree has said what there is to say, to some of them to stop.
    pub fn check_words(&mut self, stops: &[usize]) -> Result<(), String> {
        self.recount();
        for place in 0..self.law.groups.len() {
            let fails = self.fails(place);
            if self.failing[place] && !fails {
                return Err(format!("group {} has failed, and begins anew unasked", self.law.groups[place].name));
            }
        }
        for (number, part) in self.parts.iter().enumerate().filter(|(_, part)| part.known) {
            let Some((Gate::Open | Gate::Once, _)) = part.word else { continue };
            let name = &self.scene.modules[number].name;
            if self.law.circles[number] {
                return Err(format!("{name} waits for itself, and may start"));
            }
            for other in &self.law.needs[number] {
                let stand = other.and_then(|other| Some(self.parts[other].heard?.stand));
                if stand != Some(Stand::Ready) {
                    return Err(format!("{name} may start, and what it needs was heard of as {stand:?}"));
                }
            }
            for (place, unit) in self.law.chains[number].iter().filter(|(place, _)| self.law.is_together(*place)) {
                for other in self.law.groups[*place].units[..*unit].iter().flatten() {
                    let other = &self.parts[*other];
                    let passed =
                        |standing: Standing| standing.stand == Stand::Ready || (!standing.wanted && !standing.runs);
                    if !other.away && !other.heard.is_some_and(passed) {
                        return Err(format!("{name} may start, and one before it was heard of as {:?}", other.heard));
                    }
                }
            }
        }
        for number in stops {
            let part = &self.parts[*number];
            let with_needs = matches!(&part.word, Some((Gate::Stop(why), _)) if why.starts_with("needs "));
            let runs = |other: &usize| self.parts[*other].heard.is_some_and(|standing| standing.runs);
            let in_order = |place: usize| {
                let ends = self.state(place) == GroupState::Stopping || self.has_failed(place);
                ends && !self.law.later(*number, place).iter().any(runs)
            };
            if !with_needs && !self.law.chains[*number].iter().any(|(place, _)| in_order(*place)) {
                return Err(format!("{} is to stop before those after it", self.scene.modules[*number].name));
            }
        }
        Ok(())
    }

    fn state(&self, place: usize) -> GroupState {
        self.tree.group(&self.law.groups[place].name).map_or(GroupState::Down, |(state, ..)| state)
    }

    /// When the restarts were that the tree counts.
    fn restarts(&self, place: usize) -> Vec<u64> {
        let said = self.tree.group(&self.law.groups[place].name);
        let restarts = said.map_or_else(Vec::new, |(_, _, restarts)| restarts);
        restarts.into_iter().map(|at| at.since(Moment(0)).as_secs() / UNIT.as_secs()).collect()
    }

    /// Whether a group has failed, not only all that is in it.
    fn has_failed(&self, place: usize) -> bool {
        let said = self.tree.group(&self.law.groups[place].name);
        said.is_some_and(|(state, why, _)| {
            state == GroupState::Failed && why.is_some_and(|why| why.starts_with("group "))
        })
    }

    /// Whether a group fails or has failed.
    fn fails(&self, place: usize) -> bool {
        let said = self.tree.group(&self.law.groups[place].name);
        said.is_some_and(|(_, why, _)| why.is_some_and(|why| why.starts_with("group ")))
    }

    /// Whether neither a group nor one that it is in is being stopped or has failed.
    fn is_open(&self, number: usize) -> bool {
        let ends = |place: usize| self.state(place) == GroupState::Stopping || self.has_failed(place);
        !self.law.chains[number].iter().any(|(place, _)| ends(*place))
    }

    /// What is counted where the tree counts by more than one rule at once is taken from it.
    pub fn recount(&mut self) {
        for place in 0..self.law.groups.len() {
            self.counted[place] = self.restarts(place);
        }
    }

    /// The tree hears how a module stands: one death in a group that runs is one restart, and one more than are borne
    /// fails it.
    pub fn counts(
        &mut self,
        number: usize,
        before: Option<Standing>,
        standing: Standing,
        hear: impl FnOnce(&mut World),
    ) -> Result<(), String> {
        let since = before.filter(|before| before.deaths <= standing.deaths && before.spawns <= standing.spawns);
        let deaths = since.map(|since| standing.deaths - since.deaths);
        let gave_up = standing.stand == Stand::Failed;
        let was_open = self.is_open(number);
        let failed: Vec<bool> = (0..self.law.groups.len()).map(|place| self.fails(place)).collect();
        hear(self);
        for (place, failed) in failed.into_iter().enumerate() {
            self.failing[place] |= !failed && self.fails(place);
        }
        let law = std::rc::Rc::clone(&self.law);
        let Some((place, _)) = law.innermost(number) else { return Ok(()) };
        let (Some(most), Some(deaths)) = (law.groups[place].policy.intensity, deaths) else {
            self.recount();
            return Ok(());
        };
        let restarts = self.restarts(place).len();
        let counted = &mut self.counted[place];
        if deaths == 0 && !gave_up && restarts != counted.len() {
            return Err(format!("{restarts} restarts are counted, and none were {counted:?}"));
        }
        if deaths == 1 && was_open && !gave_up {
            let period = law.groups[place].policy.period.as_secs() / UNIT.as_secs();
            counted.retain(|at| self.now - at <= period);
            counted.push(self.now);
            let too_many = counted.len() > most as usize;
            let counted = counted.len();
            match (too_many, self.is_open(number), law.is_together(place)) {
                (true, true, _) => return Err(format!("{counted} restarts are borne, more than {most}")),
                (false, ..) if restarts != counted => {
                    return Err(format!("{restarts} restarts are counted, and {counted} were"));
                }
                (false, true, true) => return Err("a death is passed over".to_owned()),
                (false, false, false) => return Err(format!("{counted} restarts are not borne, of {most}")),
                (false, ..) if self.has_failed(place) => return Err("it fails too early".to_owned()),
                (true, false, _) | (false, false, true) | (false, true, false) => {}
            }
        }
        self.recount();
        Ok(())
    }

    /// What must hold once nothing happens any more.
    pub fn check_quiet(&self) -> Result<(), String> {
        let blocked = self.blocked();
        for (number, part) in self.parts.iter().enumerate().filter(|(_, part)| part.lives) {
            let name = &self.scene.modules[number].name;
            let standing = part.machine.standing(0);
            let failed = self.law.chains[number].iter().any(|(place, _)| self.has_failed(*place));
            let held = part.machine.phase() == &Phase::Held && blocked[number];
            let is_good = match standing.stand {
                Stand::Ready => !failed || !standing.runs,
                Stand::Down => !standing.wanted,
                Stand::Failed => standing.wanted,
                Stand::Waiting => held,
                Stand::Coming | Stand::Ending => false,
            };
            if !is_good {
                return Err(format!("{name} stays {standing:?} for ever: {:?}", part.machine.reason()));
            }
            let again =
                |other: &usize| self.parts[*other].program.is_some() && self.parts[*other].started > part.started;
            let needs = self.scene.modules[number].needs.as_ref();
            if needs.is_some_and(|needs| needs.restart == NeedsRestart::Restart)
                && self.remembers
                && part.program.is_some()
                && let Some(other) = self.law.needs[number].iter().flatten().find(|other| again(other))
            {
                let other = &self.scene.modules[*other].name;
                return Err(format!("{name} is not started again with {other}"));
            }
        }
        if let Some((other, _)) = self.doomed.iter().find(|(other, pid)| self.parts[*other].program == Some(*pid)) {
            return Err(format!("{} is not started again with the one that died", self.scene.modules[*other].name));
        }
        for place in 0..self.law.groups.len() {
            let state = self.state(place);
            let name = &self.law.groups[place].name;
            let members = || self.law.groups[place].units.iter().flatten().map(|number| &self.parts[*number]);
            let stands = |part: &crate::world::Part| part.lives.then(|| part.machine.standing(0));
            let any = |is: fn(&Standing) -> bool| members().filter_map(stands).any(|standing| is(&standing));
            let is_good = match state {
                GroupState::Down => !any(|standing| standing.runs),
                GroupState::Up => any(|standing| standing.stand == Stand::Ready),
                GroupState::Failed => any(|standing| standing.stand == Stand::Failed) || !any(|standing| standing.runs),
                GroupState::Starting | GroupState::Stopping => false,
            };
            if !is_good {
                let stands: Vec<_> = members().filter_map(stands).collect();
                return Err(format!("group {name} stays {state:?} for ever: {stands:?}"));
            }
        }
        Ok(())
    }

    /// Who waits for what will not come by itself.
    fn blocked(&self) -> Vec<bool> {
        let law: &Law = &self.law;
        let mut blocked = law.circles.clone();
        loop {
            let before = blocked.clone();
            for (number, blocked) in blocked.iter_mut().enumerate() {
                let is_lost = |other: usize| {
                    let part = &self.parts[other];
                    let stand = part.machine.standing(0).stand;
                    !part.lives || matches!(stand, Stand::Down | Stand::Failed) || before[other]
                };
                *blocked |= law.needs[number].iter().any(|other| other.is_none_or(is_lost));
                for (place, unit) in law.chains[number].iter().filter(|(place, _)| law.is_together(*place)) {
                    *blocked |= law.groups[*place].units[..*unit].iter().flatten().any(|other| {
                        let standing = self.parts[*other].machine.standing(0);
                        self.parts[*other].lives
                            && standing.wanted
                            && (standing.stand == Stand::Failed || (before[*other] && standing.stand != Stand::Ready))
                    });
                }
            }
            if blocked == before {
                return blocked;
            }
        }
    }
}
