//! What is to be done next for members that are emptied, and for those that are filled again.
//!
//! Looks at what is, never at what it did before: see [`basalt_model::evacuation`] for the legs of a trip. Whoever leads
//! asks again after every change, and proposes what comes out; a step that was planned for another state is refused.

use basalt_model::command::{InstanceCommand, MemberCommand};
use basalt_model::device::Device;
use basalt_model::evacuation::{Leg, Mode, Order, Task, Trip, TripStep};
use basalt_model::instance::{Instance, Intent, MovePlan, Phase, Placement, StopMode, Target};
use basalt_model::member::{Duty, Member};
use basalt_model::port::Liveness;
use basalt_model::{ClusterState, Command, InstanceId, NodeId, Timestamp};

use crate::{Request, place};

/// How many instances of one member are under way at a time.
const AT_ONCE: usize = 8;
/// Seconds that a guest has to shut down, unless it says otherwise.
const TIMEOUT: u32 = 30;

/// The next steps, for all members.
pub fn evacuations(view: &ClusterState, liveness: &dyn Liveness, now: Timestamp) -> Vec<Command> {
    let planner = Planner { view, liveness, now };
    let mut commands: Vec<Command> = view.instances.values().filter_map(|i| planner.travel(i)).collect();
    for member in view.members.values() {
        if let Some(order) = member.order {
            commands.extend(planner.carry_out(member, order));
        }
    }
    commands
}

/// What becomes of an instance whose move was refused for good.
pub fn give_up_move(view: &ClusterState, id: InstanceId, why: &str, now: Timestamp) -> Option<Command> {
    let instance = view.instances.get(&id)?;
    let trip = instance.errands.trip.as_ref()?;
    Some(stuck(instance, trip, why, now))
}

struct Planner<'a> {
    view: &'a ClusterState,
    liveness: &'a dyn Liveness,
    now: Timestamp,
}

/// Whether a guest is down, so that it can be moved.
enum Down {
    Yes,
    NotYet,
    /// It has to be asked, once more or for the first time.
    Ask(StopMode),
    Never(String),
}

/// What evacuation means for one instance.
enum Way {
    Moves,
    Stays {
        force: bool,
    },
    /// It runs on, because it cannot be moved.
    Not(String),
}

impl Planner<'_> {
    /// The next step of one that is under way.
    fn travel(&self, instance: &Instance) -> Option<Command> {
        let trip = instance.errands.trip.as_ref()?;
        let Placement::On { node, .. } = instance.placement else { return None };
        if instance.run.intent == Intent::Deleted {
            return None;
        }
        let origin = self.view.members.get(&trip.origin);
        let open = origin.is_some_and(|m| m.duty == Duty::Active);
        match trip.leg {
            Leg::Rest if origin.is_none() => Some(self.step(instance, None)),
            Leg::Rest => None,
            Leg::Out { from, .. } if node != from => Some(self.arrive(instance, trip, None)),
            // Its member is filled again before it left.
            Leg::Out { from, .. } if from == trip.origin && open => Some(self.rest(instance, trip, None)),
            Leg::Out { moves, .. } => match self.down(instance) {
                Down::Yes if moves => Some(self.depart(instance, trip, None)),
                Down::Yes => Some(self.rest(instance, trip, None)),
                other => self.wait(instance, trip, other),
            },
            Leg::Back if node == trip.origin && open => Some(self.arrive(instance, trip, None)),
            // Its member is emptied again.
            Leg::Back if node == trip.origin => Some(self.rest(instance, trip, None)),
            Leg::Back if !open => Some(self.arrive(instance, trip, Some("its member was evacuated again, or removed"))),
            Leg::Back => match self.down(instance) {
                Down::Yes => Some(self.depart(instance, trip, Some(trip.origin))),
                other => self.wait(instance, trip, other),
            },
            Leg::Arrived if !instance.settled() => None,
            Leg::Arrived => Some(self.arrived(instance, trip, open)),
        }
    }

    /// The guest has started, or not.
    fn arrived(&self, instance: &Instance, trip: &Trip, open: bool) -> Command {
        let report = instance.current_report();
        let runs = report.is_some_and(|r| matches!(r.phase, Phase::Running | Phase::Frozen));
        let failed = match instance.run.intent == Intent::Running && !runs {
            true => Some(report.and_then(|r| r.reason.clone()).unwrap_or_else(|| "it did not start".into())),
            false => trip.failed.clone(),
        };
        let home = instance.placement.home().is_some_and(|(node, _)| node == trip.origin);
        match (&failed, home && open) {
            (None, true) => self.step(instance, None),
            (_, _) => self.step(instance, Some(Trip { leg: Leg::Rest, failed, ..trip.clone() })),
        }
    }

    fn wait(&self, instance: &Instance, trip: &Trip, down: Down) -> Option<Command> {
        match down {
            Down::Yes | Down::NotYet => None,
            Down::Ask(stop) => {
                let (id, intent, at) = (instance.id, Intent::Stopped, self.now);
                Some(Command::Instance(InstanceCommand::SetRun { id, intent, restart: false, stop, at }))
            }
            Down::Never(why) => Some(self.rest(instance, trip, Some(why))),
        }
    }

    fn down(&self, instance: &Instance) -> Down {
        if instance.run.intent != Intent::Stopped {
            return Down::Ask(self.stop_mode(instance, false));
        }
        match instance.phase() {
            Some(_) | None if !instance.settled() => Down::NotYet,
            Some(Phase::Stopped | Phase::Failed) => Down::Yes,
            Some(Phase::Running | Phase::Frozen) if instance.run.stop.force => {
                let reason = instance.current_report().and_then(|r| r.reason.clone());
                Down::Never(reason.unwrap_or_else(|| "it cannot be stopped".into()))
            }
            Some(Phase::Running | Phase::Frozen) => Down::Ask(self.stop_mode(instance, true)),
            None => Down::NotYet,
        }
    }

    fn stop_mode(&self, instance: &Instance, force: bool) -> StopMode {
        let key = self.view.config_value(&instance.project, &instance.spec, "boot.host_shutdown_timeout");
        let timeout = key.and_then(|text| text.parse().ok()).unwrap_or(TIMEOUT);
        StopMode { force, timeout_secs: Some(timeout.max(1)).filter(|_| !force) }
    }

    /// Begins the move, unless it was tried.
    fn depart(&self, instance: &Instance, trip: &Trip, to: Option<NodeId>) -> Command {
        if let Some(why) = &instance.errands.move_failed {
            return stuck(instance, trip, why, self.now);
        }
        let plan = MovePlan {
            target: if to.is_some() { trip.target.clone() } else { away(&trip.target) },
            project: instance.project.clone(),
            name: instance.name.clone(),
            spec: instance.spec.clone(),
        };
        let expect = Some(instance.generation);
        Command::Instance(InstanceCommand::Move { id: instance.id, to, plan: Box::new(plan), expect })
    }

    fn carry_out(&self, member: &Member, order: Order) -> Vec<Command> {
        let mut busy = 0;
        let mut commands = Vec::new();
        for instance in self.view.instances.values().filter(|i| i.run.intent != Intent::Deleted) {
            let next = match order.task {
                Task::Empty(_) => empty(member, order, instance),
                Task::Fill => fill(member, order, instance),
            };
            match next {
                Next::Nothing => continue,
                // Whether it can be moved takes a look at all others.
                Next::Begin if busy < AT_ONCE => match order.task {
                    Task::Empty(mode) => commands.push(self.leave(member, order, mode, instance)),
                    Task::Fill => commands.extend(self.come_back(member, order, instance)),
                },
                Next::Wait | Next::Begin => {}
            }
            busy += 1;
        }
        if busy == 0 {
            commands.push(Command::Member(MemberCommand::OrderDone { id: member.id, at: order.at }));
        }
        commands
    }

    fn leave(&self, member: &Member, order: Order, mode: Mode, instance: &Instance) -> Command {
        let runs = runs(instance);
        let prior = instance.errands.trip.clone();
        // One that could not be made has nothing to be moved.
        let way = if instance.made() { self.way(instance, mode) } else { Way::Stays { force: false } };
        let base = prior.unwrap_or_else(|| Trip {
            origin: member.id,
            target: instance.target.clone(),
            starts: false,
            leg: Leg::Rest,
            order: order.at,
            failed: None,
        });
        // One that an earlier order has stopped here is to run all the same.
        let starts = runs || base.starts && base.origin == member.id;
        let trip = Trip { starts, order: order.at, failed: None, ..base };
        let (from, stop) = (member.id, |force| runs.then(|| (Intent::Stopped, self.stop_mode(instance, force))));
        let (trip, run) = match way {
            Way::Not(why) => (Trip { failed: Some(why), ..trip }, None),
            Way::Moves => (Trip { leg: Leg::Out { from, moves: true }, ..trip }, stop(false)),
            Way::Stays { force } if runs => (Trip { leg: Leg::Out { from, moves: false }, ..trip }, stop(force)),
            Way::Stays { .. } => (trip, None),
        };
        command(instance, Some(trip), run, self.now)
    }

    fn way(&self, instance: &Instance, mode: Mode) -> Way {
        let key = self.view.config_value(&instance.project, &instance.spec, "cluster.evacuate");
        match (mode, key) {
            (Mode::Stop, _) | (Mode::Own, Some("stop")) => Way::Stays { force: false },
            (Mode::Force, _) | (Mode::Own, Some("force-stop")) => Way::Stays { force: true },
            (Mode::Migrate, _) | (Mode::Own, Some("migrate")) => match self.destination(instance) {
                Ok(()) => Way::Moves,
                Err(why) => Way::Not(why),
            },
            (Mode::Own, Some(_) | None) => match self.destination(instance) {
                Ok(()) => Way::Moves,
                Err(_) => Way::Stays { force: false },
            },
        }
    }

    /// Whether another member can take it.
    fn destination(&self, instance: &Instance) -> Result<(), String> {
        for (name, device) in self.view.parsed_devices(&instance.project, &instance.spec) {
            let local = match device {
                Device::Disk { .. } => true,
                Device::Nic { network, .. } => network.is_none(),
                Device::Root { .. } | Device::None => false,
            };
            if local {
                return Err(format!("its device {name} is of this member alone"));
            }
        }
        let not = instance.placement.home().map(|(node, _)| node);
        let request = Request { target: away(&instance.target), not, ..Request::of(self.view, instance) };
        place(self.view, self.liveness, &request).map(drop).map_err(|why| why.to_string())
    }

    fn come_back(&self, member: &Member, order: Order, instance: &Instance) -> Option<Command> {
        let trip = Trip { order: order.at, failed: None, ..instance.errands.trip.clone()? };
        if instance.placement.home().is_some_and(|(node, _)| node == member.id) {
            return Some(self.arrive(instance, &trip, None));
        }
        let runs = runs(instance);
        let run = runs.then(|| (Intent::Stopped, self.stop_mode(instance, false)));
        Some(command(instance, Some(Trip { leg: Leg::Back, starts: runs, ..trip }), run, self.now))
    }

    /// It is where it was to go, or as near as it gets: asks its guest to start, if it is to.
    fn arrive(&self, instance: &Instance, trip: &Trip, failed: Option<&str>) -> Command {
        arrive(instance, trip, failed, self.now)
    }

    fn rest(&self, instance: &Instance, trip: &Trip, failed: Option<String>) -> Command {
        self.step(instance, Some(Trip { leg: Leg::Rest, failed, ..trip.clone() }))
    }

    fn step(&self, instance: &Instance, to: Option<Trip>) -> Command {
        command(instance, to, None, self.now)
    }
}

/// Whether a guest runs, or is about to.
fn runs(instance: &Instance) -> bool {
    match instance.settled() {
        true => matches!(instance.phase(), Some(Phase::Running | Phase::Frozen)),
        false => matches!(instance.run.intent, Intent::Running | Intent::Frozen),
    }
}

/// What an order means for one instance now.
enum Next {
    Nothing,
    /// It is under way.
    Wait,
    Begin,
}

fn empty(member: &Member, order: Order, instance: &Instance) -> Next {
    if instance.placement.landing_on(member.id).is_some() {
        return Next::Wait;
    }
    let here = instance.placement.home().is_some_and(|(node, _)| node == member.id);
    match &instance.errands.trip {
        Some(trip) if trip.leg != Leg::Rest && (here || trip.order == order.at) => return Next::Wait,
        Some(trip) if trip.order == order.at => return Next::Nothing,
        Some(_) | None if !here => return Next::Nothing,
        Some(_) | None => {}
    }
    match instance.current_report() {
        _ if instance.placement.moving().is_some() => Next::Wait,
        None => Next::Wait,
        Some(report) if !report.made && !instance.settled() => Next::Wait,
        Some(_) => Next::Begin,
    }
}

fn fill(member: &Member, order: Order, instance: &Instance) -> Next {
    match instance.errands.trip.as_ref().filter(|trip| trip.origin == member.id) {
        None => Next::Nothing,
        Some(trip) if trip.leg != Leg::Rest || instance.placement.moving().is_some() => Next::Wait,
        Some(trip) if trip.order == order.at => Next::Nothing,
        Some(_) => Next::Begin,
    }
}

fn command(instance: &Instance, to: Option<Trip>, run: Option<(Intent, StopMode)>, at: Timestamp) -> Command {
    let step = TripStep { expect: instance.errands.trip.clone(), to, run, at };
    Command::Instance(InstanceCommand::Trip { id: instance.id, step: Box::new(step) })
}

fn arrive(instance: &Instance, trip: &Trip, failed: Option<&str>, at: Timestamp) -> Command {
    let run = trip.starts && instance.run.intent == Intent::Stopped;
    let trip = Trip { leg: Leg::Arrived, failed: failed.map(str::to_owned), ..trip.clone() };
    command(instance, Some(trip), run.then(|| (Intent::Running, StopMode::default())), at)
}

/// It cannot be moved: it stays, and on a member that is not emptied it runs on.
fn stuck(instance: &Instance, trip: &Trip, why: &str, at: Timestamp) -> Command {
    match trip.leg {
        Leg::Back => arrive(instance, trip, Some(why), at),
        Leg::Out { .. } | Leg::Arrived | Leg::Rest => {
            let rest = Trip { leg: Leg::Rest, failed: Some(why.to_owned()), ..trip.clone() };
            command(instance, Some(rest), None, at)
        }
    }
}

/// Where it may go while its member is empty.
fn away(target: &Target) -> Target {
    match target {
        Target::Any | Target::Member(_) => Target::Any,
        Target::Group(group) => Target::Group(group.clone()),
    }
}
