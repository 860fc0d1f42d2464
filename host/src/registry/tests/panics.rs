//! A panic in the middle of the store's work: what it costs, and whom it does not stop.

use std::sync::Mutex;

use tokio_util::sync::CancellationToken;

use super::observed::{Done, Observed};
use super::*;

/// A store that has acknowledged `kept`, and its disk.
fn opened(world: &World, acknowledge: Acknowledge) -> (Arc<Store>, Observed) {
    let disk = Observed::on(&world.disk);
    let options = StoreOptions { acknowledge, lock_patience: Duration::ZERO, ..StoreOptions::default() };
    let store = world.open_on(Arc::new(disk.clone()), options);
    store.upsert(entry("kept", 1)).unwrap();
    (store, disk)
}

fn is_write(done: &Done<'_>) -> bool {
    matches!(done, Done::Write)
}

mod commit {
    use super::*;

    #[test]
    fn is_refused_and_later_ones_are_taken() {
        for acknowledge in [Acknowledge::Journal, Acknowledge::Snapshot] {
            let world = World::new();
            let (store, disk) = opened(&world, acknowledge);
            disk.panic_at(is_write);
            let refused = store.upsert(entry("refused", 1));
            assert!(matches!(refused, Err(StoreError::Interrupted)), "{refused:?}");
            store.upsert(entry("later", 1)).unwrap();
            store.close().unwrap();
            let found = names(&world.open());
            assert!(found.contains(&"kept".to_owned()) && found.contains(&"later".to_owned()), "{found:?}");
        }
    }

    #[test]
    fn does_not_end_the_stores_own_thread() {
        let world = World::new();
        let (store, disk) = opened(&world, Acknowledge::Journal);
        disk.panic_at(is_write);
        let refused = store.commit_there(Change::put(entry("refused", 1))).blocking_recv();
        assert!(matches!(refused, Ok(Err(StoreError::Interrupted))), "{refused:?}");
        let later = store.commit_there(Change::put(entry("later", 1))).blocking_recv();
        assert!(matches!(later, Ok(Ok(_))), "{later:?}");
        store.close().unwrap();
    }

    #[test]
    fn leaves_those_that_wait_behind_it_to_the_next_leader() {
        let world = World::new();
        let (store, disk) = opened(&world, Acknowledge::Journal);
        let waiting = Arc::new(Mutex::new(None));
        disk.tell({
            let (store, waiting) = (store.clone(), waiting.clone());
            move |done| {
                if is_write(&done) {
                    *waiting.lock().unwrap() = Some(store.commit_there(Change::put(entry("waiting", 1))));
                    panic!("as told");
                }
            }
        });
        assert!(matches!(store.upsert(entry("refused", 1)), Err(StoreError::Interrupted)));
        let waiting = waiting.lock().unwrap().take().unwrap().blocking_recv();
        assert!(matches!(waiting, Ok(Ok(_))), "{waiting:?}");
        store.close().unwrap();
    }

    #[test]
    fn cut_off_half_way_is_not_gone_on_with_in_the_same_segment() {
        let world = World::new();
        let (store, disk) = opened(&world, Acknowledge::Journal);
        let before = world.segments();
        disk.panic_at(is_write);
        assert!(store.upsert(entry("refused", 1)).is_err());
        store.upsert(entry("later", 1)).unwrap();
        assert!(world.segments().len() > before.len(), "{before:?}");
        // The process just ends: what it acknowledged is found by the next one.
        drop(store);
        let found = names(&world.open());
        assert!(found.contains(&"kept".to_owned()) && found.contains(&"later".to_owned()), "{found:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn tending_goes_on_after_a_panic() {
    let world = World::new();
    let (store, disk) = opened(&world, Acknowledge::Journal);
    store.flush().unwrap();
    disk.panic_at(|done| matches!(done, Done::Names));
    let stop = CancellationToken::new();
    let (mut view, task) = keep(store, stop.clone());
    world.command().upsert(entry("another", 1)).unwrap();
    let both = |view: &Arc<RegistryView>| view.connectors.len() == 2;
    let followed = tokio::time::timeout(Duration::from_secs(60), view.wait_for(both)).await;
    assert!(followed.is_ok_and(|followed| followed.is_ok()));
    assert!(disk.has_panicked());
    stop.cancel();
    task.await.unwrap();
}
