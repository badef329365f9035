//! How long the pure parts take: `cargo bench --bench pure`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    missing_docs,
    reason = "a measuring program: it stands outside the relay"
)]

mod parts;

use criterion::{Criterion, criterion_group, criterion_main};

fn pure(criterion: &mut Criterion) {
    for mut part in parts::all() {
        part.warm();
        criterion.bench_function(part.name, |bencher| bencher.iter(|| part.measured()));
    }
}

criterion_group!(benches, pure);
criterion_main!(benches);
