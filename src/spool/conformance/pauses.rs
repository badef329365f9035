//! The switch of an organization: what is remembered of the times in which it was off.

use super::both;
use crate::spool::fixtures::{ORGANIZATION, World};
use crate::spool::{Pause, Switched, Turn};
use std::time::Duration;

both! {
    a_pause_has_a_start_and_once_it_is_over_an_end
    a_switch_that_stands_as_it_is_known_to_stand_changes_nothing
}

fn turn(world: &World, seconds: u64, generation: u64, reason: Option<&str>) -> Turn {
    let at = world.now().plus(Duration::from_secs(seconds));
    Turn { at, generation, reason: reason.map(str::to_owned) }
}

fn switched(organization: &str, journaling: bool, turn: &Turn) -> Switched {
    Switched { organization: organization.to_owned(), turn: turn.clone(), journaling }
}

async fn a_pause_has_a_start_and_once_it_is_over_an_end(world: World) {
    let (off, other, on) =
        (turn(&world, 1, 2, Some("root: migration")), turn(&world, 2, 3, None), turn(&world, 3, 4, Some("done")));
    world.spool.switched(switched(ORGANIZATION, false, &off)).await.unwrap();
    world.spool.switched(switched("another", false, &other)).await.unwrap();
    let lasting = Pause { organization: ORGANIZATION.to_owned(), off: off.clone(), on: None };
    let of_another = Pause { organization: "another".to_owned(), off: other, on: None };
    assert_eq!(world.spool.pauses(9).await.unwrap(), [lasting.clone(), of_another.clone()]);
    world.spool.switched(switched(ORGANIZATION, true, &on)).await.unwrap();
    let over = Pause { on: Some(on), ..lasting };
    assert_eq!(world.spool.pauses(9).await.unwrap(), [over.clone(), of_another.clone()]);
    world.spool.switched(switched(ORGANIZATION, false, &off)).await.unwrap();
    let again = Pause { organization: ORGANIZATION.to_owned(), off, on: None };
    assert_eq!(world.spool.pauses(2).await.unwrap(), [of_another, again]);
}

async fn a_switch_that_stands_as_it_is_known_to_stand_changes_nothing(world: World) {
    let first = turn(&world, 1, 1, None);
    world.spool.switched(switched(ORGANIZATION, true, &first)).await.unwrap();
    assert_eq!(world.spool.pauses(9).await.unwrap(), []);
    world.spool.switched(switched(ORGANIZATION, false, &first)).await.unwrap();
    world.spool.switched(switched(ORGANIZATION, false, &turn(&world, 9, 5, Some("later")))).await.unwrap();
    let pauses = world.spool.pauses(9).await.unwrap();
    assert_eq!(pauses, [Pause { organization: ORGANIZATION.to_owned(), off: first, on: None }]);
}
