//! Scenes of the service map. Its connector is disabled: the map is what they are about.

use cortex_mcp::edge::virtual_network::Host;
use cortex_mcp::model::WallMs;

use super::{Stage, force};
use crate::support::{MAP_URL, MapAnswer, Rig, seconds};

fn rig() -> Rig {
    let mut rig = Rig::new(1);
    rig.publish(|map| map.connectors[0].enabled = false);
    rig
}

/// Keys are rotated; older maps, other maps of the same time and maps from the future are refused.
pub(crate) async fn rotation() -> String {
    let mut stage = Stage::new(rig());
    stage.rig.environment =
        [("CONNECTORS_SERVICE_MAP_URL", MAP_URL), ("CONNECTORS_SIGNATURE_KEYS", "old=one,new=two")].into();
    let old = stage.rig.document.clone();
    stage.rig.map.answer(MapAnswer::Document(old.signed_with("one")));
    let served = stage.rig.ready().await;
    let mut new = old.clone();
    new.generated_at = new.generated_at.plus(1_000);
    let mut other = new.clone();
    other.connectors[0].version = "2.0.0".to_owned();
    let mut future = new.clone();
    future.generated_at = future.generated_at.plus(600_000);
    for (document, key) in
        [(&new, "two"), (&old, "one"), (&other, "two"), (&future, "two"), (&new, "three"), (&new, "two")]
    {
        stage.rig.map.answer(MapAnswer::Document(document.signed_with(key)));
        force(&served).await;
        tokio::time::sleep(seconds(2)).await;
    }
    // The old key leaves: what was accepted under it binds no more.
    stage.end(served).await;
    stage.rig.environment =
        [("CONNECTORS_SERVICE_MAP_URL", MAP_URL), ("CONNECTORS_SIGNATURE_KEYS", "new=two,next=three")].into();
    let served = stage.rig.start().await;
    tokio::time::sleep(seconds(2)).await;
    stage.rig.map.answer(MapAnswer::Untagged(new.signed_with("three")));
    force(&served).await;
    stage.end(served).await;
    stage.text()
}

/// A map is confirmed past its expiry; another one arrives expired, and an older one after it.
pub(crate) async fn frozen_and_expired() -> String {
    let mut stage = Stage::new(rig());
    stage.rig.document.ttl_seconds = 60;
    stage.rig.map.serve(&stage.rig.document);
    let served = stage.rig.ready().await;
    tokio::time::sleep(seconds(100)).await;
    force(&served).await;
    force(&served).await;
    stage.rig.publish(|_| {});
    force(&served).await;
    stage.rig.map.answer(MapAnswer::NotModified);
    force(&served).await;
    // An older one is refused, expired or not; a newer one that is not expired ends it.
    let mut older = stage.rig.document.clone();
    older.generated_at = WallMs(older.generated_at.0 - 500);
    stage.rig.map.serve(&older);
    force(&served).await;
    stage.rig.publish(|map| map.generated_at = map.generated_at.plus(100_000));
    force(&served).await;
    tokio::time::sleep(seconds(50)).await;
    stage.end(served).await;
    stage.text()
}

/// The map's server misbehaves in every way, is gone until nothing may be served, and comes back.
pub(crate) async fn unreachable() -> String {
    let mut stage = Stage::new(rig());
    stage.rig.toml = "max-stale-ms = 3600000\n".to_owned();
    let served = stage.rig.ready().await;
    for answer in [
        MapAnswer::Status(200, "<html>".to_owned()),
        MapAnswer::Status(200, stage.rig.document.json()),
        MapAnswer::Status(401, "no".to_owned()),
        MapAnswer::Status(404, String::new()),
        MapAnswer::Status(500, "oh".to_owned()),
        MapAnswer::Redirect("https://evil.test/map".to_owned()),
    ] {
        stage.rig.map.answer(answer);
        force(&served).await;
        tokio::time::sleep(seconds(2)).await;
    }
    stage.rig.map_host(Host::Refuse);
    tokio::time::sleep(seconds(600)).await;
    served.modern().list().await;
    stage.rig.clock.suspend(seconds(7_200));
    tokio::time::sleep(seconds(60)).await;
    served.modern().list().await;
    stage.rig.revive_everything();
    stage.rig.map.answer(MapAnswer::Status(410, String::new()));
    force(&served).await;
    stage.rig.publish(|map| map.generated_at = map.generated_at.plus(7_000_000));
    tokio::time::sleep(seconds(100)).await;
    stage.end(served).await;
    stage.text()
}
