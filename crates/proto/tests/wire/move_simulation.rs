//! Connections that move between a carrier and channels, with resets, ends and lost links at every
//! byte position: bytes arrive in order and only at their own connection, every leg ends released at
//! both ends, and nothing hangs.

use std::cell::Cell;

use portcullis_proto::{LinkKind, Role};

use crate::moving::{Disturbance, Fault, Plan, Script, Speeds, World};
use crate::seeds::{Rng, each_seed};

const CARRIER: u64 = 1;
const CHANNEL: u64 = 2;

fn script(edge: &[usize], agent: &[usize], last_to_end: Option<Role>) -> Script {
    Script {
        first: 3,
        edge: edge.to_vec(),
        agent: agent.to_vec(),
        refuses: false,
        last_to_end,
    }
}

fn scripts() -> Vec<Script> {
    vec![
        script(&[7, 1, 9], &[5, 8], None),
        script(&[4], &[6, 6, 6], Some(Role::Agent)),
        script(&[6, 6, 6], &[4], Some(Role::Edge)),
        script(&[], &[], None),
        script(&[], &[9, 9, 9, 9], None),
        script(&[9, 9, 9, 9], &[], None),
        Script {
            refuses: true,
            ..script(&[5], &[5], None)
        },
    ]
}

/// A byte each time; carriers and channels equally fast, or one of them slow, or a direction of each.
fn speeds() -> [Speeds; 4] {
    let of = |carrier, channel| Speeds {
        carrier,
        channel,
        bytes: 1,
    };
    [
        of([9, 9], [1, 1]),
        of([1, 1], [9, 9]),
        of([1, 9], [9, 1]),
        of([9, 1], [9, 1]),
    ]
}

/// One connection that begins on `link`; returns how many bytes crossed the links, and how
/// often it moved.
fn run(
    script: &Script,
    link: u64,
    speeds: Speeds,
    plan: Plan,
    faults: [Fault; 2],
) -> Result<(usize, usize), String> {
    let resets = plan
        .iter()
        .any(|(.., what)| !matches!(what, Disturbance::Move(_)));
    let mut world = World::new(speeds, plan, faults);
    world.open(script, link);
    world.run()?;
    if !resets && !script.refuses {
        for side in [&world.edge, &world.agent] {
            if !side.connections[0].mover.is_complete() || side.connections[0].mover.is_reset() {
                return Err("an undisturbed connection did not complete".to_owned());
            }
        }
    }
    let seen = (world.moved, world.edge.connections[0].moves as usize);
    // What held this one can hold the next.
    for link in [CARRIER, CHANNEL] {
        if !world.edge.links[&link].broken {
            world.open(script, link);
        }
    }
    world.run()?;
    Ok(seen)
}

fn honest(script: &Script, link: u64, speeds: Speeds, plan: &Plan) -> (usize, usize) {
    let ran = run(script, link, speeds, plan.clone(), [Fault::None; 2]);
    ran.unwrap_or_else(|e| panic!("{e}\n{script:?} on {link} at {speeds:?}: {plan:?}"))
}

/// The moves of one exchange: away from where it began, and back.
fn moves(link: u64) -> [LinkKind; 2] {
    match link {
        CARRIER => [LinkKind::Channel, LinkKind::Carrier],
        _ => [LinkKind::Carrier, LinkKind::Channel],
    }
}

/// All of it, as the arguments of [`run`]: scripts, where they begin, how fast the links are.
fn worlds(scripts: Vec<Script>) -> impl Iterator<Item = (Script, u64, Speeds)> {
    scripts.into_iter().flat_map(|script| {
        [CARRIER, CHANNEL].into_iter().flat_map(move |link| {
            let script = script.clone();
            speeds().map(move |speeds| (script.clone(), link, speeds))
        })
    })
}

#[test]
fn a_move_at_every_byte_loses_nothing() {
    let mut moves_seen = [0; 3];
    for (turn, (script, link, speeds)) in worlds(scripts()).enumerate() {
        let (bytes, _) = honest(&script, link, speeds, &Plan::new());
        let [away, back] = moves(link);
        for at in 0..=bytes {
            let mut plan = vec![(at, 0, Disturbance::Move(away))];
            if (at + turn) % 2 == 0 {
                plan.push((at, 0, Disturbance::Move(back)));
            }
            moves_seen[honest(&script, link, speeds, &plan).1] += 1;
        }
    }
    // Late ones find nothing left to move.
    assert!(moves_seen.iter().all(|runs| *runs > 100), "{moves_seen:?}");
}

/// A reset by either side or both at every byte of an exchange that moves, and moves back, somewhere.
/// `check` returns whether it has seen enough.
fn each_reset(check: impl Fn(&Script, u64, Speeds, Plan) -> bool) -> bool {
    for (script, link, speeds) in worlds(short()) {
        let [away, back] = moves(link);
        let (bytes, _) = honest(
            &script,
            link,
            speeds,
            &vec![(0, 0, Disturbance::Move(away))],
        );
        for at in 0..=bytes {
            let sides = [
                &[Role::Edge][..],
                &[Role::Agent],
                &[Role::Edge, Role::Agent],
            ];
            for (turn, roles) in sides.into_iter().enumerate() {
                // Moves somewhere in front of the reset, from long before to just then.
                let first = at.saturating_sub((at * 7 + turn * 11) % 48);
                let mut plan = vec![(first, 0, Disturbance::Move(away))];
                if (at + turn) % 2 == 0 {
                    plan.push((first, 0, Disturbance::Move(back)));
                }
                plan.extend(roles.iter().map(|role| (at, 0, Disturbance::Reset(*role))));
                if check(&script, link, speeds, plan) {
                    return true;
                }
            }
        }
    }
    false
}

#[test]
fn a_reset_at_every_byte_of_a_move_reaches_both_ends_and_frees_every_leg() {
    each_reset(|script, link, speeds, plan| {
        honest(script, link, speeds, &plan);
        false
    });
}

#[test]
fn a_link_that_breaks_at_any_byte_takes_its_own_connections_alone() {
    for (script, link, speeds) in worlds(short()) {
        let [away, _] = moves(link);
        let (bytes, _) = honest(
            &script,
            link,
            speeds,
            &vec![(0, 0, Disturbance::Move(away))],
        );
        for at in (0..=bytes).step_by(3) {
            let first = at.saturating_sub((at * 7) % 48);
            let moved = (first, 0, Disturbance::Move(away));
            honest(
                &script,
                link,
                speeds,
                &vec![moved, (at, 0, Disturbance::Lose)],
            );
        }
    }
}

/// A short exchange in all its phases: verdict, bytes both ways, half-close, end.
fn short() -> Vec<Script> {
    vec![
        script(&[4, 2], &[5], None),
        script(&[], &[3, 3], Some(Role::Agent)),
        script(&[3, 3], &[2], Some(Role::Edge)),
    ]
}

/// Whether a fault at either end shows somewhere.
fn is_noticed(fault: Fault) -> bool {
    [[fault, Fault::None], [Fault::None, fault]]
        .into_iter()
        .all(|faults| {
            let fails = |script: &Script, link, speeds, plan| {
                run(script, link, speeds, plan, faults).is_err()
            };
            let moved = worlds(short()).any(|(script, link, speeds)| {
                let [away, _] = moves(link);
                (0..200).step_by(3).any(|at| {
                    fails(
                        &script,
                        link,
                        speeds,
                        vec![(at, 0, Disturbance::Move(away))],
                    )
                })
            });
            moved || each_reset(fails)
        })
}

#[test]
fn what_is_done_wrong_is_noticed() {
    for fault in [Fault::ReadsEarly, Fault::ForgetsEnd, Fault::CountsWrong] {
        assert!(is_noticed(fault), "{fault:?}");
    }
}

/// Faults that only one end can commit, and that show when a connection is reset.
#[test]
fn what_one_end_does_wrong_with_a_reset_is_noticed() {
    for faults in [
        [Fault::ResetsOneLeg, Fault::None],
        [Fault::None, Fault::IgnoresResume],
    ] {
        let seen = each_reset(|script, link, speeds, plan| {
            run(script, link, speeds, plan, faults).is_err()
        });
        assert!(seen, "{faults:?}");
    }
}

/// Faults of the edge that show when a connection merely moves.
#[test]
fn what_the_edge_does_wrong_with_a_move_is_noticed() {
    for fault in [Fault::HeedsLateReset, Fault::WritesOld] {
        let faults = [fault, Fault::None];
        let mut all = worlds(scripts());
        let seen = all.any(|(script, link, speeds)| {
            let [away, _] = moves(link);
            (0..300).any(|at| {
                let plan = vec![(at, 0, Disturbance::Move(away))];
                run(&script, link, speeds, plan, faults).is_err()
            })
        });
        assert!(seen, "{fault:?}");
    }
}

/// Several connections of any size on shared carriers, moving, resetting and losing links.
/// Returns how many moves there were.
fn crowd(rng: &mut Rng, faults: [Fault; 2], calm: bool) -> Result<u32, String> {
    let slow = |rng: &mut Rng| if rng.one_in(3) { 1 + rng.below(12) } else { 1 };
    let speeds = Speeds {
        carrier: [slow(rng), slow(rng)],
        channel: [slow(rng), slow(rng)],
        bytes: 1 + rng.below(4096),
    };
    let count = 2 + rng.below(6);
    let mut plan = Plan::new();
    for connection in 0..count {
        for _ in 0..rng.below(6) {
            let kind = [LinkKind::Channel, LinkKind::Carrier][rng.below(2)];
            plan.push((rng.below(600_000), connection, Disturbance::Move(kind)));
        }
        if !calm && rng.one_in(3) {
            let role = [Role::Edge, Role::Agent][rng.below(2)];
            plan.push((rng.below(600_000), connection, Disturbance::Reset(role)));
        }
        if !calm && rng.one_in(16) {
            plan.push((rng.below(600_000), connection, Disturbance::Lose));
        }
    }
    let mut world = World::new(speeds, plan, faults);
    for _ in 0..count {
        let sizes = |rng: &mut Rng| {
            let frames = rng.below(12);
            let size = 1 << (4 + rng.below(12));
            (0..frames).map(|_| 1 + rng.below(size)).collect::<Vec<_>>()
        };
        let script = Script {
            first: rng.below(2000),
            edge: sizes(rng),
            agent: sizes(rng),
            refuses: rng.one_in(20),
            last_to_end: [None, Some(Role::Edge), Some(Role::Agent)][rng.below(3)],
        };
        let link = [1, 2, 3, 4, 5][rng.below(5)];
        if world.has_room(link) {
            world.open(&script, link);
        } else {
            world.open(&script, CARRIER);
        }
    }
    world.run()?;
    Ok(world.edge.connections.iter().map(|c| c.moves).sum())
}

#[test]
fn crowds_of_moving_connections_keep_their_bytes_apart() {
    let moves = Cell::new(0);
    each_seed("crowd", 100, |rng| {
        let calm = rng.one_in(2);
        let moved = crowd(rng, [Fault::None; 2], calm).unwrap();
        moves.set(moves.get() + moved);
    });
    assert!(moves.get() > 0, "nothing ever moved");
}

#[test]
fn credit_given_or_used_wrongly_is_noticed() {
    for fault in [Fault::GrantsHalf, Fault::IgnoresCredit] {
        let noticed = (0..40).any(|seed| crowd(&mut Rng::new(seed), [fault; 2], true).is_err());
        assert!(noticed, "{fault:?}");
    }
}
