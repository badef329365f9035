//! Tests of the embedded spool alone; what both spools promise is in `conformance`.

mod savepoints;
