//! What is in the channels.

use granary_core::Format;
use granary_store::ChannelCount;

use crate::support::{Registry, channel, channel_name};

/// Without a protocol's tables: a blob stands for a file.
const COUNT: ChannelCount = ChannelCount {
    format: Format::PyPi,
    query: "select count(distinct size) as packages, count(*) as files, coalesce(sum(size), 0)::bigint as bytes, \
            max(created_at) as last_publish from @blob where channel_id = $1",
};

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_counted_when_it_changed_and_by_one_process() {
    let registry = Registry::start().await;
    for name in ["main", "other"] {
        registry.apply(&channel(&format!("team/{name}"), name, "visibility: public")).await;
    }
    assert!(registry.store.channel_stats().await.unwrap().is_empty());
    assert_eq!(registry.store.refresh_channel_stats(&[COUNT]).await.unwrap(), 2);
    assert_eq!(registry.store.refresh_channel_stats(&[COUNT]).await.unwrap(), 0, "nothing changed");
    for bytes in [b"one".as_slice(), b"two", b"three"] {
        registry.publish("main", bytes).await;
    }
    // What took long is counted rarely; here it took no time.
    registry.database.run("update channel_stats set took = '0'").await;
    let another = registry.another().await;
    let counts = [COUNT];
    let (one, two) =
        tokio::join!(registry.store.refresh_channel_stats(&counts), another.refresh_channel_stats(&counts));
    assert_eq!(one.unwrap() + two.unwrap(), 1);
    let stats = registry.store.channel_stats().await.unwrap();
    let of = |name: &str| stats.iter().find(|stats| stats.name == channel_name(name)).unwrap();
    assert_eq!((of("main").packages, of("main").files, of("main").bytes), (2, 3, 11));
    assert!(of("main").last_publish.is_some());
    assert_eq!((of("other").files, of("other").last_publish), (0, None));

    registry.publish("main", b"four").await;
    registry.database.run("update channel_stats set took = '1 hour'").await;
    assert_eq!(registry.store.refresh_channel_stats(&[COUNT]).await.unwrap(), 0);
    registry.store.retire_channel("team/main", granary_crds::DeletionPolicy::Retain).await.unwrap();
    assert_eq!(registry.store.channel_stats().await.unwrap().len(), 1, "of channels that are served");
}
