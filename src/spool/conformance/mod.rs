//! What every spool promises, sentence by sentence, asked of the embedded one and of the one in memory.

mod attempts;
mod copies;
mod merging;
mod news;
mod operators;
mod pauses;
mod preparing;
mod returning;
mod routes;

/// Makes a test of each sentence for each spool.
macro_rules! both {
    ($($sentence:ident)*) => {
        mod embedded {
            $(#[tokio::test]
            async fn $sentence() {
                super::$sentence($crate::spool::fixtures::World::embedded()).await;
            })*
        }
        mod memory {
            $(#[tokio::test]
            async fn $sentence() {
                super::$sentence($crate::spool::fixtures::World::in_memory()).await;
            })*
        }
    };
}
use both;
